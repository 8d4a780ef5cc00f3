//! Two files in a group's folder that tell its agent what is there: `current_tasks.json` and
//! `available_groups.json`, in `NanoClaw`'s shape. The tools ask us instead, and are never stale.

use serde_json::{Value, json};

use super::execute::LIST_MAX;
use super::show;
use crate::agent::Shared;
use crate::boundary::{Dir, Rejected};
use crate::ids::UnixMs;
use crate::store::{self, Group, Store};

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The database.
    #[error("the database refused")]
    Store(#[from] store::Error),
    /// The folder of the group.
    #[error("cannot write a snapshot")]
    Rejected(#[from] Rejected),
}

/// Writes both files of a group, each whole from the first moment.
///
/// # Errors
/// [`SnapshotError`].
pub fn write(shared: &Shared, store: &Store, group: &Group) -> Result<(), SnapshotError> {
    let ipc = Dir::open(&shared.home.ipc_all())?.sub(group.folder.as_str())?;
    put(&ipc, "current_tasks.json", &tasks(store, group)?)?;
    put(&ipc, "available_groups.json", &groups(store, group)?)
}

fn put(ipc: &Dir, name: &str, value: &Value) -> Result<(), SnapshotError> {
    Ok(ipc.replace(name, format!("{value:#}\n").as_bytes(), 0o600)?)
}

/// Main sees all tasks, other groups their own.
fn tasks(store: &Store, group: &Group) -> Result<Value, store::Error> {
    let within = (!group.is_main).then_some(&group.folder);
    let (tasks, corrupt) = store.tasks(within)?;
    for row in corrupt {
        log::error!("{row}");
    }
    let shown = tasks.iter().take(LIST_MAX).map(|task| {
        json!({
            "id": task.id.as_str(),
            "groupFolder": task.folder.as_str(),
            "prompt": task.prompt,
            "schedule_type": task.schedule_kind,
            "schedule_value": task.schedule_value,
            "status": task.state.as_str(),
            "next_run": task.next_run.and_then(show::utc),
        })
    });
    Ok(shown.collect())
}

/// Main sees all chats, other groups none.
fn groups(store: &Store, group: &Group) -> Result<Value, store::Error> {
    let chats = if group.is_main { store.all_chats()? } else { Vec::new() };
    let shown = chats.iter().take(LIST_MAX).map(|chat| {
        json!({
            "jid": chat.jid.as_str(),
            "name": chat.name.as_deref().unwrap_or(chat.jid.as_str()),
            "lastActivity": chat.last_message_at.and_then(show::utc),
            "isRegistered": chat.folder.is_some(),
        })
    });
    Ok(json!({
        "groups": shown.collect::<Vec<_>>(),
        "lastSync": show::utc(UnixMs::now()),
    }))
}
