-- Messages in order of arrival from one sequence number on; `folder` where one asks for an answer.
SELECT m.seq, m.chat_jid, gc.folder
FROM messages m
LEFT JOIN group_chats gc ON m.wakes = 1 AND gc.jid = m.chat_jid AND gc.cursor_seq < m.seq
WHERE m.seq > :seen
ORDER BY m.seq
LIMIT :count_max;
