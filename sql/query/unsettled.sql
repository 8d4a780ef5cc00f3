-- The newest messages of one chat past a sequence number, newest first.
SELECT seq, id, wakes, sent_at_ms, sender, sender_name, text
FROM messages INDEXED BY messages_by_chat
WHERE chat_jid = :chat AND is_from_assistant = 0 AND seq > :floor
ORDER BY seq DESC
LIMIT :count_max;
