package outbox

import "example.com/holdfast/internal/invariant"

// Invariants lists what always holds about events that consumers wait for.
func Invariants() []invariant.Invariant {
	return []invariant.Invariant{
		{
			Name: "delivery_once", SQL: deliveryOnceSQL,
			Doc: "What is to be delivered is not in the consumer's inbox, and both tell of real events.",
		},
		{
			Name: "delivery_never_forgotten", SQL: deliveryForgottenSQL,
			Doc: "A delivery that has been due for more than ten seconds is named by a live job.",
		},
	}
}

const deliveryOnceSQL = `
SELECT format('event %s of %s: delivered to %s and still to be delivered', d.seq, d.aggregate_id,
              d.consumer) AS what
  FROM deliveries d
  JOIN inbox i ON i.consumer = d.consumer AND i.tenant_id = d.tenant_id
   AND i.aggregate_id = d.aggregate_id AND i.seq = d.seq
UNION ALL
SELECT format('event %s of %s: known to %s, but does not exist', k.seq, k.aggregate_id, k.consumer)
  FROM (SELECT consumer, tenant_id, aggregate_id, seq FROM deliveries
        UNION ALL
        SELECT consumer, tenant_id, aggregate_id, seq FROM inbox) k
  LEFT JOIN events e ON e.tenant_id = k.tenant_id AND e.aggregate_id = k.aggregate_id AND e.seq = k.seq
 WHERE e.seq IS NULL`

const deliveryForgottenSQL = `
SELECT format('event %s of %s: due to %s since %s, and no job names it', d.seq, d.aggregate_id, d.consumer,
              d.wake_at) AS what
  FROM deliveries d
 WHERE d.wake_at < now() - interval '10 seconds'
   AND NOT EXISTS (
        SELECT FROM river_job j
         CROSS JOIN LATERAL jsonb_array_elements(j.args -> 'deliveries') AS named (it)
         WHERE j.state IN ('available', 'running', 'retryable', 'scheduled', 'pending')
           AND named.it ->> 'aggregate' = d.aggregate_id::text AND (named.it ->> 'seq')::integer = d.seq
           AND named.it ->> 'tenant' = d.tenant_id::text)`
