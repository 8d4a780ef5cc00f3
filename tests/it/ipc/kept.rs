//! What a crash does to requests: nothing is lost, nothing is done twice.

use std::fs;

use serde_json::json;

use super::{put, response, task, wait_taken};
use crate::support::Home;

/// The daemon dies at `place` while it serves the request; another one starts.
fn crashed(place: &str, folder: &str, request: &serde_json::Value) -> Home {
    let mut home = Home::new();
    home.register("family");
    home.set("RUST_CLAW_CRASH_AT", place);
    let mut daemon = home.start();
    // A child that is being started holds all that its parent holds, the lock too.
    daemon.wait_line("engine=docker ready");
    put(&home, "family", folder, "r.json", request.to_string().as_bytes());
    assert_eq!(None, daemon.end(), "it aborts at {place}");
    home.unset("RUST_CLAW_CRASH_AT");
    home
}

#[test]
fn a_message_is_queued_once_whenever_the_daemon_dies() {
    for id in [Some("r"), None] {
        for place in ["tool_message_queued", "response_written"] {
            let mut message =
                json!({ "type": "message", "chatJid": "script:family", "text": "hi" });
            if let Some(id) = id {
                message["requestId"] = json!(id);
            }
            let home = crashed(place, "messages", &message);
            let daemon = home.start();
            wait_taken(&home, "family", "messages", "r.json");
            assert_eq!(vec!["Andy: hi"], home.answers("script:family"), "{place} {id:?}");
            if id.is_some() {
                assert_eq!(true, response(&home, "family", "r")["ok"], "{place}");
            }
            assert_eq!(Some(0), daemon.stop());
        }
    }
}

#[test]
fn a_change_is_made_once_whenever_the_daemon_dies() {
    for (place, count) in [("request_begun", 0), ("request_done", 1), ("response_written", 1)] {
        let mut request = task("x");
        request["requestId"] = json!("r");
        let home = crashed(place, "tasks", &request);
        let daemon = home.start();
        wait_taken(&home, "family", "tasks", "r.json");
        assert_eq!(count, home.number("SELECT count(*) FROM tasks"), "{place}");
        let response = response(&home, "family", "r");
        if place == "response_written" {
            assert_eq!(true, response["ok"], "{response}");
        } else {
            // It tells the truth: we cannot know.
            let error = response["error"].as_str().expect("a reason");
            assert!(error.contains("look whether it was done"), "{error}");
        }
        assert_eq!(Some(0), daemon.stop());
        assert_eq!(0, fs::read_dir(home.at("data/ipc/family/tasks")).expect("a folder").count());
    }
}
