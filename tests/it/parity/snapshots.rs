//! Before a container starts, two files tell it of tasks and chats: main of all, others of their own.

use serde_json::Value;

use super::home;
use crate::support::Done;

#[test]
fn main_sees_all_tasks_and_chats_and_others_their_own() {
    let home = home();
    let chat = home.register("a");
    for group in ["main", "a"] {
        let task = ["schedule-task", "--group", group, "--cron", "0 9 * * *", "--prompt", "p"];
        home.run(&task).ok();
    }
    let daemon = home.start();
    let files = ["current_tasks.json", "available_groups.json"];
    let main = files.map(|file| home.run(&["ask", &format!("nano:file={file}")]).ok());
    let own = files.map(|file| home.run(&["ask", "--group", "a", &format!("nano:file={file}")]));
    let own = own.map(Done::ok);
    let json = |text: &String| serde_json::from_str::<Value>(text).expect("JSON");
    let tasks = json(&main[0]);
    let mut folders: Vec<&str> = tasks
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|t| t["groupFolder"].as_str())
        .collect();
    folders.sort_unstable();
    assert_eq!(["a", "main"], *folders);
    for field in ["id", "prompt", "schedule_type", "schedule_value", "status", "next_run"] {
        assert!(tasks[0][field].is_string(), "{field}: {tasks}");
    }
    let groups = json(&main[1]);
    let is_a = |group: &&Value| group["jid"] == chat;
    let group = groups["groups"].as_array().expect("a list").iter().find(is_a).expect("a");
    assert_eq!(true, group["isRegistered"], "{groups}");
    assert!(groups["lastSync"].is_string());
    let tasks = json(&own[0]);
    assert_eq!(
        (1, "a"),
        (tasks.as_array().map_or(0, Vec::len), tasks[0]["groupFolder"].as_str().expect("its own"))
    );
    assert_eq!(serde_json::json!([]), json(&own[1])["groups"]);
    assert_eq!(Some(0), daemon.stop());
}
