INSERT INTO messages_fts (rowid, chat, text)
SELECT seq, 'c' || hex(chat_jid), text FROM messages
WHERE seq > coalesce((SELECT CAST(value AS INTEGER) FROM state WHERE key = :key), 0)
ORDER BY seq LIMIT :count_max;
