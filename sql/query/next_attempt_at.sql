-- Also of what a clock has put off that was set back since.
SELECT min(CASE WHEN next_attempt_at_ms > :now + :pause_max THEN :now
                ELSE next_attempt_at_ms END)
FROM outbox
WHERE id IN (SELECT min(id) FROM outbox
             WHERE state = 'pending' AND channel = :channel GROUP BY jid);
