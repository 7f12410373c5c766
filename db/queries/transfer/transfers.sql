-- InsertTransfers stores accepted transfers with their first wake-up.
-- name: InsertTransfers :exec
INSERT INTO transfers (tenant_id, id, from_account, to_account, amount, currency, state, version,
                       client_reference, metadata, reverses, payout, lane, wake_at, promise_at,
                       created_at, updated_at)
SELECT u.tenant_id, u.id, u.from_account, u.to_account, u.amount, u.currency, 'accepted', 1,
       nullif(u.client_reference, ''), u.metadata,
       nullif(u.reverses, '00000000-0000-0000-0000-000000000000'), u.payout, u.lane, @now::timestamptz,
       u.promise_at, @now::timestamptz, @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id,
               unnest(@from_accounts::uuid[]) AS from_account,
               unnest(@to_accounts::uuid[]) AS to_account, unnest(@amounts::bigint[]) AS amount,
               unnest(@currencies::text[]) AS currency,
               unnest(@client_references::text[]) AS client_reference,
               unnest(@metadata::json[]) AS metadata, unnest(@reverses::uuid[]) AS reverses,
               unnest(@payouts::boolean[]) AS payout, unnest(@lanes::smallint[]) AS lane,
               unnest(@promises_at::timestamptz[]) AS promise_at) AS u;

-- ReadTransfers reads transfers by id. Under the lock of their debit balances nothing can move them.
-- name: ReadTransfers :many
SELECT t.*
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id) AS u
  JOIN transfers t ON t.tenant_id = u.tenant_id AND t.id = u.id;

-- MoveTransfers writes what was decided, if the row still is what the decision saw. A row that is not
-- stops the whole transaction: the batch is decided again on what is there then. A new state begins a new
-- step, without attempts. Arrays come without NULL: an empty text, a nil uuid and Go's zero time stand for it.
-- name: MoveTransfers :exec
WITH moved AS (
    UPDATE transfers t
       SET state = u.to_state, version = u.to_version, reason = nullif(u.reason, ''),
           risk_reference = coalesce(nullif(u.risk_reference, ''), t.risk_reference),
           rail_reference = coalesce(nullif(u.rail_reference, ''), t.rail_reference),
           attempts = 0, sent = 0, failures = 0,
           notification = u.notification, wake_at = nullif(u.wake_at, '0001-01-01 00:00:00+00'), promise_at = u.promise_at,
           updated_at = @now::timestamptz
      FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id,
                   unnest(@from_states::text[]) AS from_state,
                   unnest(@from_versions::integer[]) AS from_version,
                   unnest(@from_attempts::integer[]) AS from_attempts,
                   unnest(@to_states::text[]) AS to_state, unnest(@to_versions::integer[]) AS to_version,
                   unnest(@reasons::text[]) AS reason,
                   unnest(@risk_references::text[]) AS risk_reference,
                   unnest(@rail_references::text[]) AS rail_reference,
                   unnest(@notifications::text[]) AS notification,
                   unnest(@wakes_at::timestamptz[]) AS wake_at,
                   unnest(@promises_at::timestamptz[]) AS promise_at) AS u
     WHERE t.tenant_id = u.tenant_id AND t.id = u.id
       AND t.state = u.from_state AND t.version = u.from_version AND t.attempts = u.from_attempts
    RETURNING 1
)
SELECT assert_rows(count(*), cardinality(@ids::uuid[]), 'transfers') AS reached FROM moved;

-- AddReversed moves the reversed amount of originals: up when a reversal is accepted, down when it
-- ends without being settled. The caller holds the lock of the original's debit balance.
-- name: AddReversed :exec
WITH moved AS (
    UPDATE transfers t SET reversed = t.reversed + u.amount
      FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id,
                   unnest(@amounts::bigint[]) AS amount) AS u
     WHERE t.tenant_id = u.tenant_id AND t.id = u.id
    RETURNING 1
)
SELECT assert_rows(count(*), cardinality(@ids::uuid[]), 'originals') AS reached FROM moved;

-- NoteSteps writes what a step came to that moved nothing: another attempt at its time, or the end of a
-- notification. No state changes and no money moves, so no balance is locked; a row that is not any more
-- what the step saw stays as it is, and is missing from the result: somebody else was faster. Several notes
-- may be about one row, so the result names those that were written, by their place in the batch.
-- name: NoteSteps :many
UPDATE transfers t
   SET notification = u.notification, attempts = u.to_attempts, sent = u.sent, failures = u.failures,
       payout_try = u.payout_try, rail_reference = coalesce(nullif(u.rail_reference, ''), t.rail_reference),
       wake_at = nullif(u.wake_at, '0001-01-01 00:00:00+00')
  FROM (SELECT unnest(@places::integer[]) AS place,
               unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id,
               unnest(@versions::integer[]) AS version, unnest(@from_attempts::integer[]) AS from_attempts,
               unnest(@to_attempts::integer[]) AS to_attempts,
               unnest(@notifications::text[]) AS notification, unnest(@sents::integer[]) AS sent,
               unnest(@failures::integer[]) AS failures, unnest(@payout_tries::smallint[]) AS payout_try,
               unnest(@rail_references::text[]) AS rail_reference,
               unnest(@wakes_at::timestamptz[]) AS wake_at) AS u
 WHERE t.tenant_id = u.tenant_id AND t.id = u.id
   AND t.version = u.version AND t.attempts = u.from_attempts
   AND (t.state IN ('accepted', 'in_review', 'approved', 'settling') OR t.notification = 'pending')
RETURNING u.place::integer AS place;

-- WakeSettling wakes a payout that waits for its next look at the rail, which has called back about the
-- reference in use. It counts as sent, whatever we have written down: who calls back has heard of it. One that is due is left to whoever
-- has it.
-- name: WakeSettling :many
UPDATE transfers t
   SET wake_at = statement_timestamp(), sent = greatest(t.sent, 1)
 WHERE t.tenant_id = @tenant_id AND t.id = @id AND t.state = 'settling'
   AND t.payout_try = @payout_try AND t.wake_at > statement_timestamp()
RETURNING t.*;

-- FindReferences says which client references are taken.
-- name: FindReferences :many
SELECT t.tenant_id, t.client_reference
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id,
               unnest(@client_references::text[]) AS client_reference) AS u
  JOIN transfers t ON t.tenant_id = u.tenant_id AND t.client_reference = u.client_reference;

-- GetTransfer reads one transfer of a tenant.
-- name: GetTransfer :one
SELECT t.*
  FROM transfers t
 WHERE t.tenant_id = @tenant_id AND t.id = @id;

-- ReadFacts reads what never changes of transfers. No query writes these columns but InsertTransfers.
-- name: ReadFacts :many
SELECT t.id, t.from_account, t.to_account, t.amount, t.currency, t.client_reference, t.metadata, t.reverses,
       t.created_at
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@ids::uuid[]) AS id) AS u
  JOIN transfers t ON t.tenant_id = u.tenant_id AND t.id = u.id;

-- GetByReference reads one transfer of a tenant by the client's own reference.
-- name: GetByReference :one
SELECT t.*
  FROM transfers t
 WHERE t.tenant_id = @tenant_id AND t.client_reference = @client_reference;

-- ListTransfers pages back through a tenant's transfers by id, newest first, down to the id at which the
-- page stops looking (see LastLookedAt). So a page may be short, or empty, and still have a next one: a
-- filter that matches nothing costs no more than one that matches all.
-- name: ListTransfers :many
SELECT t.* FROM transfers t
 WHERE t.tenant_id = @tenant_id AND t.id < @before AND t.id >= @last_looked_at
   AND (sqlc.narg('state')::text IS NULL OR t.state = sqlc.narg('state'))
   AND (sqlc.narg('account')::uuid IS NULL OR sqlc.narg('account') IN (t.from_account, t.to_account))
   AND (sqlc.narg('created_from')::timestamptz IS NULL OR t.created_at >= sqlc.narg('created_from'))
   AND (sqlc.narg('created_to')::timestamptz IS NULL OR t.created_at < sqlc.narg('created_to'))
 ORDER BY t.id DESC
 LIMIT @page_size;

-- LastLookedAt is the id of the last row that a page of ListTransfers looked at; no row if the page
-- looked at all there are.
-- name: LastLookedAt :one
SELECT t.id FROM transfers t
 WHERE t.tenant_id = @tenant_id AND t.id < @before
 ORDER BY t.id DESC
OFFSET @last_offset LIMIT 1;

-- SystemReviews reads what waits for an operator. The index on wake_at bounds it to open rows.
-- name: SystemReviews :many
-- @sqlc-vet-disable no-sequential-scan
SELECT t.* FROM transfers t
 WHERE t.wake_at IS NOT NULL AND t.state = 'in_review'
 ORDER BY t.wake_at
 LIMIT @page_size;

-- SystemWakeForgotten claims rows of one queue that were due before the horizon and have no live job,
-- and moves their wake-up to one common time, so that they share jobs; the same transaction enqueues
-- them. The rows of a queue are told by what has to be done next: screen what is accepted, settle or
-- expire what is approved or in review, ask the rail about what is settling, notify what has ended. A
-- forgotten row counts an attempt and a call: its worker may have died after it, so the next one asks before
-- it sends, and who comes back is stale. Of a payout no call is counted: it is claimed in its row before it is
-- sent, and what was never sent must not be withdrawn.
-- name: SystemWakeForgotten :many
UPDATE transfers t
   SET wake_at = statement_timestamp(), attempts = t.attempts + 1,
       sent = t.sent + (t.state <> 'settling')::integer
  FROM (SELECT f.tenant_id, f.id FROM transfers f
         WHERE f.wake_at < @horizon::timestamptz AND f.state = ANY (@states::text[])
         ORDER BY f.wake_at
         LIMIT @batch_size
           FOR NO KEY UPDATE SKIP LOCKED) lost
 WHERE t.tenant_id = lost.tenant_id AND t.id = lost.id
RETURNING t.*;

-- SystemDeadLetters reads what was given up, the latest first. The partial index holds nothing else.
-- name: SystemDeadLetters :many
SELECT t.* FROM transfers t
 WHERE (t.notification = 'failed' OR t.failures >= 5 OR t.reason IN ('poison', 'attempts_exhausted'))
 ORDER BY t.updated_at DESC
 LIMIT @page_size;

-- SystemTransitions reads the second copy of the table of legal moves.
-- name: SystemTransitions :many
-- @sqlc-vet-disable no-sequential-scan
SELECT from_state, event, to_state FROM transfer_transitions ORDER BY from_state, event;

-- SystemPromises says how long ago the most urgent promise was given that we can keep by working, zero without
-- one, and how many open ones are past theirs, up to a bound. A review waits for a person: it is late by its own
-- promise, but never the most urgent, and what an operator took does not count when it goes on. Each state is a
-- probe of the index of open promises.
-- name: SystemPromises :one
SELECT coalesce((
       SELECT greatest(0, least(extract(epoch FROM clock_timestamp() - urgent.created_at),
                                extract(epoch FROM clock_timestamp() - urgent.promise_at
                                                   + @promise_window::interval)))
         FROM (SELECT first.promise_at, first.created_at
                 FROM unnest('{accepted,approved,settling}'::text[]) AS s (state)
                CROSS JOIN LATERAL (
                      SELECT t.promise_at, t.created_at FROM transfers t
                       WHERE t.state = s.state AND t.state IN ('accepted', 'in_review', 'approved', 'settling')
                       ORDER BY t.promise_at LIMIT 1) AS first
                ORDER BY first.promise_at LIMIT 1) AS urgent), 0)::float8 AS age_seconds,
       (SELECT count(*)
          FROM (SELECT 1
                  FROM unnest('{accepted,in_review,approved,settling}'::text[]) AS s (state)
                 CROSS JOIN LATERAL (
                       SELECT 1 FROM transfers t
                        WHERE t.state = s.state AND t.promise_at < statement_timestamp()
                          AND t.state IN ('accepted', 'in_review', 'approved', 'settling')
                        ORDER BY t.promise_at LIMIT @overdue_max) AS each
                 LIMIT @overdue_max) AS late)::integer AS overdue;

-- SystemOpenByTenant counts for each tenant, the busiest first, the transfers that wait for us: of each state
-- the most urgent ones, up to a bound.
-- name: SystemOpenByTenant :many
SELECT open.tenant_id, count(*)::integer AS transfers
  FROM unnest('{accepted,approved,settling}'::text[]) AS s (state)
 CROSS JOIN LATERAL (
       SELECT t.tenant_id FROM transfers t
        WHERE t.state = s.state AND t.state IN ('accepted', 'in_review', 'approved', 'settling')
        ORDER BY t.promise_at LIMIT @look_max) AS open
 GROUP BY open.tenant_id
 ORDER BY transfers DESC, open.tenant_id
 LIMIT @page_size;
