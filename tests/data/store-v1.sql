-- Rows for tests/data/store-v1.db: a database as a program of schema 1 left it, in mid-run. Made
-- once, never again, with
--   cd tests/data; cat ../../sql/migrations/0001_core.sql store-v1.sql | sqlite3 store-v1.db

INSERT INTO chats VALUES ('local:main', 'Main', 0, NULL),
                         ('local:family', 'Family', 0, NULL),
                         ('120363000000000001@g.us', 'Family', 1, 1771500000000),
                         ('4915100000001@s.whatsapp.net', NULL, 0, 1771500100000);
INSERT INTO groups VALUES ('main', 'Main', NULL, 0, 1, '{}', 1771490000000);
INSERT INTO groups VALUES ('family', 'Family', 'José', 1, 0,
                           '{"timeout":60000,"memory":"512m","network":"model-only"}', 1771491000000);
INSERT INTO group_chats VALUES ('local:main', 'main', 0, 1771490000000),
                               ('local:family', 'family', 0, 1771491000000),
                               ('120363000000000001@g.us', 'family', 2, 1771491000000);
INSERT INTO messages
    (chat_jid, id, wakes, is_from_assistant, sent_at_ms, received_at_ms, sender, sender_name, text)
VALUES
    ('120363000000000001@g.us', 'A1', 0, 0, 1771499000000, 1771499000100, '4915100000001@s.whatsapp.net', 'Ana', 'dinner at eight?'),
    ('120363000000000001@g.us', 'A2', 1, 0, 1771499001000, 1771499001100, '4915100000002@s.whatsapp.net', 'Bo', '@José remind us'),
    ('120363000000000001@g.us', '3EB00123456789ABCDEF01', 0, 1, 1771499009000, 1771499009100, '4915100000003@s.whatsapp.net', 'José', 'I will.'),
    ('120363000000000001@g.us', 'A3', 1, 0, 1771500000000, 1771500000100, '4915100000001@s.whatsapp.net', 'Ana', '@José 谢谢 🙂');
INSERT INTO sessions VALUES ('family', '5f1b7c52-8c6e-4d0a-9d3e-000000000001', 1771499009000);
INSERT INTO runs (folder, kind, chat_jid, task_id, container_name, state, first_seq, last_seq,
                  turn_count, input_tokens, output_tokens, cost_micro_usd, error, started_at_ms,
                  changed_at_ms, ended_at_ms)
VALUES
    ('family', 'chat', '120363000000000001@g.us', NULL, 'rust-claw-family-1', 'succeeded', 1, 2, 1, 900, 40, 3300, NULL, 1771499002000, 1771499009000, 1771499009000),
    ('main', 'task', 'local:main', 'task-1', 'rust-claw-main-2', 'failed', NULL, NULL, 0, 0, 0, 0, 'rate limit', 1771499500000, 1771499510000, 1771499510000),
    ('family', 'chat', '120363000000000001@g.us', NULL, 'rust-claw-family-3', 'busy', NULL, NULL, 0, 0, 0, 0, NULL, 1771500000200, 1771500000200, NULL);
INSERT INTO outbox (jid, channel, kind, text, dedupe_key, run_id, answers_seq, state, attempt_count,
                    next_attempt_at_ms, channel_message_id, error, created_at_ms, sent_at_ms)
VALUES
    ('120363000000000001@g.us', 'whatsapp', 'answer', 'José: I will.', 'run-1-1', 1, 2, 'sent', 0, 1771499009000, '3EB00123456789ABCDEF01', NULL, 1771499009000, 1771499009500),
    ('local:main', 'local', 'notice', 'The task failed: rate limit', 'task-1-2', 2, 0, 'pending', 1, 1771499512000, '3EB00123456789ABCDEF02', 'nobody listens', 1771499510000, NULL),
    ('120363000000000009@g.us', 'whatsapp', 'tool', 'gone', 'tool-1', NULL, NULL, 'failed', 3, 1771499512000, '3EB00123456789ABCDEF03', 'no such chat', 1771499510000, NULL);
INSERT INTO dead_letters (folder, chat_jid, first_seq, last_seq, attempt_count, error, state, created_at_ms)
VALUES ('family', '120363000000000001@g.us', 1, 2, 6, 'overloaded', 'retried', 1771499001500),
       ('family', 'local:family', 1, 2, 6, 'overloaded', 'open', 1771499001500);
INSERT INTO state VALUES ('whatsapp.paired', '1');
PRAGMA user_version = 1;
PRAGMA page_size = 512;
VACUUM;
