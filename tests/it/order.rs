//! What reaches the agent when: cursors, follow-ups, `_close`, failures.

use serde_json::Value;

use rust_claw::limits::{RETRIES_MAX, RETRY_FIRST};

use crate::support::{Follower, Home, line, wait_for, wait_longer};

fn with_time(chat: &str, text: &str, sent_at_ms: i64) -> Value {
    let mut line = line(chat, text);
    line["sent_at_ms"] = sent_at_ms.into();
    line
}

#[test]
fn h02_h03_the_order_of_arrival_counts_and_no_clock() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    for (text, sent_at_ms) in
        [("same", 100_000), ("same too", 100_000), ("older", 95_000), ("oldest", 0)]
    {
        home.run_with(&["inject"], &with_time(&chat, text, sent_at_ms).to_string()).ok();
        assert_eq!(format!("Andy: echo: {text}"), follower.text());
    }
    assert_eq!(4, home.number("SELECT count(*) FROM outbox"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h04_a_follow_up_that_was_not_read_is_pending_again() {
    let home = Home::new().env("CONTAINER_TIMEOUT", "60000");
    let chat = home.register("a");
    let daemon = home.start();
    // The first turn ends without an answer, after the second message was handed in.
    home.inject(&chat, "first fake:sleep=1500 fake:exit=0");
    home.wait_runs("busy", 1);
    home.inject(&chat, "second fake:all");
    wait_for("the follow-up", || home.log().contains("follow_up="));
    home.edit("UPDATE messages SET text = 'first' WHERE seq = 1");
    home.wait_answers(&chat, &["Andy: echo: first\necho: second fake:all"]);
    assert_eq!(["failed", "idle"], *home.texts("SELECT state FROM runs ORDER BY id"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn follow_ups_go_into_the_running_sandbox() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    for n in 0..5 {
        home.inject(&chat, &format!("m{n}"));
        assert_eq!(format!("Andy: echo: m{n}"), follower.text());
    }
    assert_eq!(1, home.number("SELECT count(*) FROM runs"));
    home.wait_runs("idle", 1);
    assert_eq!(5, home.number("SELECT turn_count FROM runs"));
    // Another chat of the same group waits for its own run.
    home.run(&["register-group", "--jid", "script:b", "--folder", "a", "--attach"]).ok();
    home.inject("script:b", "other");
    assert_eq!("Andy: echo: other", follower.text());
    assert_eq!(["script:a", "script:b"], *home.texts("SELECT chat_jid FROM runs ORDER BY id"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h05_follow_up_racing_close_is_not_lost() {
    let home = Home::new().env("IDLE_TIMEOUT", "1000");
    let chats: Vec<String> = (0..20).map(|n| home.register(&format!("g{n}"))).collect();
    let home = home.env("MAX_CONCURRENT_CONTAINERS", "20");
    let daemon = home.start();
    let follower = Follower::start(&home);
    let rounds = 4;
    for round in 0..rounds {
        let all: Vec<(&str, String)> =
            chats.iter().map(|chat| (chat.as_str(), format!("{chat}-{round} fake:all"))).collect();
        let all: Vec<(&str, &str)> =
            all.iter().map(|(chat, text)| (*chat, text.as_str())).collect();
        home.inject_all(&all);
        for _ in &chats {
            follower.next();
        }
        // Each chat's next message comes at another moment around its `_close`: what is tried
        // here is time, so these sleeps wait for nothing.
        std::thread::sleep(std::time::Duration::from_millis(880));
        let mut sent = 0;
        for chat in &chats {
            home.inject(chat, &format!("{chat}-{round}b fake:all"));
            sent += 1;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        for _ in 0..sent {
            follower.next();
        }
    }
    for chat in &chats {
        let expected: Vec<String> = (0..rounds)
            .flat_map(|round| {
                ["", "b"].map(|half| format!("Andy: echo: {chat}-{round}{half} fake:all"))
            })
            .collect();
        assert_eq!(expected, home.answers(chat));
    }
    assert_eq!(0, home.number("SELECT count(*) FROM dead_letters"));
    assert_eq!(0, home.number("SELECT count(*) FROM runs WHERE state = 'failed'"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h08_a_failed_message_is_tried_again_and_the_one_before_is_not() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "first fake:all");
    assert_eq!("Andy: echo: first fake:all", follower.text());
    home.inject(&chat, "second fake:error=other");
    wait_for("a failed run", || {
        home.number("SELECT count(*) FROM runs WHERE state = 'failed'") == 1
    });
    let retries = &home.json(&["status", "--json"])["retries"];
    assert_eq!("fake error: other", retries[0]["error"]);
    home.edit("UPDATE messages SET text = 'second fake:all' WHERE seq = 2");
    assert_eq!("Andy: echo: second fake:all", follower.text());
    assert_eq!(2, home.number("SELECT count(*) FROM outbox"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h12_steady_messages_do_not_hurry_a_failing_agent() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "m fake:exit=1");
    wait_for("a failed run", || {
        home.number("SELECT count(*) FROM runs WHERE state = 'failed'") == 1
    });
    for _ in 0..20 {
        home.inject(&chat, "more fake:exit=1");
    }
    // The second attempt comes after the pause, whatever was sent meanwhile.
    wait_for("a second attempt", || home.number("SELECT count(*) FROM runs") == 2);
    let pause = home.number(
        "SELECT (SELECT started_at_ms FROM runs WHERE id = 2) - ended_at_ms FROM runs WHERE id = 1",
    );
    assert!(4_900 <= pause, "{pause} ms");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h11_after_five_growing_pauses_a_message_is_given_up_and_told_once() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "m fake:error=other");
    let pauses = RETRY_FIRST * (2_u32.pow(RETRIES_MAX) - 1);
    wait_longer(pauses, "the end of all attempts", || !home.answers(&chat).is_empty());
    let runs = home.number("SELECT count(*) FROM runs WHERE state = 'failed'");
    assert_eq!(i64::from(1 + RETRIES_MAX), runs);
    for attempt in 1..=RETRIES_MAX {
        let pause = home.number(&format!(
            "SELECT (SELECT started_at_ms FROM runs WHERE id = {attempt} + 1) - ended_at_ms
             FROM runs WHERE id = {attempt}"
        ));
        let least = RETRY_FIRST * 2_u32.pow(attempt - 1);
        // The program counts from its own look at the clock, a little before.
        assert!(least.as_millis() <= u128::try_from(pause + 100).expect("no less than 0"));
    }
    let given_up = "after 6 attempts: fake error: other";
    let status = home.run(&["status"]).ok();
    assert!(status.contains(&format!("gave up    #1 {chat} after 6 attempts")), "{status}");
    let why = home.run(&["why", "last"]).ok();
    assert!(why.contains("gave up    ") && why.contains("rust-claw retry 1"), "{why}");
    assert_eq!(Some(0), daemon.stop());
    // The pause that protects a chat which goes on writing to a broken agent ends with the program.
    let daemon = home.start();
    home.inject(&chat, "n");
    wait_for("the next answer", || home.answers(&chat).len() == 2);
    let answers = home.answers(&chat);
    assert!(answers[0].starts_with('⚠') && answers[0].contains(given_up), "{answers:?}");
    assert_eq!("Andy: echo: n", answers[1]);
    assert_eq!(1, home.number("SELECT count(*) FROM dead_letters"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h11_h16_a_refused_key_is_told_once_and_not_echoed() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "hi fake:error=credential");
    let notice = follower.next();
    assert_eq!("notice", notice["kind"]);
    let text = notice["text"].as_str().expect("a text").to_owned();
    assert!(text.starts_with('⚠') && text.contains(".env"), "{text}");
    wait_for("a second failure", || {
        home.number("SELECT count(*) FROM runs WHERE state = 'failed'") == 2
    });
    home.edit("UPDATE messages SET text = 'hi again'");
    assert_eq!("Andy: echo: hi again", follower.text(), "the next attempt is answered");
    assert_eq!(2, home.number("SELECT count(*) FROM outbox"), "one notice, one answer");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h16_errors_of_every_kind_are_no_answers() {
    let home = Home::new();
    let kinds = ["billing", "rate_limit", "other"];
    let chats = kinds.map(|kind| home.register(kind));
    let daemon = home.start();
    for (chat, kind) in chats.iter().zip(kinds) {
        home.inject(chat, &format!("x fake:error={kind}"));
    }
    wait_for("three failed runs", || {
        home.number("SELECT count(*) FROM runs WHERE state = 'failed'") == 3
    });
    assert_eq!(0, home.number("SELECT count(*) FROM outbox WHERE kind = 'answer'"));
    wait_for("the notice", || home.answers(&chats[0]).len() == 1);
    assert!(home.answers(&chats[0])[0].contains("no credit"), "{:?}", home.answers(&chats[0]));
    assert!(home.answers(&chats[1]).is_empty() && home.answers(&chats[2]).is_empty());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h36_h37_a_dead_session_and_a_full_one_are_left_behind() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    for kind in ["session_unknown", "overflow"] {
        home.inject(&chat, "x fake:session=old");
        assert_eq!("Andy: echo: x fake:session=old", follower.text());
        wait_for("the session", || home.texts("SELECT session_id FROM sessions") == ["old"]);
        home.inject(&chat, &format!("y fake:error={kind}"));
        wait_for("no session", || home.number("SELECT count(*) FROM sessions") == 0);
        home.edit("UPDATE messages SET text = 'z' WHERE text LIKE 'y%'");
        assert_eq!("Andy: echo: z", follower.text());
        assert_eq!(["fake-session"], *home.texts("SELECT session_id FROM sessions"));
    }
    assert_eq!(0, home.number("SELECT count(*) FROM outbox WHERE text LIKE '%fake error%'"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h55_what_is_internal_stays_inside() {
    let home = Home::new();
    // What a person writes is escaped on its way in, so the agent's echo has no tag.
    assert_eq!("echo: a &lt;internal&gt;b\n", home.run(&["ask", "a <internal>b"]).ok());
}
