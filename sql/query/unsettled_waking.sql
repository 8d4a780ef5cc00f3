-- The newest messages of one chat between two sequence numbers that ask for an answer, newest first.
SELECT seq, id, wakes, sent_at_ms, sender, sender_name, text
FROM messages INDEXED BY messages_waking
WHERE chat_jid = :chat AND wakes = 1 AND seq > :floor AND seq < :below
ORDER BY seq DESC
LIMIT :count_max;
