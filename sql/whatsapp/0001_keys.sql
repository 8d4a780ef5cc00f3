-- All that the protocol library keeps. One table, because it asks by key only, and changes what it
-- keeps from version to version. Holds secrets: the file is for its owner alone.
CREATE TABLE entry (
    -- What it is: `session`, `pre_key`, …
    kind TEXT NOT NULL CHECK (kind <> ''),
    -- What many keys of a kind belong to: a chat, a collection. Empty for most kinds.
    scope TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    -- Unix seconds: when it was kept, or when it ends (0: never). For what is swept.
    at INTEGER NOT NULL,
    PRIMARY KEY (kind, scope, key)
) STRICT, WITHOUT ROWID;
