-- A slot that was claimed and never began is the task's next one again.
UPDATE tasks SET next_run_ms = tr.planned_for_ms
FROM task_runs tr
WHERE tr.id = ? AND tr.status = 'running' AND tr.run_id IS NULL AND tr.asked_by = 'schedule'
  AND tasks.id = tr.task_id AND tasks.state = 'active';
