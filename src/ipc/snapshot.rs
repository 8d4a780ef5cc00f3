//! Two files in a group's folder that tell its agent what is there: `current_tasks.json` and
//! `available_groups.json`, in `NanoClaw`'s shape. The tools ask us instead, and are never stale.

use serde_json::{Value, json};

use super::execute::LIST_MAX;
use super::show;
use crate::boundary::{Dir, Rejected};
use crate::home::Home;
use crate::ids::{GroupFolder, UnixMs};
use crate::store::{self, Chat, Group, Store, TaskOutline};

/// What both files of a group say.
pub struct Snapshot {
    tasks: Vec<TaskOutline>,
    groups: Vec<Chat>,
}

impl Snapshot {
    /// Reads it from the database.
    ///
    /// # Errors
    /// [`store::Error`].
    pub fn new(store: &Store, group: &Group) -> Result<Snapshot, store::Error> {
        // Main sees all, other groups their own tasks and no chats.
        let within = (!group.is_main).then_some(&group.folder);
        let tasks = store.task_outlines(within, LIST_MAX)?;
        let groups = if group.is_main { store.all_chats()? } else { Vec::new() };
        Ok(Snapshot { tasks, groups })
    }

    /// Writes both files, each whole from the first moment.
    ///
    /// # Errors
    /// What lies there is not what should.
    pub fn write(&self, home: &Home, folder: &GroupFolder) -> Result<(), Rejected> {
        let ipc = Dir::open(&home.ipc_all())?.sub(folder.as_str())?;
        put(&ipc, "current_tasks.json", &tasks(&self.tasks))?;
        put(&ipc, "available_groups.json", &groups(&self.groups))
    }
}

/// A file that says the same but for its last value, the time of the look, stays: most looks find
/// nothing new, and a new file costs more than reading the old one.
fn put(ipc: &Dir, name: &str, value: &Value) -> Result<(), Rejected> {
    let text = format!("{value:#}\n");
    let said = text.split("\n  \"lastSync\"").next().unwrap_or(&text);
    let old = ipc.read(name, text.len() as u64);
    if old.is_ok_and(|old| old.len() == text.len() && old.starts_with(said.as_bytes())) {
        return Ok(());
    }
    ipc.replace(name, text.as_bytes(), 0o600)
}

fn tasks(tasks: &[TaskOutline]) -> Value {
    let shown = tasks.iter().map(|task| {
        json!({
            "id": task.id,
            "groupFolder": task.folder,
            "prompt": task.prompt,
            "schedule_type": task.schedule_kind,
            "schedule_value": task.schedule_value,
            "status": task.state,
            "next_run": task.next_run.and_then(show::utc),
        })
    });
    shown.collect()
}

fn groups(chats: &[Chat]) -> Value {
    let shown = chats.iter().take(LIST_MAX).map(|chat| {
        json!({
            "jid": chat.jid.as_str(),
            "name": chat.name.as_deref().unwrap_or(chat.jid.as_str()),
            "lastActivity": chat.last_message_at.and_then(show::utc),
            "isRegistered": chat.folder.is_some(),
        })
    });
    json!({
        "groups": shown.collect::<Vec<_>>(),
        "lastSync": show::utc(UnixMs::now()),
    })
}
