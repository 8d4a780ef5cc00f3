-- Active tasks whose time has come, longest overdue first, and the zones of their groups.
SELECT t.id, t.folder, t.chat_jid, t.schedule_kind, t.schedule_value, t.timezone, t.next_run_ms,
       g.folder IS NOT NULL AS has_group, g.container_config
FROM tasks t INDEXED BY tasks_due
LEFT JOIN groups g USING (folder)
WHERE t.state = 'active' AND t.next_run_ms <= :now
ORDER BY t.next_run_ms
LIMIT :count_max;
