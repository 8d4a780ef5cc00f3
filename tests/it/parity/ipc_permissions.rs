//! Who asks is known by the folder of the request. Main may everything, others may what is theirs.

use serde_json::json;

use super::home;
use crate::ipc::{put, wait_taken};

#[test]
fn a_group_speaks_and_plans_for_itself_and_main_for_all() {
    let home = home();
    let (a, b) = (home.register("a"), home.register("b"));
    let daemon = home.start();
    let ask = |group: &str, place: &str, request: serde_json::Value| {
        put(&home, group, place, "1700000000000-abc123.json", request.to_string().as_bytes());
        wait_taken(&home, group, place, "1700000000000-abc123.json");
    };
    let say = |chat: &str, text: &str| {
        json!({"type": "message", "chatJid": chat, "text": text, "groupFolder": "x",
               "timestamp": "2026-02-19T10:00:00.000Z"})
    };
    let plan = |chat: &str| {
        json!({"type": "schedule_task", "prompt": "p", "schedule_type": "cron",
               "schedule_value": "0 9 * * *", "targetJid": chat})
    };
    ask("a", "messages", say(&a, "mine"));
    ask("a", "messages", say(&b, "not mine"));
    ask("main", "messages", say(&b, "from main"));
    assert_eq!(["Andy: mine"], *home.answers(&a));
    assert_eq!(["Andy: from main"], *home.answers(&b));
    ask("a", "tasks", plan(&a));
    ask("a", "tasks", plan(&b));
    ask("main", "tasks", plan(&b));
    assert_eq!(["a", "b"], *home.texts("SELECT folder FROM tasks ORDER BY created_at_ms, id"));
    let register = json!({"type": "register_group", "jid": "9@g.us", "name": "Nine",
                          "folder": "nine", "trigger": "@Andy"});
    let count = || home.number("SELECT count(*) FROM groups WHERE folder = 'nine'");
    ask("a", "tasks", register.clone());
    assert_eq!(0, count());
    ask("main", "tasks", register);
    assert_eq!(1, count());
    for kind in ["pause_task", "cancel_task"] {
        let of_b = home.texts("SELECT id FROM tasks WHERE folder = 'b'").remove(0);
        ask("a", "tasks", json!({"type": kind, "taskId": of_b}));
        assert_eq!(["active"], *home.texts("SELECT state FROM tasks WHERE folder = 'b'"));
    }
    assert_eq!(Some(0), daemon.stop());
}
