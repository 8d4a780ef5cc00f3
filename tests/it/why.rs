//! `why`, `logs`, `completions`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{Follower, Home, line, run};

#[test]
fn an_answered_message_has_its_whole_path() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "hello");
    assert_eq!("Andy: echo: hello", follower.text());
    crate::support::wait_for("the note that it was sent", || {
        home.number("SELECT count(*) FROM outbox WHERE state = 'sent'") == 1
    });
    let id = home.texts("SELECT id FROM messages").remove(0);
    for which in ["last", "1", &id, &id[..id.len() - 1]] {
        let told = home.run(&["why", which]).ok();
        for part in [
            "message    #1 ",
            "received   ",
            "matched    yes: the group answers every message",
            "queued     for ",
            "run        #1 rust-claw-a-",
            "turn       answered ",
            "outbox     #1 answer, queued ",
            "sent       acknowledged ",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("hello"), "texts are not shown: {told}");
    }
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn a_message_that_called_nobody_says_why() {
    let home = Home::new();
    home.run(&["register-group", "--jid", "script:b", "--folder", "b"]).ok();
    home.inject("script:b", "just talking");
    let told = home.run(&["why", "last"]).ok();
    assert!(told.contains("matched    no: it does not begin with @Andy"), "{told}");
    assert!(!told.contains("queued"), "{told}");
    home.inject("script:b", "@Andy hi");
    let told = home.run(&["why", "last"]).ok();
    assert!(told.contains("matched    yes: it begins with the assistant's name"), "{told}");
    assert!(told.contains("queued     it waits for a sandbox"), "{told}");
    home.run(&["set-senders", "--group", "b", "--allow", "bo@x"]).ok();
    home.inject("script:b", "@Andy once more");
    let told = home.run(&["why", "last"]).ok();
    assert!(told.contains("no: ada@x may not wake the assistant here"), "{told}");
}

#[test]
fn failures_and_what_was_given_up_are_told() {
    let home = Home::new();
    let chat = home.register("a");
    home.inject(&chat, "x");
    home.edit(
        "INSERT INTO runs (folder, kind, chat_jid, container_name, state, error, started_at_ms,
             changed_at_ms, ended_at_ms)
         SELECT 'a', 'chat', 'script:a', 'c', 'failed', 'it burnt', received_at_ms + 5,
             received_at_ms + 9, received_at_ms + 9 FROM messages;
         INSERT INTO dead_letters (folder, chat_jid, first_seq, last_seq, attempt_count, error,
             created_at_ms) VALUES ('a', 'script:a', 1, 1, 6, 'it burnt', 1);
         UPDATE group_chats SET cursor_seq = 1 WHERE jid = 'script:a';",
    );
    let told = home.run(&["why", "last"]).ok();
    assert!(told.contains("run        #1 failed ") && told.contains(": it burnt"), "{told}");
    assert!(told.contains("gave up    ") && told.contains("rust-claw retry 1"), "{told}");
}

#[test]
fn a_message_that_is_not_stored_or_not_clear_is_said() {
    let home = Home::new();
    home.run(&["why", "last"]).refused(1, &["no message `last`"]);
    let chat = home.register("a");
    let lines = ["id-1", "id-2"].map(|id| {
        let mut line = line(&chat, "x");
        line["id"] = id.into();
        line.to_string()
    });
    home.run_with(&["inject"], &lines.join("\n")).ok();
    home.run(&["why", "id-"]).refused(1, &["may be id-1 or id-2"]);
    assert!(home.run(&["why", "id-2"]).ok().contains("#2 id-2"));
    home.run(&["why", "id-3"]).refused(1, &["no message `id-3`", "is not stored"]);
    home.run(&["why", "%"]).refused(1, &["no message"]);
}

#[test]
fn logs_are_shown_by_group_and_level_and_followed() {
    let home = Home::new();
    home.run(&["logs"]).ok();
    let (a, b) = (home.register("a"), home.register("b"));
    let daemon = home.start();
    let mut follow = home.command(&["logs", "--follow", "--group", "b"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().expect("it starts");
    home.inject_all(&[(&a, "one"), (&b, "two")]);
    home.wait_answers(&a, &["Andy: echo: one"]);
    home.wait_answers(&b, &["Andy: echo: two"]);
    let mut lines = BufReader::new(follow.stdout.take().expect("was asked for")).lines();
    let first = lines.next().expect("a line").expect("a text");
    assert!(first.contains("group=b") && first.contains("started"), "{first}");
    follow.kill().expect("it is our child");
    follow.wait().expect("it is our child");
    let of_a = home.run(&["logs", "--group", "a"]).ok();
    assert!(of_a.contains("group=a") && !of_a.contains("group=b"), "{of_a}");
    assert!(home.run(&["logs"]).ok().contains(" ready pid="));
    assert_eq!("", home.run(&["logs", "--level", "error"]).ok());
    assert_eq!(1, home.run(&["logs", "--lines", "1"]).ok().lines().count());
    home.run(&["logs", "--group", "none"]).refused_somehow(1);
    home.run(&["logs", "--level", "loud"]).refused_somehow(1);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn completions_are_what_bash_can_read() {
    let home = Home::new();
    let text = home.run(&["completions", "bash"]).ok();
    let script = format!(
        "{text}\nCOMP_WORDS=(rust-claw --home x status --w); COMP_CWORD=4; _rust_claw\n\
         echo \"${{COMPREPLY[@]}}\"; COMP_WORDS=(rust-claw comp); COMP_CWORD=1; _rust_claw\n\
         echo \"${{COMPREPLY[@]}}\"\n"
    );
    let mut bash = std::process::Command::new("bash");
    bash.arg("-c").arg(script);
    assert_eq!("--watch\ncompletions\n", run(bash, b"").ok());
    home.run(&["completions", "tcsh"]).refused(1, &["allowed: bash, zsh, fish"]);
}

#[test]
fn fish_completes_commands_and_their_options() {
    let mut home = Home::new();
    fs::write(home.path("rust-claw.fish"), home.run(&["completions", "fish"]).ok())
        .expect("a file");
    let script = r#"source rust-claw.fish; complete -C "rust-claw unreg"
                    complete -C "rust-claw schedule-task --cro""#;
    home.set("SCRIPT", script);
    let told = home.shell(r#"fish --no-config --command "$SCRIPT""#, "").ok();
    let words: Vec<&str> = told.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(vec!["unregister-group", "--cron"], words, "{told}");
}

/// In a terminal of its own, by the tabulator key.
#[test]
fn zsh_completes_commands_and_their_options() {
    let mut home = Home::new();
    fs::create_dir(home.path("functions")).expect("a folder");
    fs::write(home.path("functions/_rust-claw"), home.run(&["completions", "zsh"]).ok())
        .expect("a file");
    let script = r#"
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'fpath=($PWD/functions $fpath); autoload -Uz compinit; compinit -u -D; echo IS-READY'
        zpty -r shell seen $'*\nIS-READY*'
        zpty -n -w shell $'rust-claw unreg\t --f\t'
        zpty -r shell seen '*unregister-group*--folder*'
        print -r -- "$seen"
        zpty -d shell
    "#;
    home.set("SCRIPT", script);
    let told = home.shell(r#"timeout 60 zsh -f -c "$SCRIPT""#, "").ok();
    assert!(told.contains("unregister-group") && told.contains("--folder"), "{told:?}");
}
