-- The head of each chat's queue, where it is due: what stands behind it waits for it. What is due
-- later than any pause lasts was put off by a clock that has been set back since.
SELECT * FROM outbox
WHERE id IN (SELECT min(id) FROM outbox
             WHERE state = 'pending' AND channel = :channel GROUP BY jid)
  AND next_attempt_at_ms NOT BETWEEN :now + 1 AND :now + :pause_max
ORDER BY id
LIMIT :count_max;
