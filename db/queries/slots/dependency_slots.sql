-- SystemRenew is one round of one holder: it says that the holder lives, renews the slots that it keeps,
-- takes free ones up to its fair share and gives the rest back. now() is when the statement arrived, so a
-- lease ends later by Postgres's clock than a holder that counts from before it asked.
--
-- Invariant: the holder keeps at least as many slots as @in_use while it has them, also those above the
-- limit: nobody else may use what it may still be using.
-- Invariant: no slot is taken that was not free or expired when its row was locked. Locked rows are
-- skipped, so that rounds never wait for each other: after an outage all take from all.
-- No row comes back if a later round of this holder was there before, or if there is no limit.
-- name: SystemRenew :one
WITH this AS (
    INSERT INTO dependency_members AS m (dependency, holder, round, expires_at)
    VALUES (@dependency, @holder, @round, now() + @lifetime::interval)
    ON CONFLICT (dependency, holder) DO UPDATE SET round = excluded.round, expires_at = excluded.expires_at
     WHERE m.round < excluded.round
    RETURNING m.round
), in_force AS (
    SELECT l.version, l.places FROM dependency_limits l, this
     WHERE l.dependency = @dependency ORDER BY l.version DESC LIMIT 1
), others AS (
    SELECT count(*)::integer AS members, (count(*) FILTER (WHERE m.holder < @holder))::integer AS before
      FROM dependency_members m
     WHERE m.dependency = @dependency AND m.holder <> @holder AND m.expires_at > now()
), share AS (
    SELECT f.version, f.places, o.members + 1 AS members,
           f.places / (o.members + 1) + (o.before < f.places % (o.members + 1))::integer AS fair
      FROM in_force f, others o
), mine AS (
    SELECT s.slot FROM dependency_slots s, share
     WHERE s.dependency = @dependency AND s.holder = @holder
       FOR UPDATE OF s SKIP LOCKED
), kept AS (
    SELECT ranked.slot
      FROM (SELECT mine.slot, row_number() OVER (ORDER BY mine.slot) AS nth FROM mine) AS ranked, share
     WHERE ranked.nth <= @in_use::integer OR (ranked.nth <= share.fair AND ranked.slot < share.places)
), taken AS (
    SELECT s.slot FROM dependency_slots s, share
     WHERE s.dependency = @dependency AND s.slot < share.places
       AND (s.holder IS NULL OR (s.holder <> @holder AND s.expires_at <= now()))
     ORDER BY s.slot
     LIMIT (SELECT greatest(0, share.fair - count(kept.slot))
              FROM share LEFT JOIN kept ON kept.slot < share.places GROUP BY share.fair)
       FOR UPDATE OF s SKIP LOCKED
), held AS (
    UPDATE dependency_slots s SET holder = @holder, expires_at = now() + @lifetime::interval
      FROM (SELECT kept.slot FROM kept UNION ALL SELECT taken.slot FROM taken) AS wanted
     WHERE s.dependency = @dependency AND s.slot = wanted.slot
    RETURNING s.slot
), given_back AS (
    UPDATE dependency_slots s SET holder = NULL, expires_at = NULL
      FROM (SELECT mine.slot FROM mine EXCEPT SELECT kept.slot FROM kept) AS spare
     WHERE s.dependency = @dependency AND s.slot = spare.slot
)
SELECT share.version, share.places, share.members::integer AS members, share.fair::integer AS fair,
       (SELECT count(*) FROM held)::integer AS held,
       (SELECT count(*) FROM held WHERE held.slot < share.places)::integer AS usable
  FROM share;

-- SystemLeave takes a holder off the list and gives back what it does not use; the rest expires.
-- name: SystemLeave :exec
WITH gone AS (
    DELETE FROM dependency_members m WHERE m.dependency = @dependency AND m.holder = @holder
)
UPDATE dependency_slots s SET holder = NULL, expires_at = NULL
  FROM (SELECT o.slot, row_number() OVER (ORDER BY o.slot) AS nth FROM dependency_slots o
         WHERE o.dependency = @dependency AND o.holder = @holder) AS ranked
 WHERE s.dependency = @dependency AND s.slot = ranked.slot AND s.holder = @holder
   AND ranked.nth > @in_use::integer;

-- SystemForgetMembers removes the processes that have long been gone.
-- name: SystemForgetMembers :exec
DELETE FROM dependency_members m WHERE m.dependency = @dependency AND m.expires_at < now() - @gone::interval;

-- SystemHoldings tells who holds how many slots of a dependency now, the members without any included.
-- name: SystemHoldings :many
SELECT live.holder::text AS holder, count(live.slot)::integer AS slots
  FROM (SELECT m.holder, NULL::integer AS slot FROM dependency_members m
         WHERE m.dependency = @dependency AND m.expires_at > now()
        UNION ALL
        SELECT s.holder, s.slot FROM dependency_slots s
         WHERE s.dependency = @dependency AND s.expires_at > now()) AS live
 GROUP BY live.holder ORDER BY live.holder;
