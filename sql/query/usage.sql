SELECT
    CASE :by WHEN 'group' THEN folder WHEN 'task' THEN task_id ELSE '' END AS key,
    CASE :by WHEN 'task' THEN folder ELSE '' END AS folder,
    -- Whoever asks by day folds these into days: every zone's days begin at a quarter of an hour.
    CASE :by WHEN 'day' THEN started_at_ms / 900000 ELSE 0 END AS quarter,
    count(*) AS runs,
    sum(turn_count) AS turns,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cache_read_tokens) AS cache_read_tokens,
    sum(cache_write_tokens) AS cache_write_tokens,
    sum(cost_micro_usd) AS cost_micro_usd
FROM runs
WHERE started_at_ms >= :since AND (:by <> 'task' OR kind = 'task')
GROUP BY 1, 2, 3
ORDER BY 3, 2, 1;
