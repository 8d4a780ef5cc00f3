-- What the end of a run means for its task. One without a further slot is completed; one that
-- fails again and again is paused.
UPDATE tasks SET
    failure_count = :failure_count,
    state = CASE
        WHEN state <> 'active' THEN state
        WHEN next_run_ms IS NULL THEN 'completed'
        WHEN :failure_count >= :failures_max THEN 'paused'
        ELSE state END,
    pause_reason = CASE
        WHEN state = 'active' AND next_run_ms IS NOT NULL AND :failure_count >= :failures_max
        THEN :pause_reason
        ELSE pause_reason END
WHERE id = :task;
