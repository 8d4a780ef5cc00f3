-- Only in chats that belong to a group.
SELECT m.chat_jid, gc.folder, m.sender_name, m.sent_at_ms, m.text
FROM messages_fts f
JOIN messages m ON m.seq = f.rowid
JOIN group_chats gc ON gc.jid = m.chat_jid
WHERE messages_fts MATCH :pattern
ORDER BY f.rowid DESC
LIMIT :count_max;
