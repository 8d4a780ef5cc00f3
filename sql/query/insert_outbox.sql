-- A key that is there already means: said already.
INSERT INTO outbox (jid, channel, kind, text, dedupe_key, run_id, answers_seq, next_attempt_at_ms,
                    channel_message_id, created_at_ms)
VALUES (:jid, :channel, :kind, :text, :dedupe_key, :run,
        (SELECT cursor_seq FROM group_chats WHERE jid = :jid), :now, :channel_message_id, :now)
ON CONFLICT (dedupe_key) DO NOTHING;
