//! Tests of the store as a whole: what happens between its tables, and after a crash.

mod groups;
mod messages;
mod model;
mod open;
mod outbox;
mod requests;
mod runs;
mod tasks;
mod usage;

use tempfile::TempDir;

use super::*;
use crate::ids::{ChatJid, GroupFolder, Seq, UnixMs};

const NOW: UnixMs = UnixMs(1_700_000_000_000);
/// The chat of group `family`, which requires a trigger.
const FAMILY: &str = "1@g.us";

/// A database with the groups `main` and `family`.
struct Db {
    dir: TempDir,
    store: Store,
}

impl Db {
    fn new() -> Db {
        let dir = tempfile::tempdir().expect("a directory");
        let mut store = open_quickly(&dir);
        assert!(store.ensure_main_group(NOW).expect("it is new"));
        let mut db = Db { dir, store };
        db.register(&new_group(FAMILY, "family"));
        db
    }

    fn register(&mut self, new: &NewGroup) {
        self.store.register_group(new, NOW).expect("nothing is taken");
    }

    /// As after `kill -9`: whatever was not committed is gone.
    fn restart(self) -> Db {
        let Db { dir, store } = self;
        drop(store);
        let store = open_quickly(&dir);
        Db { dir, store }
    }

    /// A second connection, as another process has it.
    fn other(&self) -> Store {
        Store::open(&self.dir.path().join("messages.db")).expect("it is there")
    }

    fn accept(&mut self, message: &NewMessage) -> Accepted {
        self.store.accept(std::slice::from_ref(message), "Andy", NOW).expect("no fault")[0]
    }

    /// Accepts a message of a new id; tells whether it asks for an answer.
    fn wakes(&mut self, change: impl FnOnce(&mut NewMessage)) -> bool {
        let id = self.store.newest_seq().expect("no fault").0.to_string();
        let mut message = message(FAMILY, &id, "@Andy hi");
        change(&mut message);
        match self.accept(&message) {
            Accepted::New { wakes, .. } => wakes,
            other => panic!("{other:?}"),
        }
    }

    fn batch(&self, jid: &str) -> Batch {
        self.store.unsettled(&chat(jid), None).expect("no fault")
    }

    fn pending(&self) -> Vec<String> {
        let chats = self.store.pending_chats().expect("no fault");
        chats.into_iter().map(|(_, chat)| chat.as_str().to_owned()).collect()
    }

    /// Texts in the outbox for a chat, oldest first.
    fn said(&self, jid: &str) -> Vec<String> {
        let rows = self.store.outbox_after(&chat(jid), crate::ids::OutboxId(0), 100);
        rows.expect("no fault").into_iter().map(|row| row.text).collect()
    }

    fn start_run(&mut self, jid: &str) -> crate::ids::RunId {
        let group = self.store.group_of_chat(&chat(jid)).expect("no fault").expect("it has one");
        let run = NewRun {
            folder: group.folder,
            kind: RunKind::Chat,
            chat: chat(jid),
            task_id: None,
            container_name_prefix: "rust-claw-x".to_owned(),
        };
        self.store.start_run(&run, NOW).expect("no fault")
    }
}

/// No test cuts the power, so none waits for the disk.
fn open_quickly(dir: &TempDir) -> Store {
    let store = Store::open(&dir.path().join("messages.db")).expect("it can be opened");
    store.conn.execute_batch("PRAGMA synchronous = OFF").expect("no fault");
    store
}

fn chat(jid: &str) -> ChatJid {
    ChatJid::new(jid).expect("an address")
}

fn folder(name: &str) -> GroupFolder {
    GroupFolder::new(name).expect("a folder")
}

fn message(jid: &str, id: &str, text: &str) -> NewMessage {
    NewMessage {
        chat: chat(jid),
        id: id.to_owned(),
        sender: "49@s.whatsapp.net".to_owned(),
        sender_alt: None,
        sender_name: "José".to_owned(),
        text: text.to_owned(),
        sent_at: NOW,
        is_from_assistant: false,
        mentions_assistant: false,
        chat_name: None,
        is_group: false,
        history: false,
    }
}

fn new_group(jid: &str, name: &str) -> NewGroup {
    NewGroup {
        jid: chat(jid),
        name: name.to_owned(),
        folder: folder(name),
        trigger_name: None,
        requires_trigger: true,
        is_main: false,
        attach: false,
        config: ContainerConfig::default(),
    }
}

fn answer(jid: &str, text: &str, key: &str) -> NewOutbox {
    NewOutbox {
        jid: chat(jid),
        kind: OutboxKind::Answer,
        text: text.to_owned(),
        dedupe_key: key.to_owned(),
    }
}

/// A turn that ended with these answers.
fn step(settle: Option<(&str, Seq)>, answers: Vec<NewOutbox>) -> RunStep {
    RunStep {
        state: RunState::Idle,
        session_id: None,
        answers,
        settle: settle.map(|(jid, seq)| (chat(jid), seq)),
        turns: 1,
        usage: Usage { input_tokens: 10, cost_micro_usd: 7, ..Usage::default() },
        task: None,
    }
}
