-- Nothing where an earlier run of the task lives.
INSERT INTO task_runs (task_id, asked_by, planned_for_ms, claimed_at_ms, status)
VALUES (:task, :asked_by, :planned_for, :now, 'running')
ON CONFLICT (task_id) WHERE status = 'running' DO NOTHING;
