//! A task is asked for by a file, runs as a container of its own, says its result in the chat, is
//! paused, resumed and cancelled.

use serde_json::json;

use super::home;
use crate::ipc::{put, wait_taken};
use crate::support::wait_for;

#[test]
fn it_is_created_runs_speaks_pauses_and_ends() {
    let home = home();
    let chat = home.register("a");
    let daemon = home.start();
    let ask = |request: serde_json::Value| {
        put(&home, "a", "tasks", "1.json", request.to_string().as_bytes());
        wait_taken(&home, "a", "tasks", "1.json");
    };
    let plan = |value: &str, kind: &str| {
        json!({"type": "schedule_task", "prompt": "water the plants", "schedule_type": kind,
               "schedule_value": value, "targetJid": chat})
    };
    // Milliseconds, as their tool says.
    ask(plan("1000", "interval"));
    wait_for("its result", || !home.answers(&chat).is_empty());
    let said = home.answers(&chat).remove(0);
    assert!(said.starts_with("Andy: did: ") && said.contains("water the plants"), "{said}");
    wait_for("a note of it", || {
        home.number("SELECT count(*) FROM task_runs WHERE status = 'succeeded'") >= 1
    });
    assert_eq!(["isolated"], *home.texts("SELECT context_mode FROM tasks"));
    let id = home.texts("SELECT id FROM tasks").remove(0);
    for (kind, becomes) in
        [("pause_task", "paused"), ("resume_task", "active"), ("cancel_task", "cancelled")]
    {
        ask(json!({"type": kind, "taskId": id}));
        assert_eq!([becomes], *home.texts("SELECT state FROM tasks"), "{kind}");
    }
    for (value, kind) in [("61 * * * *", "cron"), ("0", "interval"), ("soon", "once")] {
        ask(plan(value, kind));
        assert_eq!(1, home.number("SELECT count(*) FROM tasks"), "{kind} {value}");
    }
    assert_eq!(Some(0), daemon.stop());
}
