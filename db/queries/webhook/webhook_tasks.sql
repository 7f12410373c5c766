-- CountTasks counts what an endpoint still has to do of a kind. It comes after LockEndpoint in its transaction.
-- name: CountTasks :one
SELECT count(*)::integer FROM webhook_tasks t
 WHERE t.endpoint_id = @endpoint_id AND t.tenant_id = @tenant_id AND t.kind = @kind;

-- InsertTask asks for a ping, or for the events behind @done up to @last to go again.
-- name: InsertTask :exec
INSERT INTO webhook_tasks (endpoint_id, tenant_id, kind, done, last, attempts, due_at, created_at)
VALUES (@endpoint_id, @tenant_id, @kind, @done, @last, 0, @now, @now);
