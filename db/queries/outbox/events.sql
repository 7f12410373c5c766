-- InsertEvents stores one row per transition. A second event for a version of an aggregate is a unique
-- violation. Where nothing is traced there is no array of traces, and it is filled up with nulls.
-- name: InsertEvents :exec
INSERT INTO events (tenant_id, aggregate_id, seq, type, from_state, to_state, reason, actor, cause, trace,
                    data, at)
SELECT u.tenant_id, u.aggregate_id, u.seq, u.type, nullif(u.from_state, ''), u.to_state, nullif(u.reason, ''),
       u.actor, nullif(u.cause, ''), nullif(u.trace, ''), u.data, @now::timestamptz
  FROM (SELECT unnest(@tenants::uuid[]) AS tenant_id, unnest(@aggregates::uuid[]) AS aggregate_id,
               unnest(@seqs::integer[]) AS seq, unnest(@types::text[]) AS type,
               unnest(@from_states::text[]) AS from_state, unnest(@to_states::text[]) AS to_state,
               unnest(@reasons::text[]) AS reason, unnest(@actors::text[]) AS actor,
               unnest(@causes::text[]) AS cause, unnest(@traces::text[]) AS trace,
               unnest(@data::json[]) AS data) AS u;

-- ListEvents reads the events of one aggregate in their order.
-- name: ListEvents :many
SELECT seq, type, from_state, to_state, reason, actor, cause, trace, data, at
  FROM events
 WHERE tenant_id = @tenant_id AND aggregate_id = @aggregate_id AND seq > @after
 ORDER BY seq
 LIMIT @page_size;
