//! The protocol as such: shapes, order, who may do what, what comes back.

use std::fs;

use serde_json::{Value, json};

use super::{ask, done, put, refused, response, state, task, wait_taken};
use crate::support::{Home, wait_for};

#[test]
fn nanoclaws_files_without_an_id_are_done() {
    let home = Home::new();
    home.register("family");
    let _daemon = home.start();
    let message = json!({ "type": "message", "chatJid": "script:family", "text": "hi",
        "groupFolder": "family", "timestamp": "2026-02-19T10:00:00.000Z" });
    put(&home, "family", "messages", "1-abc.json", message.to_string().as_bytes());
    wait_taken(&home, "family", "messages", "1-abc.json");
    assert_eq!(vec!["Andy: hi"], home.answers("script:family"));
    let row = "SELECT kind || state FROM outbox";
    assert_eq!(vec!["toolpending"], home.texts(row));

    let schedule = json!({ "type": "schedule_task", "prompt": "p", "schedule_type": "cron",
        "schedule_value": "0 9 * * *", "context_mode": "group", "targetJid": "script:family",
        "createdBy": "family", "timestamp": "x" });
    put(&home, "family", "tasks", "2-abc.json", schedule.to_string().as_bytes());
    wait_taken(&home, "family", "tasks", "2-abc.json");
    let id = home.texts("SELECT id FROM tasks WHERE context_mode = 'group'").remove(0);
    for (kind, becomes) in
        [("pause_task", "paused"), ("resume_task", "active"), ("cancel_task", "cancelled")]
    {
        let request = json!({ "type": kind, "taskId": id, "groupFolder": "family",
            "isMain": false, "timestamp": "x" });
        put(&home, "family", "tasks", "3.json", request.to_string().as_bytes());
        wait_taken(&home, "family", "tasks", "3.json");
        assert_eq!(vec![becomes], home.texts("SELECT state FROM tasks"), "{kind}");
    }

    let register = json!({ "type": "register_group", "jid": "9@g.us", "name": "Nine",
        "folder": "nine", "trigger": "@Andy", "timestamp": "x" });
    put(&home, "main", "tasks", "4.json", register.to_string().as_bytes());
    wait_taken(&home, "main", "tasks", "4.json");
    assert_eq!(vec!["nine"], home.texts("SELECT folder FROM group_chats WHERE jid = '9@g.us'"));
    let refresh = json!({ "type": "refresh_groups", "groupFolder": "main", "timestamp": "x" });
    put(&home, "main", "tasks", "5.json", refresh.to_string().as_bytes());
    wait_taken(&home, "main", "tasks", "5.json");
    let snapshot = fs::read(home.at("data/ipc/main/available_groups.json")).expect("it is there");
    let snapshot: Value = serde_json::from_slice(&snapshot).expect("JSON");
    let nine = |group: &Value| group["jid"] == "9@g.us" && group["isRegistered"] == true;
    assert!(snapshot["groups"].as_array().expect("a list").iter().any(nine), "{snapshot}");
    // Nobody can repeat them, so nothing of them is kept for long.
    wait_for("the requests are forgotten", || home.number("SELECT count(*) FROM requests") == 0);
    // Nothing of it was of no use.
    assert_eq!(0, fs::read_dir(home.at("data/ipc/errors")).expect("a folder").count());
}

#[test]
fn a_file_of_the_same_name_and_text_is_another_message() {
    let home = Home::new();
    home.register("family");
    let _daemon = home.start();
    let message = json!({ "type": "message", "chatJid": "script:family", "text": "again" });
    for _ in 0..3 {
        put(&home, "family", "messages", "m.json", message.to_string().as_bytes());
        wait_taken(&home, "family", "messages", "m.json");
    }
    assert_eq!(vec!["Andy: again"; 3], home.answers("script:family"));
}

#[test]
fn h10_the_response_tells_what_happened() {
    let home = Home::new();
    home.register("family");
    let _daemon = home.start();
    let message =
        |text: &str| json!({ "type": "message", "chatJid": "script:family", "text": text });
    let queued = done(&home, "family", message("hi"));
    assert_eq!("queued", queued["state"]);
    let id = home.number("SELECT id FROM outbox WHERE text = 'Andy: hi'");
    assert_eq!(id, queued["outbox_id"]);
    refused(&home, "family", &message("<internal>thought</internal>"), "nothing to send");
    let elsewhere = json!({ "type": "message", "chatJid": "1@g.us", "text": "x" });
    refused(&home, "main", &elsewhere, "no registered group");
    refused(&home, "family", &json!({ "type": "cancel_task", "taskId": "nothing" }), "no task");
    assert_eq!(1, home.number("SELECT count(*) FROM outbox"));
}

#[test]
fn h55_what_is_internal_is_stripped_from_what_a_tool_says() {
    let home = Home::new();
    home.register("family");
    let _daemon = home.start();
    for (text, said) in
        [("a<internal>secret</internal>b", "Andy: ab"), ("a<internal>secret", "Andy: a")]
    {
        done(
            &home,
            "family",
            json!({ "type": "message", "chatJid": "script:family", "text": text }),
        );
        assert_eq!(Some(&said.to_owned()), home.answers("script:family").last());
    }
    let sender = json!({ "type": "message", "chatJid": "local:family", "text": "x",
        "sender": "Researcher" });
    done(&home, "family", sender);
    assert_eq!(vec!["Researcher: x"], home.answers("local:family"));
}

#[test]
fn h46_create_list_edit_in_one_go() {
    let home = Home::new().env("TZ", "Europe/Berlin");
    home.register("family");
    let _daemon = home.start();
    let mut created = done(&home, "family", task("water the plants"));
    // h47: the default, on both sides.
    assert_eq!("isolated", created["context_mode"]);
    assert_eq!("2099-01-31T09:00:00+01:00", created["next_run"]);
    let id = created["id"].take();
    let listed = done(&home, "family", json!({ "type": "list_tasks" }));
    assert_eq!(id, listed["tasks"][0]["id"]);
    let change = json!({ "type": "update_task", "taskId": id, "prompt": "feed the cat",
        "schedule_type": "cron", "schedule_value": "0 9 * * 1-5" });
    assert_eq!("feed the cat", done(&home, "family", change)["prompt"]);
    let shown = done(&home, "family", json!({ "type": "get_task", "taskId": id }));
    assert_eq!("0 9 * * 1-5", shown["schedule_value"]);
    assert_eq!(json!([]), shown["runs"]);
    let snapshot = fs::read(home.at("data/ipc/family/current_tasks.json")).expect("it is there");
    let snapshot: Value = serde_json::from_slice(&snapshot).expect("JSON");
    assert_eq!(id, snapshot[0]["id"]);
    assert_eq!("family", snapshot[0]["groupFolder"]);
    assert_eq!("feed the cat", snapshot[0]["prompt"]);
    // Main sees and changes it too.
    let listed = done(&home, "main", json!({ "type": "list_tasks" }));
    assert_eq!(id, listed["tasks"][0]["id"]);
    assert_eq!(
        "paused",
        done(&home, "main", json!({ "type": "pause_task", "taskId": id }))["status"]
    );
}

#[test]
fn other_groups_are_out_of_reach() {
    let home = Home::new();
    for name in ["family", "work"] {
        home.register(name);
    }
    let _daemon = home.start();
    let id = done(&home, "work", task("secret plan"))["id"].clone();
    home.edit("INSERT INTO sessions VALUES ('work', 'session-of-work', 1)");
    let before = state(&home);
    for kind in
        ["update_task", "pause_task", "resume_task", "cancel_task", "run_task_now", "get_task"]
    {
        let mut request = json!({ "type": kind, "taskId": id });
        if kind == "update_task" {
            request["prompt"] = json!("mine");
        }
        refused(&home, "family", &request, "no such task in this group");
    }
    let elsewhere = json!({ "type": "message", "chatJid": "script:work", "text": "x" });
    refused(&home, "family", &elsewhere, "another group");
    let mut there = task("x");
    there["targetJid"] = json!("script:work");
    refused(&home, "family", &there, "another group");
    let search = json!({ "type": "search_messages", "query": "x", "folder": "work" });
    refused(&home, "family", &search, "another group");
    let register = json!({ "type": "register_group", "jid": "9@g.us", "folder": "nine" });
    let unregister = json!({ "type": "unregister_group", "folder": "work" });
    for request in [
        register,
        unregister,
        json!({ "type": "list_groups" }),
        json!({ "type": "refresh_groups" }),
    ] {
        refused(&home, "family", &request, "only the main group");
    }
    assert_eq!(json!([]), done(&home, "family", json!({ "type": "list_tasks" }))["tasks"]);
    assert_eq!(before, state(&home));
    assert!(home.log().contains("group=family request=unregister_group refused"), "{}", home.log());
}

#[test]
fn h53_nobody_becomes_main_or_takes_what_is_taken() {
    let home = Home::new();
    home.register("family");
    let _daemon = home.start();
    let before = state(&home);
    for (jid, folder, reason) in [
        ("9@g.us", "main", "`main` belongs to group"),
        ("9@g.us", "MAIN", "`main` belongs to group"),
        ("9@g.us", "family", "`family` belongs to group"),
        ("script:family", "nine", "belongs to group `family`"),
        ("local:main", "nine", "terminal of its own folder"),
    ] {
        let request = json!({ "type": "register_group", "jid": jid, "folder": folder });
        refused(&home, "main", &request, reason);
    }
    let forged = json!({ "type": "register_group", "jid": "9@g.us", "folder": "nine",
        "is_main": true });
    refused(&home, "main", &forged, "no field `is_main`");
    refused(&home, "main", &json!({ "type": "unregister_group", "folder": "main" }), "stays");
    assert_eq!(before, state(&home));
    // What a sandbox says of itself counts for nothing.
    let register = json!({ "type": "register_group", "jid": "9@g.us", "folder": "nine",
        "isMain": true, "groupFolder": "main" });
    refused(&home, "family", &register, "only the main group");
    assert_eq!(
        "registered; messages there are answered from now on",
        done(&home, "main", register)["state"]
    );
    assert_eq!(vec!["main"], home.texts("SELECT folder FROM groups WHERE is_main = 1"));
}

#[test]
fn a_group_that_is_registered_by_tool_is_served_at_once() {
    let home = Home::new();
    let daemon = home.start();
    let register = json!({ "type": "register_group", "jid": "script:new", "folder": "new",
        "name": "New", "requiresTrigger": false });
    done(&home, "main", register);
    assert!(home.at("groups/new/CLAUDE.md").is_file());
    home.inject("script:new", "hello");
    home.wait_answers("script:new", &["Andy: echo: hello"]);
    assert!(home.at("data/ipc/new/current_tasks.json").is_file());
    let groups = fs::read_to_string(home.at("data/ipc/new/available_groups.json")).expect("a file");
    assert!(groups.contains("\"groups\": []"), "{groups}");
    // Its own requests are seen, too.
    assert_eq!(true, ask(&home, "new", task("x"))["ok"]);
    done(&home, "main", json!({ "type": "unregister_group", "folder": "new" }));
    refused(&home, "new", &task("x"), "no registered group");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn a_search_finds_the_own_groups_messages() {
    let home = Home::new();
    for name in ["family", "work"] {
        home.register(name);
    }
    home.inject_all(&[
        ("script:family", "the Käse is in the fridge"),
        ("script:work", "the cheese plan: kase"),
    ]);
    let _daemon = home.start();
    let search = |group: &str, mut request: Value| -> Vec<String> {
        request["type"] = json!("search_messages");
        let found = done(&home, group, request);
        let messages = found["messages"].as_array().expect("a list");
        messages.iter().map(|m| m["text"].as_str().expect("a text").to_owned()).collect()
    };
    let own = vec!["the Käse is in the fridge".to_owned()];
    assert_eq!(own, search("family", json!({ "query": "kase" })));
    assert_eq!(own, search("family", json!({ "query": "FRI käs" })));
    assert_eq!(own, search("main", json!({ "query": "the", "folder": "family" })));
    assert_eq!(2, search("main", json!({ "query": "the" })).len());
    assert_eq!(1, search("main", json!({ "query": "the", "limit": 1 })).len());
    assert_eq!(Vec::<String>::new(), search("family", json!({ "query": "cheese" })));
    for query in ["chat : c", "text) OR (plan", "\"", "plan\" OR \"x", "NEAR(plan)"] {
        let found = ask(&home, "family", json!({ "type": "search_messages", "query": query }));
        assert!(!found.to_string().contains("plan:"), "{query}: {found}");
    }
    refused(&home, "family", &json!({ "type": "search_messages", "query": "!?" }), "no word");
    home.inject("script:family", "and the bread too");
    assert_eq!(1, search("family", json!({ "query": "bread" })).len());
}

#[test]
fn files_are_done_in_the_order_of_their_names() {
    let home = Home::new();
    home.register("family");
    for n in 0..100 {
        let message =
            json!({ "type": "message", "chatJid": "script:family", "text": format!("{n}") });
        put(&home, "family", "messages", &format!("{n:03}.json"), message.to_string().as_bytes());
    }
    let _daemon = home.start();
    wait_for("100 messages", || home.number("SELECT count(*) FROM outbox") == 100);
    let expected: Vec<String> = (0..100).map(|n| format!("Andy: {n}")).collect();
    assert_eq!(expected, home.answers("script:family"));
}

#[test]
fn an_id_is_done_once() {
    let home = Home::new();
    home.register("family");
    let _daemon = home.start();
    let message =
        json!({ "type": "message", "chatJid": "script:family", "text": "hi", "requestId": "a" });
    let mut new_task = task("x");
    new_task["requestId"] = json!("b");
    let mut responses = Vec::new();
    for n in 0..3 {
        for (place, request, id) in [("messages", &message, "a"), ("tasks", &new_task, "b")] {
            let name = format!("{n}.json");
            put(&home, "family", place, &name, request.to_string().as_bytes());
            wait_taken(&home, "family", place, &name);
            responses.push(response(&home, "family", id));
        }
    }
    assert_eq!(
        (1, 1),
        (home.number("SELECT count(*) FROM outbox"), home.number("SELECT count(*) FROM tasks"),)
    );
    assert_eq!(responses[..2], responses[4..]);
}
