//! Requests as an enemy writes them, and what else can lie in their place.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::{FileType, Mode};
use serde_json::{Value, json};

use super::{done, put, response, state, task, wait_taken};
use crate::support::{Home, entries, wait_for};

/// Requests that are right.
fn right(id: &str) -> Vec<Value> {
    vec![
        json!({ "type": "message", "chatJid": "script:family", "text": "x", "sender": "y" }),
        json!({ "type": "schedule_task", "prompt": "p", "schedule_type": "cron",
            "schedule_value": "0 9 * * *", "context_mode": "group", "targetJid": "script:family",
            "timezone": "Europe/Berlin", "script": "true" }),
        json!({ "type": "update_task", "taskId": id, "prompt": "p", "schedule_type": "once",
            "schedule_value": "2099-01-01T00:00", "context_mode": "group",
            "targetJid": "script:family", "timezone": "UTC", "script": "true" }),
        json!({ "type": "pause_task", "taskId": id }),
        json!({ "type": "resume_task", "taskId": id }),
        json!({ "type": "cancel_task", "taskId": id }),
        json!({ "type": "run_task_now", "taskId": id }),
        json!({ "type": "get_task", "taskId": id }),
        json!({ "type": "register_group", "jid": "9@g.us", "folder": "nine", "name": "Nine",
            "trigger": "@x", "requiresTrigger": true, "attach": false,
            "containerConfig": { "timeout": 60_000 } }),
        json!({ "type": "unregister_group", "folder": "family" }),
        json!({ "type": "search_messages", "query": "x", "folder": "family", "limit": 5 }),
    ]
}

/// The fields that a request cannot do without.
const NEEDED: [&str; 12] = [
    "chatJid",
    "text",
    "prompt",
    "schedule_type",
    "schedule_value",
    "taskId",
    "jid",
    "folder",
    "query",
    "type",
    "requestId",
    "none",
];

#[test]
fn every_field_wrong_is_refused_with_a_reason_and_nothing_changes() {
    let home = Home::new();
    home.register("family");
    let mut daemon = home.start();
    let id = done(&home, "main", task("x"))["id"].as_str().expect("an id").to_owned();
    let other = "zzzzzzzz";
    let before = state(&home);
    let mut bad: Vec<(String, Value)> = Vec::new();
    for request in right(&id) {
        let kind = request["type"].as_str().expect("a type").to_owned();
        let is_search = kind == "search_messages";
        for (field, value) in request.as_object().expect("an object") {
            let mut add = |what: &str, value: Value| {
                let mut request = request.clone();
                request[field.as_str()] = value;
                bad.push((format!("{kind} {field} {what}"), request));
            };
            // An ordinary number is a wrong type for all but one.
            if field != "limit" {
                add("is a number", json!(7));
            }
            add("is a list", json!([value]));
            add("is an object", json!({ "a": 1 }));
            if value.is_string() {
                add("has a NUL", json!("a\0b"));
                add("is too long", json!("x".repeat(70_000)));
                add("is empty", json!(""));
            }
            if ["taskId", "chatJid", "targetJid", "type"].contains(&field.as_str()) {
                add("is unknown", json!(other));
            }
            if NEEDED.contains(&field.as_str()) && !(is_search && field == "folder") {
                let mut request = request.clone();
                request.as_object_mut().expect("an object").remove(field);
                bad.push((format!("{kind} {field} missing"), request));
            }
        }
        let mut surplus = request.clone();
        surplus["surprise"] = json!(1);
        bad.push((format!("{kind} surplus"), surplus));
    }
    for (n, (what, mut request)) in bad.into_iter().enumerate() {
        let id = format!("bad-{n}");
        request["requestId"] = json!(id);
        put(&home, "main", "tasks", &format!("{id}.json"), request.to_string().as_bytes());
        let response = response(&home, "main", &id);
        assert_eq!(false, response["ok"], "{what}: {response}");
        assert!(response["error"].as_str().is_some_and(|e| e.len() > 5), "{what}: {response}");
    }
    assert_eq!(before, state(&home));
    assert!(daemon.is_alive());
}

#[test]
fn h51_what_is_no_request_is_put_away_with_a_reason() {
    let home = Home::new();
    home.register("family");
    let mut daemon = home.start();
    let before = state(&home);
    let huge = format!("{{\"type\":\"message\",\"text\":\"{}\"}}", "x".repeat(10_000_000));
    let deep = format!("{{\"type\":{}", "[".repeat(10_000));
    let deep_field =
        format!("{{\"type\":\"message\",\"text\":{}{}}}", "{\"a\":".repeat(10_000), "1");
    let not_text: &[u8] = b"{\"type\":\"message\",\"text\":\"\xff\xfe\"}";
    for (name, bytes, reason) in [
        ("empty.json", &b""[..], "not JSON"),
        ("half.json", b"{\"type\":\"mess", "not JSON"),
        ("list.json", b"[]", "not a JSON object"),
        ("huge.json", huge.as_bytes(), "more than the 262144 bytes"),
        ("deep.json", deep.as_bytes(), "not JSON"),
        ("deep-field.json", deep_field.as_bytes(), "not JSON"),
        ("latin.json", not_text, "not JSON"),
        ("unknown.json", b"{\"type\":\"make_me_main\"}", "no request of type"),
        ("id.json", b"{\"type\":\"list_tasks\",\"requestId\":\"../../x\"}", "requestId"),
        ("evil\n\x1b[31m.json", b"{", "not JSON"),
    ] {
        put(&home, "family", "tasks", name, bytes);
        wait_taken(&home, "family", "tasks", name);
        let kept =
            home.at(&format!("data/ipc/errors/family-{}", name.replace(['\n', '\x1b'], "_")));
        let why = fs::read_to_string(kept.with_file_name(format!(
            "{}.reason",
            kept.file_name().expect("a name").to_str().expect("plain")
        )));
        assert!(why.as_ref().is_ok_and(|why| why.contains(reason)), "{name:?}: {why:?}");
        assert_eq!(bytes.len() < 300_000, kept.is_file(), "{name:?}");
        if let Some(id) = name.strip_suffix(".json").filter(|id| !id.contains('\n')) {
            let response = response(&home, "family", id);
            assert!(response["error"].as_str().is_some_and(|e| e.contains(reason)), "{response}");
        }
    }
    // What is not meant for us yet stays.
    put(&home, "family", "tasks", "notes.txt", b"x");
    fs::write(home.at("data/ipc/family/tasks/.half.json"), "{").expect("a file");
    done(&home, "family", json!({ "type": "list_tasks" }));
    assert!(home.at("data/ipc/family/tasks/.half.json").exists());
    assert_eq!(before, state(&home));
    assert!(daemon.is_alive());
}

#[test]
fn h50_h51_links_fifos_and_folders_are_neither_followed_nor_waited_for() {
    let home = Home::new();
    home.register("family");
    let mut daemon = home.start();
    let tasks = home.at("data/ipc/family/tasks");
    let secret = home.path("secret.json");
    fs::write(&secret, task("from outside").to_string()).expect("a file");
    symlink(&secret, tasks.join("link.json")).expect("a link");
    symlink("/nowhere", tasks.join("dangling.json")).expect("a link");
    let mode = Mode::RUSR | Mode::WUSR;
    let fifo = tasks.join("fifo.json");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, mode, 0).expect("a FIFO");
    // Made elsewhere, as it may be taken away as soon as its name is there.
    let folder = home.path("folder");
    fs::create_dir_all(folder.join("deep/deeper")).expect("a folder");
    fs::write(folder.join("deep/x"), "x").expect("a file");
    fs::rename(&folder, tasks.join("folder.json")).expect("the same file system");
    std::os::unix::net::UnixListener::bind(tasks.join("socket.json")).expect("a socket");
    for name in ["link.json", "dangling.json", "fifo.json", "folder.json", "socket.json"] {
        wait_taken(&home, "family", "tasks", name);
        let reason = home.at(&format!("data/ipc/errors/family-{name}.reason"));
        assert!(reason.is_file(), "{name}");
    }
    assert!(secret.is_file());
    assert_eq!(0, home.number("SELECT count(*) FROM tasks"));

    // A response goes nowhere but into its folder.
    let responses = home.at("data/ipc/family/responses");
    fs::remove_dir_all(&responses).expect("it is ours");
    symlink(home.path("user"), &responses).expect("a link");
    let mut request = task("x");
    request["requestId"] = json!("r");
    put(&home, "family", "tasks", "r.json", request.to_string().as_bytes());
    wait_taken(&home, "family", "tasks", "r.json");
    assert_eq!(1, home.number("SELECT count(*) FROM tasks"));
    assert!(entries(&home.path("user")).iter().all(|path| !path.ends_with("r.json")));
    fs::remove_file(&responses).expect("a link");

    // At the place of a snapshot and of a response, a link is replaced, not followed.
    let victim = home.path("victim");
    fs::write(&victim, "untouched").expect("a file");
    fs::create_dir(&responses).expect("a folder");
    symlink(&victim, responses.join("s.json")).expect("a link");
    let snapshot = home.at("data/ipc/family/current_tasks.json");
    fs::remove_file(&snapshot).ok();
    symlink(&victim, &snapshot).expect("a link");
    request["requestId"] = json!("s");
    put(&home, "family", "tasks", "s.json", request.to_string().as_bytes());
    wait_taken(&home, "family", "tasks", "s.json");
    wait_for("a snapshot", || fs::symlink_metadata(&snapshot).is_ok_and(|s| s.is_file()));
    assert_eq!("untouched", fs::read_to_string(&victim).expect("it is there"));

    // The folder of the requests itself can be swapped, too.
    let elsewhere = home.path("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    fs::write(elsewhere.join("x.json"), task("y").to_string()).expect("a file");
    let messages = home.at("data/ipc/family/messages");
    fs::remove_dir_all(&messages).expect("it is ours");
    symlink(&elsewhere, &messages).expect("a link");
    done(&home, "family", json!({ "type": "list_tasks" }));
    assert!(elsewhere.join("x.json").is_file());
    assert!(daemon.is_alive());
}

#[test]
fn h49_folders_with_impossible_names_are_left_alone() {
    let home = Home::new();
    home.register("family");
    let mut daemon = home.start();
    for name in ["-x", "a b", "global"] {
        let folder = home.at(&format!("data/ipc/{name}/tasks"));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("1.json"), task("x").to_string()).expect("a file");
    }
    done(&home, "family", task("x"));
    assert_eq!(1, home.number("SELECT count(*) FROM tasks"));
    assert!(home.at("data/ipc/global/tasks/1.json").is_file());
    assert!(daemon.is_alive());
}

#[test]
fn h51_a_flood_in_one_group_leaves_the_others_their_turn() {
    let home = Home::new();
    for name in ["noisy", "quiet"] {
        home.register(name);
    }
    let message = |to: &str, n: u32| {
        json!({ "type": "message", "chatJid": format!("script:{to}"), "text": format!("{n}") })
            .to_string()
    };
    for n in 0..3000 {
        put(&home, "noisy", "messages", &format!("{n:05}.json"), message("noisy", n).as_bytes());
    }
    let _daemon = home.start();
    wait_for("the flood to begin", || !home.answers("script:noisy").is_empty());
    for n in 0..20 {
        put(&home, "quiet", "messages", &format!("{n:05}.json"), message("quiet", n).as_bytes());
        wait_for("its turn", || home.answers("script:quiet").len() == n as usize + 1);
    }
    // The flood is held back: its burst, and what came since.
    let handled = home.answers("script:noisy").len();
    assert!(handled < 3000, "{handled}");
    wait_for("the whole burst", || 1000 <= home.answers("script:noisy").len());
}
