-- CountTasks counts what an endpoint still has to do of a kind. It comes after LockEndpoint in its transaction.
-- name: CountTasks :one
SELECT count(*)::integer FROM webhook_tasks t
 WHERE t.endpoint_id = @endpoint_id AND t.tenant_id = @tenant_id AND t.kind = @kind;

-- InsertTask asks for a ping, or for the events behind @done up to @last to go again.
-- name: InsertTask :exec
INSERT INTO webhook_tasks (endpoint_id, tenant_id, kind, done, last, attempts, due_at, created_at)
VALUES (@endpoint_id, @tenant_id, @kind, @done, @last, 0, @now, @now);

-- DueTasks reads what an endpoint has to do now, the oldest first.
-- name: DueTasks :many
SELECT t.id, t.kind, t.done, t.last, t.attempts, t.created_at FROM webhook_tasks t
 WHERE t.endpoint_id = @endpoint_id AND t.tenant_id = @tenant_id AND t.due_at <= now()
 ORDER BY t.id LIMIT @page_size;

-- AdvanceTask says how far a task is, and when it goes on.
-- name: AdvanceTask :exec
UPDATE webhook_tasks t SET done = @done, attempts = @attempts, due_at = @due_at
 WHERE t.id = @id AND t.endpoint_id = @endpoint_id AND t.tenant_id = @tenant_id;

-- DeleteTask ends a task.
-- name: DeleteTask :exec
DELETE FROM webhook_tasks t WHERE t.id = @id AND t.endpoint_id = @endpoint_id AND t.tenant_id = @tenant_id;
