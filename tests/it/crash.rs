//! Hazard 1: whenever the program dies, every message is answered exactly once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Follower, Home, line, wait_for};

/// Serves one message with a program that dies at `place`, starts it again, and gives what the
/// other side has been sent.
fn check(place: &str) {
    let mut home = Home::new();
    let chat = home.register("a");
    home.set("RUST_CLAW_CRASH_AT", place);
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "hi");
    assert_eq!(None, daemon.end(), "it died of a signal");
    home.unset("RUST_CLAW_CRASH_AT");
    let daemon = home.start();
    let mut rows = follower.kill();
    let follower = Follower::start(&home);
    home.wait_answers(&chat, &["Andy: echo: hi"]);
    // A second answer would come before that of the next message.
    home.inject(&chat, "after");
    while rows.last().is_none_or(|row| row["text"] != "Andy: echo: after") {
        rows.push(follower.next());
    }
    let texts: Vec<&str> = rows.iter().map(|row| row["text"].as_str().expect("a text")).collect();
    assert_eq!(["Andy: echo: hi", "Andy: echo: after"], *texts, "{place}");
    assert_eq!(Some(0), daemon.stop());
    home.wait_no_runs();
}

#[test]
fn h01_killed_when_the_run_had_started() {
    check("run_started");
}

#[test]
fn h01_killed_when_the_answer_was_read() {
    check("frame_read");
}

#[test]
fn h01_killed_when_the_answer_was_committed() {
    check("outbox_committed");
}

#[test]
fn h01_killed_when_the_message_was_committed() {
    let mut home = Home::new();
    home.set("RUST_CLAW_CRASH_AT", "message_committed");
    let asked = home.run(&["ask", "hi"]);
    assert_eq!((None, ""), (asked.code, asked.stdout.as_str()));
    home.unset("RUST_CLAW_CRASH_AT");
    let daemon = home.start();
    home.wait_answers("local:main", &["echo: hi"]);
    // Nobody has shown it yet, so `chat` would; another question gets only its own.
    assert_eq!("echo: after\n", home.run(&["ask", "after"]).ok());
    assert_eq!(["echo: hi", "echo: after"], *home.answers("local:main"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h01_killed_when_the_answer_was_delivered_but_not_marked() {
    let mut home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "hi");
    home.wait_answers(&chat, &["Andy: echo: hi"]);
    home.set("RUST_CLAW_CRASH_AT", "delivery_attempted");
    let follower = Follower::start(&home);
    let first = follower.next();
    assert_eq!(None, follower.end());
    home.unset("RUST_CLAW_CRASH_AT");
    let follower = Follower::start(&home);
    let second = follower.next();
    assert_eq!(first, second, "a repeat is known by its id");
    home.inject(&chat, "after");
    assert_eq!("Andy: echo: after", follower.text());
    assert_eq!(Some(0), daemon.stop());
}

/// The next of a row of numbers that look random and are the same each time.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn h01_killed_twenty_times_at_random_each_message_is_answered_once() {
    let home = Home::new();
    let chats = [home.register("a"), home.register("b"), home.register("c")];
    let follower = Follower::start(&home);
    let mut state = 0x2545_f491_4f6c_dd1d;
    let mut sent = Vec::new();
    for round in 0..20 {
        let daemon = home.start();
        let lines: Vec<String> = (0..if round < 10 { 2 } else { 1 })
            .map(|_| {
                let number = sent.len();
                let text = format!("m{number}. fake:all fake:sleep={}", next(&mut state) % 60);
                sent.push(format!("m{number}."));
                line(&chats[number % 3], &text).to_string()
            })
            .collect();
        home.run_with(&["inject"], &lines.join("\n")).ok();
        // The time of the blow is what is tried here, so this sleep waits for nothing.
        std::thread::sleep(Duration::from_millis(next(&mut state) % 150));
        daemon.kill();
    }
    assert_eq!(30, sent.len());
    let daemon = home.start();
    wait_for("an end of all work", || {
        home.number(
            "SELECT count(*) FROM group_chats gc JOIN messages m
             ON m.chat_jid = gc.jid AND m.wakes = 1 AND m.seq > gc.cursor_seq",
        ) == 0
            && home.number("SELECT count(*) FROM outbox WHERE state <> 'sent'") == 0
    });
    assert_eq!(Some(0), daemon.stop());
    let mut answers: BTreeMap<String, u32> = BTreeMap::new();
    for row in follower.kill() {
        let text = row["text"].as_str().expect("a text");
        for word in text.split_whitespace().filter(|word| word.starts_with('m')) {
            *answers.entry(word.to_owned()).or_default() += 1;
        }
    }
    let expected: BTreeMap<String, u32> = sent.into_iter().map(|word| (word, 1)).collect();
    assert_eq!(expected, answers);
}

#[test]
fn a_kill_leaves_no_sandbox_behind_after_the_next_start() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "x fake:hang");
    wait_for("a container", || {
        !crate::support::entries(&home.path("engine/containers")).is_empty()
    });
    daemon.kill();
    let before = crate::support::entries(&home.path("engine/containers"));
    let name = before[0].file_name().expect("a name").to_string_lossy().into_owned();
    let daemon = home.start();
    wait_for("its removal", || home.engine_calls().contains(&format!("rm --force {name}")));
    let state = home.texts("SELECT state FROM runs ORDER BY id LIMIT 1");
    assert_eq!(["interrupted"], *state);
    drop(daemon);
}
