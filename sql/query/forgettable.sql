-- Settled messages that came in before :until and that no open dead letter speaks of: a person may
-- still have that answered.
SELECT m.seq FROM messages m
LEFT JOIN group_chats gc ON gc.jid = m.chat_jid
WHERE m.received_at_ms < :until
  AND m.seq <= coalesce(gc.cursor_seq, m.seq)
  AND NOT EXISTS (SELECT 1 FROM dead_letters d
                  WHERE d.state = 'open' AND d.chat_jid = m.chat_jid AND d.first_seq <= m.seq)
ORDER BY m.seq
LIMIT :count_max;
