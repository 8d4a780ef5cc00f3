-- The head of each chat's queue, where it is due: what stands behind it waits for it.
SELECT * FROM outbox
WHERE id IN (SELECT min(id) FROM outbox
             WHERE state = 'pending' AND channel = :channel GROUP BY jid)
  AND next_attempt_at_ms <= :now
ORDER BY id
LIMIT :count_max;
