INSERT INTO tasks (id, folder, chat_jid, state, next_run_ms, schedule_kind, schedule_value,
                   timezone, context_mode, created_by, created_at_ms, changed_at_ms, prompt, script)
VALUES (:id, :folder, :chat, 'active', :next_run, :schedule_kind, :schedule_value, :timezone,
        :context_mode, :created_by, :now, :now, :prompt, :script);
