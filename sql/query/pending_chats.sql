-- Chats with a waking message past their cursor, longest waiting first: one look into the index
-- `messages_waking` per chat, however many messages there are.
SELECT folder, jid FROM (
    SELECT gc.folder, gc.jid,
           (SELECT min(m.seq) FROM messages m INDEXED BY messages_waking
            WHERE m.chat_jid = gc.jid AND m.wakes = 1 AND m.seq > gc.cursor_seq) AS waiting_seq
    FROM group_chats gc)
WHERE waiting_seq IS NOT NULL
ORDER BY waiting_seq;
