-- Rows for tests/data/store-v2.db: what schema 2 added to the rows of store-v1.sql. Made once,
-- never again, with
--   cd tests/data; (cat ../../sql/migrations/0001_core.sql; grep -v '^VACUUM' store-v1.sql;
--     cat ../../sql/migrations/0002_tasks.sql store-v2.sql) | sqlite3 store-v2.db

INSERT INTO tasks (id, folder, chat_jid, state, next_run_ms, pause_reason, failure_count,
                   schedule_kind, schedule_value, timezone, context_mode, created_by,
                   created_at_ms, changed_at_ms, prompt, script)
VALUES
    ('k3v9x2aa', 'family', '120363000000000001@g.us', 'active', 1771570800000, NULL, 1, 'cron', '0 8 * * *', 'Europe/Berlin', 'group', 'family', 1771490000000, 1771490000000, 'Good morning 🙂', 'echo ''{"wakeAgent":true}'''),
    ('m7q2c4ee', 'main', 'local:main', 'paused', 1771500600000, 'it failed 8 times in a row', 8, 'interval', '10m', NULL, 'isolated', 'cli', 1771490000000, 1771490000000, 'look', NULL),
    ('p5t8w6gg', 'main', 'local:main', 'completed', NULL, NULL, 0, 'once', '2026-02-19T09:00', NULL, 'isolated', 'cli', 1771490000000, 1771490000000, 'once', NULL);
INSERT INTO task_runs (task_id, run_id, asked_by, planned_for_ms, claimed_at_ms, ended_at_ms,
                       status, result, error)
VALUES
    ('m7q2c4ee', 2, 'schedule', 1771499500000, 1771499500005, 1771499510000, 'failed', NULL, 'rate limit'),
    ('p5t8w6gg', NULL, 'hand', 1771499500000, 1771499500005, 1771499510000, 'withdrawn', NULL, 'the task was paused'),
    ('k3v9x2aa', NULL, 'schedule', 1771484400000, 1771484400005, NULL, 'running', NULL, NULL);
PRAGMA user_version = 2;
VACUUM;
