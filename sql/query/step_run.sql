UPDATE runs SET
    state = :state,
    first_seq = coalesce(first_seq, :settled_from),
    last_seq = coalesce(:settled_to, last_seq),
    turn_count = turn_count + :turns,
    -- What is queued from here on is said in the next turn.
    turn_outbox_id = iif(:turns, (SELECT coalesce(max(id), 0) FROM outbox), turn_outbox_id),
    -- What a hostile runner reports again and again stays a number that sums can hold.
    input_tokens = min(input_tokens + :input_tokens, 1000000000000),
    output_tokens = min(output_tokens + :output_tokens, 1000000000000),
    cache_read_tokens = min(cache_read_tokens + :cache_read_tokens, 1000000000000),
    cache_write_tokens = min(cache_write_tokens + :cache_write_tokens, 1000000000000),
    cost_micro_usd = min(cost_micro_usd + :cost_micro_usd, 1000000000000),
    changed_at_ms = :now
WHERE id = :run AND state IN ('busy', 'idle');
