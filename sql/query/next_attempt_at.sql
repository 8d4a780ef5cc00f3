SELECT min(next_attempt_at_ms) FROM outbox
WHERE id IN (SELECT min(id) FROM outbox
             WHERE state = 'pending' AND channel = :channel GROUP BY jid);
