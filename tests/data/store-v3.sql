-- Rows for tests/data/store-v3.db: what schema 3 added to the rows of store-v2.sql. Made once,
-- never again, with
--   cd tests/data; (cat ../../sql/migrations/0001_core.sql; grep -v '^VACUUM' store-v1.sql;
--     cat ../../sql/migrations/0002_tasks.sql; grep -v '^VACUUM' store-v2.sql;
--     cat ../../sql/migrations/0003_requests.sql store-v3.sql) | sqlite3 store-v3.db

INSERT INTO requests VALUES
    ('family', 'id:1771499000000-000001-7', '{"data":{"id":"k3v9x2aa"},"ok":true}', 1771499000000),
    ('main', 'file:1771499000000-abc.json', NULL, 1771499000000);
UPDATE runs SET turn_outbox_id = 2 WHERE id = 3;
INSERT INTO messages_fts (rowid, chat, text)
SELECT seq, 'c' || hex(chat_jid), text FROM messages WHERE seq <= 2;
INSERT INTO state VALUES ('searchable_seq', '2');
PRAGMA user_version = 3;
VACUUM;
