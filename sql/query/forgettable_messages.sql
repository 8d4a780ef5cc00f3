-- The next messages, and which of them may go: settled, come in before :until, and not of what a
-- person may still have answered again.
SELECT m.seq AS id, m.received_at_ms < :until AS is_old,
       m.received_at_ms < :until
       AND m.seq <= coalesce(gc.cursor_seq, m.seq)
       AND NOT EXISTS (SELECT 1 FROM dead_letters d
                       WHERE d.state = 'open' AND d.chat_jid = m.chat_jid AND d.first_seq <= m.seq)
       AS may_go
FROM messages m
LEFT JOIN group_chats gc ON gc.jid = m.chat_jid
WHERE m.seq > :after
ORDER BY m.seq
LIMIT :count_max;
