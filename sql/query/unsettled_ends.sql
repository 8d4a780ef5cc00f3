-- The oldest and the newest unsettled message of one chat, and whether any asks for an answer:
-- three looks into an index, however many there are.
SELECT (SELECT min(seq) FROM messages INDEXED BY messages_by_chat
        WHERE chat_jid = :chat AND is_from_assistant = 0 AND seq > :cursor) AS first_seq,
       (SELECT max(seq) FROM messages INDEXED BY messages_by_chat
        WHERE chat_jid = :chat AND is_from_assistant = 0 AND seq > :cursor) AS last_seq,
       EXISTS (SELECT 1 FROM messages INDEXED BY messages_waking
               WHERE chat_jid = :chat AND wakes = 1 AND seq > :cursor) AS somebody_waits;
