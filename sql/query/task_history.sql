-- Runs of tasks, with what their sandboxes took.
SELECT tr.*, r.started_at_ms, r.input_tokens, r.output_tokens, r.cache_read_tokens,
       r.cache_write_tokens, r.cost_micro_usd
FROM task_runs tr LEFT JOIN runs r ON r.id = tr.run_id
