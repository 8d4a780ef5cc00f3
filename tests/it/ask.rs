//! `ask`: one question, one answer, an exit code.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Daemon, Follower, Home, wait_for};

#[test]
fn ask_answers_on_stdout_with_and_without_a_daemon() {
    let home = Home::new();
    assert_eq!("echo: hi there\n", home.run(&["ask", "hi", "there"]).ok());
    assert_eq!("echo: from a pipe\n", home.run_with(&["ask"], "from a pipe\n").ok());
    assert_eq!("echo: -5 degrees?\n", home.run(&["ask", "--", "-5 degrees?"]).ok());
    let daemon = home.start();
    assert_eq!("echo: beside a daemon\n", home.run(&["ask", "beside a daemon"]).ok());
    assert_eq!("echo: and again\n", home.run(&["ask", "and again"]).ok());
    assert_eq!(Some(0), daemon.stop());
    assert_eq!(0, home.number("SELECT count(*) FROM outbox WHERE state <> 'sent'"));
}

#[test]
fn ask_may_be_told_to_wait_for_ever() {
    let home = Home::new();
    let ask = ["ask", "--timeout", "18446744073709551615", "hi"];
    assert_eq!("echo: hi\n", home.run(&ask).ok());
}

#[test]
fn ask_json_is_one_object() {
    let home = Home::new();
    let answer = home.json(&["ask", "--json", "x fake:partial=2"]);
    assert_eq!("main", answer["group"]);
    assert_eq!("part 1\n\npart 2\n\necho: x fake:partial=2", answer["answer"]);
    assert!(answer["seq"].is_i64() && answer["duration_ms"].is_u64(), "{answer}");
}

#[test]
fn ask_of_another_group_goes_to_its_own_sandbox() {
    let home = Home::new();
    home.register("work");
    assert_eq!(
        "echo: fake:write=here\n",
        home.run(&["ask", "--group", "work", "fake:write=here"]).ok()
    );
    assert!(home.at("groups/work/here").is_file());
    assert!(!home.at("groups/main/here").exists());
    home.run(&["ask", "--group", "nobody", "x"]).refused(1, &["no group `nobody`", "list-groups"]);
    home.run(&["ask", "--group", "../x", "x"]).refused(1, &["folder `../x` is not allowed"]);
}

#[test]
fn ask_without_a_question_is_refused() {
    let home = Home::new();
    home.run(&["ask"]).refused(1, &["no question"]);
    home.run(&["ask", "--timeout", "x", "y"]).refused_somehow(1);
    home.run_with(&["ask"], " \n\t\n").refused(1, &["no question"]);
    let long = "x".repeat(65_537);
    home.run_with(&["ask"], &long).refused(1, &["the question is longer than 65536 bytes"]);
    home.run(&["ask", &long]).refused(1, &["the question is longer than 65536 bytes"]);
}

#[test]
fn ask_says_that_the_agent_failed_and_leaves_nothing_behind() {
    let home = Home::new();
    home.run(&["ask", "fake:error=other"]).refused(1, &["the agent failed: fake error: other"]);
    home.run(&["ask", "fake:exit=3"]).refused(1, &["the agent failed", "exit status 3"]);
    // Who asked was told, so nobody waits for these any more.
    let daemon = home.start();
    assert_eq!("echo: next\n", home.run(&["ask", "next"]).ok());
    let status = home.json(&["status", "--json"]);
    assert_eq!((0, 0), (count(&status["queue"]), count(&status["retries"])), "{status}");
    assert_eq!(Some(0), daemon.stop());
}

fn count(list: &Value) -> usize {
    list.as_array().expect("a list").len()
}

#[test]
fn ask_out_of_time_is_75_and_the_answer_is_kept() {
    let home = Home::new();
    let daemon = home.start();
    let late = home.run(&["ask", "--timeout", "1", "late fake:sleep=2500"]);
    late.refused(75, &["no answer within 1 s"]);
    wait_for("the late answer", || home.answers("local:main") == ["echo: late fake:sleep=2500"]);
    let piped = home.run_with(&["chat"], "next\n").ok();
    assert!(piped.ends_with("echo: next\n"), "{piped}");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn two_asks_at_once_get_each_its_own_answer() {
    let home = Home::new();
    let answers = std::thread::scope(|scope| {
        let ask = |text: &'static str| {
            let home = &home;
            scope.spawn(move || home.run(&["ask", text]).ok())
        };
        let asked = [ask("one fake:all"), ask("two fake:all"), ask("three fake:all")];
        asked.map(|asked| asked.join().expect("no panic"))
    });
    for (answer, word) in answers.iter().zip(["one", "two", "three"]) {
        assert!(answer.contains(&format!("echo: {word} fake:all")), "{word}: {answers:?}\n{:?}",
            home.texts("SELECT 'seq ' || seq || ' ' || text FROM messages UNION ALL SELECT 'answers_seq ' || answers_seq || ' ' || text FROM outbox"));
    }
}

#[test]
fn an_answer_cannot_steer_the_terminal() {
    let home = Home::new();
    let answer = home.run(&["ask", "a\u{1b}]0;title\u{7}b"]).ok();
    assert!(!answer.contains(['\u{1b}', '\u{7}']), "{answer:?}");
}

#[test]
fn ask_and_the_script_channel_do_not_mix() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "by script");
    assert_eq!("echo: in the terminal\n", home.run(&["ask", "in the terminal"]).ok());
    assert_eq!("Andy: echo: by script", follower.text());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn ask_that_is_interrupted_takes_its_question_and_its_sandbox_along() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        home.register("a");
        let asking = Daemon::spawn(home.command(&["ask", "x fake:sleep=120000"]));
        home.wait_runs("busy", 1);
        asking.signal(signal);
        assert_eq!(Some(130), asking.end());
        assert_eq!(Vec::<std::path::PathBuf>::new(), home.containers());
        let status = home.json(&["status", "--json"]);
        assert_eq!((0, 0), (count(&status["queue"]), count(&status["sandboxes"])), "{status}");
        // Nobody asks it again.
        assert_eq!("echo: next\n", home.run(&["ask", "next"]).ok());
    }
}

#[test]
fn ask_that_is_interrupted_beside_a_daemon_takes_its_question_back() {
    let mut home = Home::new();
    home.set("MAX_CONCURRENT_CONTAINERS", "1");
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "x fake:sleep=3000");
    home.wait_runs("busy", 1);
    let asking = Daemon::spawn(home.command(&["ask", "second"]));
    wait_for("its question", || home.number("SELECT count(*) FROM messages") == 2);
    asking.signal(Signal::INT);
    assert_eq!(Some(130), asking.end());
    home.wait_answers(&chat, &["Andy: echo: x fake:sleep=3000"]);
    assert_eq!(Some(0), daemon.stop());
    assert_eq!(Vec::<String>::new(), home.answers("local:main"));
}
