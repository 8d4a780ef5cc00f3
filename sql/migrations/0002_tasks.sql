-- Tasks, and each time one of them ran.

-- `folder` is no reference: the task of a removed group stays, paused. `next_run_ms` moves on when
-- a slot is claimed; in a paused task it keeps the place in the interval's grid. A task without a
-- further slot is active until its last run has ended.
CREATE TABLE tasks (
    id             TEXT    PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 64),
    folder         TEXT    NOT NULL,
    chat_jid       TEXT    NOT NULL,
    state          TEXT    NOT NULL CHECK (state IN ('active', 'paused', 'completed', 'cancelled')),
    next_run_ms    INTEGER CHECK (next_run_ms IS NULL OR state IN ('active', 'paused')),
    pause_reason   TEXT    CHECK (pause_reason IS NULL OR state = 'paused'),
    failure_count  INTEGER NOT NULL DEFAULT 0 CHECK (failure_count >= 0),
    schedule_kind  TEXT    NOT NULL CHECK (schedule_kind IN ('cron', 'interval', 'once')),
    schedule_value TEXT    NOT NULL,
    timezone       TEXT,                 -- NULL: the group's, else the setting
    context_mode   TEXT    NOT NULL DEFAULT 'isolated' CHECK (context_mode IN ('group', 'isolated')),
    created_by     TEXT    NOT NULL,     -- `cli`, or the folder of the group whose agent asked
    created_at_ms  INTEGER NOT NULL,
    changed_at_ms  INTEGER NOT NULL,
    prompt         TEXT    NOT NULL,
    script         TEXT
) STRICT;
CREATE INDEX tasks_due ON tasks (next_run_ms) WHERE state = 'active';
CREATE INDEX tasks_by_folder ON tasks (folder, state);

-- `running` begins with the claim; `run_id` comes when the sandbox is about to start. What that
-- took, in time, tokens and money, is in the row of `runs`.
CREATE TABLE task_runs (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id        TEXT    NOT NULL REFERENCES tasks (id),
    run_id         INTEGER REFERENCES runs (id),
    asked_by       TEXT    NOT NULL CHECK (asked_by IN ('schedule', 'hand')),
    planned_for_ms INTEGER NOT NULL,
    claimed_at_ms  INTEGER NOT NULL,
    ended_at_ms    INTEGER,
    status         TEXT    NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'skipped',
                                                      'interrupted', 'withdrawn')),
    result         TEXT,                 -- the beginning of what was said
    error          TEXT,
    CHECK ((status = 'running') = (ended_at_ms IS NULL))
) STRICT;
-- A task does not overlap itself.
CREATE UNIQUE INDEX task_runs_live ON task_runs (task_id) WHERE status = 'running';
CREATE INDEX task_runs_waiting ON task_runs (id) WHERE status = 'running' AND run_id IS NULL;
CREATE INDEX task_runs_withdrawn ON task_runs (ended_at_ms) WHERE status = 'withdrawn';
CREATE INDEX task_runs_by_task ON task_runs (task_id);
CREATE INDEX task_runs_by_run ON task_runs (run_id) WHERE run_id IS NOT NULL;
