INSERT INTO chats (jid, name, is_group, last_message_at_ms)
VALUES (:jid, :name, :is_group, :at)
ON CONFLICT (jid) DO UPDATE SET
    name = coalesce(excluded.name, name),
    is_group = excluded.is_group,
    last_message_at_ms = max(coalesce(last_message_at_ms, excluded.last_message_at_ms),
                             excluded.last_message_at_ms);
