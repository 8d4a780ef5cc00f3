INSERT INTO messages (chat_jid, id, wakes, is_from_assistant, sent_at_ms, received_at_ms, sender,
                      sender_name, text)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (chat_jid, id) DO NOTHING;
