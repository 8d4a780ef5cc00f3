-- Messages in, runs, answers out. Times are Unix milliseconds. Booleans are 0 or 1.

CREATE TABLE chats (
    jid                TEXT PRIMARY KEY CHECK (length(jid) BETWEEN 1 AND 255),
    name               TEXT,
    is_group           INTEGER NOT NULL DEFAULT 0 CHECK (is_group IN (0, 1)),
    last_message_at_ms INTEGER
) STRICT;

-- `seq` is the order of arrival and the only cursor; clocks are not. `wakes`: decided on arrival,
-- whether this message asks for an answer. `text` is last, so that reading the others never walks
-- the pages of a long one. The indexes carry `seq` too, as every index of a table with a row id.
CREATE TABLE messages (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    chat_jid          TEXT    NOT NULL REFERENCES chats (jid),
    id                TEXT    NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    wakes             INTEGER NOT NULL CHECK (wakes IN (0, 1)),
    is_from_assistant INTEGER NOT NULL CHECK (is_from_assistant IN (0, 1)),
    sent_at_ms        INTEGER NOT NULL,
    received_at_ms    INTEGER NOT NULL,
    sender            TEXT    NOT NULL,
    sender_name       TEXT    NOT NULL,
    text              TEXT    NOT NULL,
    UNIQUE (chat_jid, id),
    CHECK (wakes + is_from_assistant < 2)
) STRICT;
CREATE INDEX messages_by_chat ON messages (chat_jid) WHERE is_from_assistant = 0;
CREATE INDEX messages_waking ON messages (chat_jid) WHERE wakes = 1;

CREATE TABLE groups (
    folder           TEXT PRIMARY KEY CHECK (length(folder) BETWEEN 1 AND 64),
    name             TEXT    NOT NULL,
    trigger_name     TEXT,              -- without the @; NULL: the assistant's name
    requires_trigger INTEGER NOT NULL CHECK (requires_trigger IN (0, 1)),
    is_main          INTEGER NOT NULL CHECK (is_main IN (0, 1)),
    container_config TEXT    NOT NULL DEFAULT '{}' 
                     CHECK (json_valid(container_config) AND json_type(container_config) = 'object'),
    added_at_ms      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX groups_one_main ON groups (is_main) WHERE is_main = 1;
-- On a file system that ignores case `Main` is the folder of `main`.
CREATE UNIQUE INDEX groups_by_folder ON groups (folder COLLATE NOCASE);

-- All messages of a chat up to `cursor_seq` are settled; nothing else says so.
CREATE TABLE group_chats (
    jid         TEXT PRIMARY KEY REFERENCES chats (jid),
    folder      TEXT    NOT NULL REFERENCES groups (folder) ON DELETE CASCADE,
    cursor_seq  INTEGER NOT NULL DEFAULT 0 CHECK (cursor_seq >= 0),
    added_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX group_chats_by_folder ON group_chats (folder);

CREATE TABLE sessions (
    folder        TEXT PRIMARY KEY REFERENCES groups (folder) ON DELETE CASCADE,
    session_id    TEXT    NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT;

-- One row per life of a sandbox.
CREATE TABLE runs (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    folder             TEXT    NOT NULL,
    kind               TEXT    NOT NULL CHECK (kind IN ('chat', 'task')),
    chat_jid           TEXT    NOT NULL,
    task_id            TEXT,
    container_name     TEXT    NOT NULL,
    state              TEXT    NOT NULL CHECK (state IN ('busy', 'idle', 'succeeded', 'failed', 'interrupted')),
    first_seq          INTEGER,
    last_seq           INTEGER,
    turn_count         INTEGER NOT NULL DEFAULT 0,
    input_tokens       INTEGER NOT NULL DEFAULT 0,
    output_tokens      INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens  INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    cost_micro_usd     INTEGER NOT NULL DEFAULT 0,
    error              TEXT,
    started_at_ms      INTEGER NOT NULL,
    changed_at_ms      INTEGER NOT NULL,
    ended_at_ms        INTEGER,
    CHECK ((ended_at_ms IS NULL) = (state IN ('busy', 'idle'))),
    CHECK ((kind = 'task') = (task_id IS NOT NULL))
) STRICT;
CREATE INDEX runs_alive ON runs (state) WHERE state IN ('busy', 'idle');
CREATE INDEX runs_by_chat ON runs (chat_jid);
CREATE INDEX runs_by_start ON runs (started_at_ms);

-- What is to be said, in order, until it is said. `channel_message_id` is chosen before the first
-- attempt, so that the other side recognises a repeat. `answers_seq`: the cursor of the chat when
-- the row was made.
CREATE TABLE outbox (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    jid                TEXT    NOT NULL,
    channel            TEXT    NOT NULL CHECK (channel IN ('local', 'script', 'whatsapp')),
    kind               TEXT    NOT NULL CHECK (kind IN ('answer', 'tool', 'task', 'notice')),
    text               TEXT    NOT NULL,
    dedupe_key         TEXT    NOT NULL UNIQUE,
    run_id             INTEGER REFERENCES runs (id),
    answers_seq        INTEGER,
    state              TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'failed')),
    attempt_count      INTEGER NOT NULL DEFAULT 0 CHECK (attempt_count >= 0),
    next_attempt_at_ms INTEGER NOT NULL,
    channel_message_id TEXT    NOT NULL,
    error              TEXT,
    created_at_ms      INTEGER NOT NULL,
    sent_at_ms         INTEGER,
    CHECK ((state = 'sent') = (sent_at_ms IS NOT NULL))
) STRICT;
CREATE INDEX outbox_pending ON outbox (channel, jid) WHERE state = 'pending';
CREATE INDEX outbox_by_chat ON outbox (jid);
CREATE INDEX outbox_by_message ON outbox (channel_message_id);

-- What was given up after the last retry, until a person retries or drops it.
CREATE TABLE dead_letters (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    folder        TEXT    NOT NULL,
    chat_jid      TEXT    NOT NULL,
    first_seq     INTEGER NOT NULL,
    last_seq      INTEGER NOT NULL,
    attempt_count INTEGER NOT NULL,
    error         TEXT    NOT NULL,
    state         TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'retried', 'dropped')),
    created_at_ms INTEGER NOT NULL,
    CHECK (first_seq <= last_seq)
) STRICT;
CREATE INDEX dead_letters_open ON dead_letters (id) WHERE state = 'open';

CREATE TABLE state (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
