//! Who runs when: slots, idle sandboxes, time-outs.

use crate::support::{Follower, Home, wait_for};

#[test]
fn h20_a_waiting_chat_gets_the_slot_of_the_longest_idle() {
    let home = Home::new().env("MAX_CONCURRENT_CONTAINERS", "2");
    let chats = ["a", "b", "c"].map(|name| home.register(name));
    let daemon = home.start();
    let follower = Follower::start(&home);
    for chat in &chats[..2] {
        home.inject(chat, "hi");
        assert_eq!("Andy: echo: hi", follower.text());
    }
    home.wait_runs("idle", 2);
    home.inject(&chats[2], "me too");
    assert_eq!("Andy: echo: me too", follower.text());
    // From the message's arrival to the start of its run.
    let wait = home.number(
        "SELECT r.started_at_ms - m.received_at_ms FROM runs r, messages m
         WHERE r.chat_jid = 'script:c' AND m.chat_jid = 'script:c'",
    );
    assert!(wait < 2_000, "{wait} ms");
    let ended = home.texts("SELECT chat_jid FROM runs WHERE ended_at_ms IS NOT NULL");
    assert_eq!(["script:a"], *ended, "the one that was idle for longest");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h20_a_chatty_chat_starves_nobody() {
    let home = Home::new().env("MAX_CONCURRENT_CONTAINERS", "1");
    let chats = ["a", "b", "c"].map(|name| home.register(name));
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chats[0], "m0 fake:sleep=400");
    home.wait_runs("busy", 1);
    let mut all = vec![(chats[1].as_str(), "b"), (chats[2].as_str(), "c")];
    all.extend((0..20).map(|_| (chats[0].as_str(), "more fake:sleep=100")));
    home.inject_all(&all);
    let mut told = Vec::new();
    while !(told.contains(&"Andy: echo: b".to_owned())
        && told.contains(&"Andy: echo: c".to_owned()))
    {
        told.push(follower.text());
    }
    // What was handed in before counts as one follow-up.
    assert!(told.len() <= 5, "{told:?}");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn at_most_as_many_run_as_allowed_and_all_are_served() {
    let home = Home::new().env("MAX_CONCURRENT_CONTAINERS", "3");
    let chats: Vec<String> = (0..10).map(|n| home.register(&format!("g{n}"))).collect();
    let daemon = home.start();
    let all: Vec<(&str, &str)> =
        chats.iter().map(|chat| (chat.as_str(), "x fake:sleep=200")).collect();
    home.inject_all(&all);
    let mut most = 0;
    wait_for("ten answers", || {
        most = most.max(home.containers().len());
        home.number("SELECT count(*) FROM outbox") == 10
    });
    assert!((2..=3).contains(&most), "{most}");
    assert_eq!(10, home.number("SELECT count(DISTINCT jid) FROM outbox"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h23_h24_an_idle_sandbox_is_closed_politely_also_after_a_silent_turn() {
    let home = Home::new().env("IDLE_TIMEOUT", "1000");
    let chats = ["spoken", "silent"].map(|name| home.register(name));
    let daemon = home.start();
    home.inject_all(&[(&chats[0], "hi"), (&chats[1], "hi fake:silent")]);
    wait_for("the end of both", || {
        home.number("SELECT count(*) FROM runs WHERE state = 'succeeded'") == 2
    });
    assert_eq!(1, home.number("SELECT count(*) FROM outbox"));
    let calls = home.engine_calls();
    assert!(!calls.contains("stop -t") && !calls.contains("rm --force"), "no kill: {calls}");
    let lives = home.number("SELECT min(ended_at_ms - started_at_ms) FROM runs");
    assert!(1_000 <= lives, "{lives} ms");
    assert_eq!(0, home.number("SELECT count(*) FROM dead_letters"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h24_a_groups_own_timeout_bounds_one_turn() {
    let home = Home::new();
    let chats = ["short", "long"].map(|name| home.register(name));
    home.edit("UPDATE groups SET container_config = '{\"timeout\":1000}' WHERE folder = 'short'");
    let daemon = home.start();
    // Two quick turns together may take longer than one may.
    let follower = Follower::start(&home);
    for _ in 0..2 {
        home.inject(&chats[0], "x fake:sleep=600");
        assert_eq!("Andy: echo: x fake:sleep=600", follower.text());
    }
    home.inject_all(&[(&chats[0], "x fake:hang"), (&chats[1], "x fake:sleep=2500")]);
    wait_for("the end of the long turn", || {
        home.number("SELECT count(*) FROM runs WHERE state = 'failed'") == 1
    });
    let error = home.texts("SELECT error FROM runs WHERE state = 'failed'");
    assert!(error[0].contains("longer than the group's 1 s"), "{error:?}");
    assert_eq!("Andy: echo: x fake:sleep=2500", follower.text());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h25_output_alone_is_no_end_of_a_turn() {
    let home = Home::new().env("IDLE_TIMEOUT", "1000").env("MAX_CONCURRENT_CONTAINERS", "1");
    let chats = ["a", "b"].map(|name| home.register(name));
    let daemon = home.start();
    let follower = Follower::start(&home);
    // Speaks at once and goes on working, for longer than an idle one may wait.
    home.inject(&chats[0], "x fake:partial=1 fake:pause=3000");
    assert_eq!("Andy: part 1", follower.text());
    home.inject(&chats[1], "waits");
    assert_eq!("Andy: echo: x fake:partial=1 fake:pause=3000", follower.text());
    assert_eq!("Andy: echo: waits", follower.text());
    assert_eq!(
        0,
        home.number("SELECT count(*) FROM runs WHERE state IN ('failed', 'interrupted')")
    );
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn a_message_during_a_turn_waits_for_it() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "slow fake:sleep=800");
    home.wait_runs("busy", 1);
    home.inject(&chat, "quick");
    assert_eq!("Andy: echo: slow fake:sleep=800", follower.text());
    assert_eq!("Andy: echo: quick", follower.text());
    assert_eq!(1, home.number("SELECT count(*) FROM runs"));
    assert_eq!(Some(0), daemon.stop());
}
