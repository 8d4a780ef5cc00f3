//! How a daemon ends, and that there is one of a kind.

use std::time::Instant;

use rustix::process::Signal;

use crate::support::{Daemon, Home, wait_for};

#[test]
fn sigterm_lets_the_turn_end_and_its_answer_is_kept() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let chat = home.register("a");
        let daemon = home.start();
        home.inject(&chat, "slow fake:sleep=1500");
        home.wait_runs("busy", 1);
        daemon.signal(signal);
        assert_eq!(Some(0), daemon.end());
        assert_eq!(["Andy: echo: slow fake:sleep=1500"], *home.answers(&chat));
        assert_eq!(["succeeded"], *home.texts("SELECT state FROM runs"));
        assert!(home.log().trim_end().ends_with("info stopped"), "{}", home.log());
    }
}

#[test]
fn a_second_signal_ends_it_at_once_and_the_next_start_answers() {
    let home = Home::new();
    let chat = home.register("a");
    let mut daemon = home.start();
    home.inject(&chat, "slow fake:sleep=120000");
    home.wait_runs("busy", 1);
    let asked_at = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.wait_line("stopping");
    assert!(daemon.is_alive());
    daemon.signal(Signal::TERM);
    assert_eq!(Some(0), daemon.end());
    // The turn would have had ten seconds to end.
    assert!(asked_at.elapsed().as_secs() < 9, "{:?}", asked_at.elapsed());

    // What had no time to go, the next start takes away.
    let left: Vec<String> = home.texts("SELECT container_name FROM runs");
    home.edit("UPDATE messages SET text = 'now quick'");
    let daemon = home.start();
    home.wait_answers(&chat, &["Andy: echo: now quick"]);
    assert_eq!("interrupted", home.texts("SELECT state FROM runs ORDER BY id")[0]);
    let left = home.path("engine/containers").join(&left[0]);
    wait_for("the end of the first container", || !left.exists());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn a_turn_that_does_not_end_is_ended_and_answered_after_the_next_start() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "x fake:hang");
    home.wait_runs("busy", 1);
    assert_eq!(Some(0), daemon.stop());
    home.edit("UPDATE messages SET text = 'now quick'");
    let daemon = home.start();
    home.wait_answers(&chat, &["Andy: echo: now quick"]);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn what_comes_after_the_signal_waits_for_the_next_start() {
    let home = Home::new();
    let chat = home.register("a");
    let other = home.register("b");
    let mut daemon = home.start();
    home.inject(&chat, "slow fake:sleep=1500");
    home.wait_runs("busy", 1);
    daemon.signal(Signal::TERM);
    daemon.wait_line("stopping");
    home.inject(&other, "late");
    home.inject(&chat, "later");
    assert_eq!(Some(0), daemon.end());
    assert_eq!((1, 0), (home.answers(&chat).len(), home.answers(&other).len()));
    let daemon = home.start();
    home.wait_answers(&other, &["Andy: echo: late"]);
    home.wait_answers(&chat, &["Andy: echo: slow fake:sleep=1500", "Andy: echo: later"]);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h28_a_second_daemon_says_who_serves_and_exits_75() {
    let home = Home::new();
    let mut daemon = home.start();
    let held = format!("in use by process {} (daemon)", daemon.pid());
    let second = home.run(&["run"]);
    second.refused(75, &[&held]);
    assert!(daemon.is_alive());
    assert_eq!("echo: hi\n", home.run(&["ask", "hi"]).ok());
    assert_eq!(Some(0), daemon.stop());
    // Killed, it holds nothing any more.
    Daemon::start(home.command(&["run"])).kill();
    assert_eq!(Some(0), home.start().stop());
}
