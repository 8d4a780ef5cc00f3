INSERT INTO runs (folder, kind, chat_jid, task_id, container_name, state, started_at_ms,
                  changed_at_ms, turn_outbox_id)
VALUES (:folder, :kind, :chat, :task_id, :container_name, 'busy', :now, :now,
        (SELECT coalesce(max(id), 0) FROM outbox));
