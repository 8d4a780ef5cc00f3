-- What agents ask for, and what is found again of what people said.

-- A request is noted before it is done and gets its response after: one that is there without a
-- response was cut short, and is not done again.
CREATE TABLE requests (
    folder   TEXT    NOT NULL,
    key      TEXT    NOT NULL CHECK (length(key) BETWEEN 1 AND 300),
    response TEXT,
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (folder, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_age ON requests (at_ms);

-- The newest row of the outbox when the turn that goes on began: what its tools said is newer.
ALTER TABLE runs ADD COLUMN turn_outbox_id INTEGER NOT NULL DEFAULT 0;
CREATE INDEX outbox_by_tool ON outbox (run_id) WHERE kind = 'tool';

-- Words of stored messages; the row id is `messages.seq`. `chat` is one word that stands for the
-- chat's address, so that a search among millions stays in its chats. Filled up to
-- `state.searchable_seq`, a little later than the messages come in.
CREATE VIRTUAL TABLE messages_fts USING fts5 (
    chat, text, content = '', tokenize = "unicode61 remove_diacritics 2"
);
