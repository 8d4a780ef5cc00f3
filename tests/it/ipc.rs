//! What agents ask for: files in a group's folder, as any program inside a sandbox can write them.

mod bad;
mod claude;
mod files;
mod kept;
mod node;

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::support::{Home, wait_for};

/// Puts a request where its group's sandbox would, whole.
pub(crate) fn put(home: &Home, group: &str, place: &str, name: &str, bytes: &[u8]) {
    let folder = home.at(&format!("data/ipc/{group}/{place}"));
    let temporary = folder.join(format!(".{name}.tmp"));
    fs::write(&temporary, bytes).expect("a file");
    fs::rename(temporary, folder.join(name)).expect("a file");
}

/// Waits until a request was taken.
pub(crate) fn wait_taken(home: &Home, group: &str, place: &str, name: &str) {
    let path = home.at(&format!("data/ipc/{group}/{place}/{name}"));
    wait_for(&format!("the end of {}", path.display()), || fs::symlink_metadata(&path).is_err());
}

/// The response with this id.
fn response(home: &Home, group: &str, id: &str) -> Value {
    let path = home.at(&format!("data/ipc/{group}/responses/{id}.json"));
    wait_for(&format!("a response {id}"), || path.exists());
    serde_json::from_slice(&fs::read(&path).expect("it is whole")).expect("JSON")
}

/// Asks, with an id of its own, and gives the response.
fn ask(home: &Home, group: &str, mut request: Value) -> Value {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let id = format!("t-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    request["requestId"] = json!(id);
    put(home, group, "tasks", &format!("{id}.json"), request.to_string().as_bytes());
    response(home, group, &id)
}

/// What is asked for must be done.
fn done(home: &Home, group: &str, request: impl Into<Value>) -> Value {
    let request = request.into();
    let mut response = ask(home, group, request.clone());
    assert_eq!(true, response["ok"], "{request}: {response}");
    response["data"].take()
}

/// What is asked for must be refused, with this reason.
fn refused(home: &Home, group: &str, request: &Value, reason: &str) {
    let response = ask(home, group, request.clone());
    assert_eq!(false, response["ok"], "{request}: {response}");
    let said = response["error"].as_str().expect("a reason");
    assert!(said.contains(reason), "{request}: `{reason}` is not in: {said}");
}

/// Everything that a request could have changed.
fn state(home: &Home) -> Vec<String> {
    home.texts(
        "SELECT 'group ' || folder || name || is_main || container_config FROM groups
         UNION ALL SELECT 'chat ' || jid || folder FROM group_chats
         UNION ALL SELECT 'session ' || folder || session_id FROM sessions
         UNION ALL SELECT 'task ' || id || state || prompt || schedule_value FROM tasks
         UNION ALL SELECT 'run ' || id FROM task_runs
         UNION ALL SELECT 'said ' || id || text FROM outbox ORDER BY 1",
    )
}

fn task(prompt: &str) -> Value {
    json!({ "type": "schedule_task", "prompt": prompt, "schedule_type": "once",
            "schedule_value": "2099-01-31T09:00" })
}
