UPDATE tasks SET
    chat_jid = :chat, state = :state, next_run_ms = :next_run, schedule_kind = :schedule_kind,
    schedule_value = :schedule_value, timezone = :timezone, context_mode = :context_mode,
    changed_at_ms = :now, prompt = :prompt, script = :script
WHERE id = :id;
