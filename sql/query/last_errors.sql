-- Bounded on both sides, so that it costs the same however much is stored.
SELECT * FROM (
    SELECT 'run' AS what, id, folder AS about, error, changed_at_ms AS at_ms
    FROM (SELECT * FROM runs ORDER BY id DESC LIMIT 200)
    WHERE state = 'failed' AND error IS NOT NULL
    UNION ALL
    SELECT 'message', id, jid, error, created_at_ms
    FROM (SELECT * FROM outbox ORDER BY id DESC LIMIT 200)
    WHERE state <> 'sent' AND error IS NOT NULL)
ORDER BY at_ms DESC, id DESC
LIMIT ?;
