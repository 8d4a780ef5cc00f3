-- What is known of one chat, and its group, whose policy decides about new messages.
SELECT c.name AS chat_name, c.is_group, c.last_message_at_ms, g.*
FROM chats c
LEFT JOIN group_chats gc ON gc.jid = c.jid
LEFT JOIN groups g ON g.folder = gc.folder
WHERE c.jid = :chat;
