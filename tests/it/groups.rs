//! `register-group`, `unregister-group`, `list-groups`: who is served, and in which folder.

use std::fs;

use serde_json::Value;

use crate::support::{Follower, Home, line};

fn groups(home: &Home) -> Vec<Value> {
    home.json(&["list-groups", "--json"]).as_array().expect("a list").clone()
}

#[test]
fn the_first_start_has_main_and_every_group_a_terminal() {
    let home = Home::new();
    let list = groups(&home);
    assert_eq!(1, list.len());
    assert_eq!(
        (Some("main"), Some(true)),
        (list[0]["folder"].as_str(), list[0]["is_main"].as_bool())
    );
    assert_eq!(serde_json::json!(["local:main"]), list[0]["chats"]);
    home.run(&[
        "register-group",
        "--jid",
        "1-2@g.us",
        "--name",
        "The family",
        "--folder",
        "family",
        "--trigger",
        "@José",
    ])
    .ok();
    let list = groups(&home);
    let family = &list.iter().find(|group| group["folder"] == "family").expect("it is there");
    assert_eq!(
        ("The family", "@José"),
        (family["name"].as_str().expect("a name"), family["trigger"].as_str().expect("a trigger"),)
    );
    assert_eq!((false, true), (family["is_main"] == true, family["requires_trigger"] == true));
    assert_eq!(serde_json::json!(["local:family", "1-2@g.us"]), family["chats"]);
    let table = home.run(&["list-groups"]).ok();
    assert!(table.starts_with("folder") && table.contains("The family"), "{table}");
    assert_eq!("echo: hi\n", home.run(&["ask", "--group", "family", "hi"]).ok());
}

#[test]
fn a_further_chat_needs_attach() {
    let home = Home::new();
    home.register("a");
    let again = ["register-group", "--jid", "script:b", "--folder", "a"];
    home.run(&again).refused(1, &["--attach"]);
    home.run(&[&again[..], &["--attach"]].concat()).ok();
    let list = groups(&home);
    assert_eq!(2, list.len());
    assert_eq!(serde_json::json!(["local:a", "script:a", "script:b"]), list[1]["chats"]);
    home.run(&["register-group", "--jid", "script:b", "--folder", "c"]).refused(1, &["script:b"]);
    home.run(&["register-group", "--jid", "script:x", "--folder", "nope", "--attach"])
        .refused(1, &["nope"]);
}

#[test]
fn unregistering_keeps_the_files_and_ends_the_service() {
    let home = Home::new();
    let chat = home.register("a");
    fs::write(home.at("groups/a/notes"), "mine").expect("a file");
    home.run(&["unregister-group", "--folder", "a"]).ok();
    assert_eq!(1, groups(&home).len());
    assert_eq!("mine", fs::read_to_string(home.at("groups/a/notes")).expect("it is there"));
    let inject = home.run_with(&["inject"], &line(&chat, "hi").to_string());
    assert_eq!(Some(1), inject.code, "{inject:?}");
    assert!(inject.stderr.contains("`script:a` is not served"), "{inject:?}");

    home.register("b");
    home.run(&["unregister-group", "--jid", "script:b"]).ok();
    let chats = groups(&home).iter().map(|group| group["chats"].to_string()).collect::<String>();
    assert!(!chats.contains("script:b") && chats.contains("local:b"), "{chats}");

    home.run(&["unregister-group", "--folder", "zzz"]).refused(1, &["zzz"]);
    home.run(&["unregister-group", "--jid", "script:zzz"]).refused(1, &["script:zzz"]);
    home.run(&["unregister-group", "--folder", "main"]).refused(1, &["main"]);
    home.run(&["unregister-group"]).refused(1, &["--folder", "--jid"]);
}

#[test]
fn h49_h56_names_that_are_none_are_refused_and_change_nothing() {
    let home = Home::new();
    let long = "x".repeat(65);
    for folder in [
        "../../etc",
        "",
        ".",
        "a/b",
        "global",
        "GLOBAL",
        "errors",
        "-a",
        "a b",
        "a:b",
        "a,b",
        &long,
    ] {
        let done =
            home.run(&["register-group", "--jid", "script:x", &format!("--folder={folder}")]);
        let done = if done.stderr.contains("Unrecognized argument") {
            home.run(&["register-group", "--jid", "script:x", "--folder", folder])
        } else {
            done
        };
        assert_eq!(Some(1), done.code, "{folder:?}: {done:?}");
    }
    let spaces = format!("script:{}", "x".repeat(300));
    for jid in ["", "x", "script:", "local:../x", "a@b@c", "a b@c", "a\nb@c", &spaces] {
        home.run(&["register-group", "--jid", jid, "--folder", "a"])
            .refused(1, &["chat `", "is not allowed"]);
    }
    assert_eq!(1, groups(&home).len());
    assert_eq!(0, home.number("SELECT count(*) FROM group_chats WHERE jid <> 'local:main'"));
    assert!(!home.path("etc").exists() && !home.at("groups/a").exists());
}

#[test]
fn h53_main_cannot_be_replaced() {
    let home = Home::new();
    for args in [
        &["register-group", "--jid", "script:evil", "--folder", "main"][..],
        &["register-group", "--jid", "script:evil", "--folder", "Main"],
        &["register-group", "--jid", "script:evil", "--folder", "other", "--main"],
        &["register-group", "--jid", "local:main", "--folder", "other"],
    ] {
        let done = home.run(args);
        assert_eq!((Some(1), 1), (done.code, done.stderr.lines().count()), "{args:?}: {done:?}");
    }
    let list = groups(&home);
    assert_eq!((1, serde_json::json!(["local:main"])), (list.len(), list[0]["chats"].clone()));
    assert_eq!("echo: hi\n", home.run(&["ask", "hi"]).ok());
}

#[test]
fn h61_a_corrupt_group_is_skipped_and_said() {
    let home = Home::new();
    let chat = home.register("good");
    home.register("bad");
    home.register("worse");
    home.edit(
        "PRAGMA ignore_check_constraints = ON;
         UPDATE groups SET container_config = '{\"timeout\":\"x\"}' WHERE folder = 'bad';
         UPDATE group_chats SET folder = 'good' WHERE folder = 'worse';
         UPDATE groups SET folder = '../../etc' WHERE folder = 'worse';",
    );
    let done = home.run(&["list-groups"]);
    assert!(done.stderr.contains("bad") && done.stderr.contains("../../etc"), "{done:?}");
    assert!(done.ok().contains("good"));
    let daemon = home.start();
    let follower = Follower::start(&home);
    let status = home.json(&["status", "--json"]);
    let unreadable = status["groups_unreadable"].to_string();
    assert!(unreadable.contains("bad") && unreadable.contains("../../etc"), "{unreadable}");
    home.inject(&chat, "hi");
    assert_eq!("Andy: echo: hi", follower.text());
    assert!(!home.path("etc").exists());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h71_triggers_of_all_alphabets_wake_and_others_come_along() {
    let home = Home::new();
    for (folder, trigger) in [("a", "José"), ("b", "@小助手"), ("c", "Andy.*")] {
        let jid = format!("script:{folder}");
        home.run(&["register-group", "--jid", &jid, "--folder", folder, "--trigger", trigger]).ok();
    }
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject_all(&[
        ("script:a", "@Andy no"),
        ("script:a", "José no"),
        ("script:a", "@Josés no"),
        ("script:b", "@Andy no"),
        ("script:c", "@Andyman no"),
    ]);
    home.inject("script:a", "@JOSÉ, fake:all");
    let answer = follower.text();
    for text in ["echo: @Andy no", "echo: José no", "echo: @Josés no", "echo: @JOSÉ, fake:all"] {
        assert!(answer.contains(text), "context comes along: {answer}");
    }
    home.inject("script:b", "@小助手你好");
    assert_eq!("Andy: echo: @小助手你好", follower.text());
    home.inject("script:c", "@andy.* yes");
    assert_eq!("Andy: echo: @andy.* yes", follower.text());
    assert_eq!(3, home.number("SELECT count(*) FROM outbox"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h73_memory_comes_from_a_template_and_is_never_overwritten() {
    let home = Home::new();
    home.register("a");
    let memory = home.at("groups/a/CLAUDE.md");
    let text = fs::read_to_string(&memory).expect("it is there");
    assert!(text.contains("Andy") && !text.contains("{{"), "{text}");
    for folder in ["main", "global"] {
        // Main's own is written when it is first served.
        home.run(&["ask", "hi"]).ok();
        let text =
            fs::read_to_string(home.at(&format!("groups/{folder}/CLAUDE.md"))).expect(folder);
        assert!(!text.contains("{{") && !text.trim().is_empty(), "{text}");
        fs::write(home.at(&format!("groups/{folder}/CLAUDE.md")), "my own").expect("it is ours");
    }
    fs::write(&memory, "my own").expect("it is ours");
    home.run(&["unregister-group", "--folder", "a"]).ok();
    home.register("a");
    home.run(&["ask", "--group", "a", "hi"]).ok();
    home.run(&["ask", "hi"]).ok();
    for folder in ["a", "main", "global"] {
        let path = home.at(&format!("groups/{folder}/CLAUDE.md"));
        assert_eq!("my own", fs::read_to_string(path).expect(folder));
    }
}
