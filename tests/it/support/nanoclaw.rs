//! A folder as `NanoClaw` left it in February 2026, made from its documented schema.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::json;

/// The tables of the day, with what `ALTER TABLE` had added by then.
const SCHEMA: &str = "
    CREATE TABLE chats (jid TEXT PRIMARY KEY, name TEXT, last_message_time TEXT, channel TEXT,
        is_group INTEGER DEFAULT 0);
    CREATE TABLE messages (id TEXT, chat_jid TEXT, sender TEXT, sender_name TEXT, content TEXT,
        timestamp TEXT, is_from_me INTEGER, is_bot_message INTEGER DEFAULT 0,
        PRIMARY KEY (id, chat_jid), FOREIGN KEY (chat_jid) REFERENCES chats(jid));
    CREATE INDEX idx_timestamp ON messages(timestamp);
    CREATE TABLE scheduled_tasks (id TEXT PRIMARY KEY, group_folder TEXT NOT NULL,
        chat_jid TEXT NOT NULL, prompt TEXT NOT NULL, schedule_type TEXT NOT NULL,
        schedule_value TEXT NOT NULL, next_run TEXT, last_run TEXT, last_result TEXT,
        status TEXT DEFAULT 'active', created_at TEXT NOT NULL,
        context_mode TEXT DEFAULT 'isolated');
    CREATE TABLE task_run_logs (id INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL,
        run_at TEXT NOT NULL, duration_ms INTEGER NOT NULL, status TEXT NOT NULL, result TEXT,
        error TEXT, FOREIGN KEY (task_id) REFERENCES scheduled_tasks(id));
    CREATE TABLE router_state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE sessions (group_folder TEXT PRIMARY KEY, session_id TEXT NOT NULL);
    CREATE TABLE registered_groups (jid TEXT PRIMARY KEY, name TEXT NOT NULL,
        folder TEXT NOT NULL UNIQUE, trigger_pattern TEXT NOT NULL, added_at TEXT NOT NULL,
        container_config TEXT, requires_trigger INTEGER DEFAULT 1);";

pub(crate) const MAIN: &str = "4915112345@s.whatsapp.net";
pub(crate) const FAMILY: &str = "120363000000000001@g.us";

/// Such a folder.
pub(crate) struct NanoClaw {
    root: PathBuf,
}

impl NanoClaw {
    /// An empty one: tables without rows.
    pub(crate) fn empty(root: &Path) -> NanoClaw {
        for folder in ["store/auth", "groups/global", "data/ipc", "logs"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        let old = NanoClaw { root: root.to_owned() };
        old.sql(SCHEMA);
        old
    }

    /// One that was lived in: a main chat and a family with messages, of which some wait, a task
    /// of each kind, sessions, and files.
    pub(crate) fn lived_in(root: &Path) -> NanoClaw {
        let old = NanoClaw::empty(root);
        old.group(MAIN, "Main", "main", "NULL", 0);
        let mounts =
            r#"'{"additionalMounts":[{"hostPath":"~/photos","readonly":true}],"timeout":600000}'"#;
        old.group(FAMILY, "Family", "family", mounts, 1);
        old.message(MAIN, "m1", 10, "good morning", 1, 0);
        old.message(MAIN, "m2", 11, "Andy: Good morning!", 1, 1);
        old.message(FAMILY, "f1", 12, "who buys bread?", 0, 0);
        old.message(FAMILY, "f2", 13, "@Andy who?", 0, 0);
        old.message(FAMILY, "f3", 14, "Andy: You do.", 1, 1);
        old.message(FAMILY, "f4", 15, "", 0, 0);
        old.message(FAMILY, "f5", 16, "and milk?", 0, 0);
        old.message(MAIN, "m3", 20, "what is left?", 1, 0);
        old.message(FAMILY, "f6", 21, "@Andy milk too?", 0, 0);
        old.answered(&[(MAIN, &at(11)), (FAMILY, &at(14))]);
        old.sql(&format!(
            "INSERT INTO chats VALUES ('__group_sync__', '__group_sync__', '{0}', NULL, 0),
                 ('tg:1', 'Telegram', '{0}', 'telegram', 1);
             INSERT INTO sessions VALUES ('main', '6f1c0c56-0000-4000-8000-000000000001');
             INSERT INTO scheduled_tasks VALUES
                 ('task-1771500000000-cron', 'family', '{FAMILY}', 'say what is on', 'cron',
                  '0 9 * * *', '2099-01-01T09:00:00.000Z', NULL, NULL, 'active', '{0}', 'group'),
                 ('task-1771500000000-each', 'main', '{MAIN}', 'look at the oven', 'interval',
                  '3600000', '2099-01-01T09:00:00.000Z', NULL, NULL, 'paused', '{0}', 'isolated'),
                 ('task-1771500000000-once', 'main', '{MAIN}', 'wake me', 'once',
                  '2026-01-01T00:00:00', NULL, NULL, NULL, 'completed', '{0}', 'isolated'),
                 ('task-1771500000000-lost', 'gone', 'x@g.us', 'never', 'once',
                  '2026-01-01T00:00:00', NULL, NULL, NULL, 'active', '{0}', 'isolated');
             INSERT INTO task_run_logs (task_id, run_at, duration_ms, status, result, error) VALUES
                 ('task-1771500000000-once', '{0}', 1500, 'success', 'Good morning', NULL),
                 ('task-1771500000000-once', '{0}', 10, 'error', NULL, 'no engine');",
            at(9)
        ));
        old.write("groups/main/CLAUDE.md", "I am main's memory.\n");
        old.write("groups/family/CLAUDE.md", "I am the family's memory.\n");
        old.write("groups/family/notes/shopping.md", "bread\n");
        old.write("groups/family/logs/container-1.log", "a prompt\n");
        old.write("groups/global/CLAUDE.md", "I am everybody's memory.\n");
        old.write("groups/left/CLAUDE.md", "nobody's\n");
        let session = "data/sessions/main/.claude/projects/-workspace-group";
        old.write(&format!("{session}/6f1c0c56-0000-4000-8000-000000000001.jsonl"), "{}\n");
        old.write("store/auth/creds.json", "{\"secret\":1}");
        old.write(
            ".env",
            "ASSISTANT_NAME=\"Andy\"\nCLAUDE_CODE_OAUTH_TOKEN=sk-ant-oat01-x\nSLACK_TOKEN=xoxb\n\
             IDLE_TIMEOUT=soon\n",
        );
        old
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    pub(crate) fn sql(&self, sql: &str) {
        let database = Connection::open(self.root.join("store/messages.db")).expect("a database");
        database.execute_batch(sql).expect("SQL");
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub(crate) fn group(&self, jid: &str, name: &str, folder: &str, config: &str, trigger: i64) {
        self.sql(&format!(
            "INSERT INTO chats VALUES ('{jid}', '{name}', '{0}', 'whatsapp', {1});
             INSERT INTO registered_groups VALUES
                 ('{jid}', '{name}', '{folder}', '@Andy', '{0}', {config}, {trigger});",
            at(0),
            i64::from(jid.ends_with("@g.us")),
        ));
    }

    pub(crate) fn message(&self, chat: &str, id: &str, second: u32, text: &str, me: i64, bot: i64) {
        self.sql(&format!(
            "INSERT INTO messages VALUES ('{id}', '{chat}', '49151@s.whatsapp.net', 'Ann',
                 '{text}', '{}', {me}, {bot});",
            at(second)
        ));
    }

    /// Up to which time each chat was answered.
    pub(crate) fn answered(&self, chats: &[(&str, &str)]) {
        let answered: serde_json::Map<_, _> =
            chats.iter().map(|(chat, at)| ((*chat).to_owned(), json!(at))).collect();
        self.sql(&format!(
            "INSERT OR REPLACE INTO router_state VALUES
                 ('last_timestamp', '{}'), ('last_agent_timestamp', '{}');",
            at(21),
            json!(answered)
        ));
    }
}

/// A time as JavaScript writes it.
pub(crate) fn at(second: u32) -> String {
    format!("2026-02-19T10:00:{second:02}.000Z")
}
