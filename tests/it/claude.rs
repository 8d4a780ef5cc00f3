//! The real Claude Code CLI in a sandbox, against a model API that is a script, through the proxy
//! that keeps the key outside.

use crate::support::{Follower, Home, KEY, Kind, Model, wait_for};

fn check(kind: Kind) {
    let mut home = Home::with(kind);
    let model = Model::start(&mut home);
    assert_eq!("I am the model.\n", home.run(&["ask", "SAY I am the model."]).ok(), "{kind:?}");
    assert_eq!("Once more.\n", home.run(&["ask", "SAY Once more."]).ok());
    // The second sandbox continued the session of the first.
    let last = model.requests().pop().expect("there were requests");
    let told = last["body"]["messages"].to_string();
    assert!(told.contains("SAY I am the model.") && told.contains("SAY Once more."), "{told}");

    // Everything that a process inside can look at.
    let look = "TOOL Bash {\"command\":\"env; cat /proc/*/environ /proc/*/cmdline | tr '\\\\0' \
                '\\\\n'; cat /home/node/.claude/* /workspace/ipc/* 2>/dev/null; echo looked\"}";
    let answer = home.run(&["ask", &format!("{look}\nSAY Looked.")]).ok();
    assert_eq!("Looked.\n", answer);
    let last = model.requests().pop().expect("there were requests");
    let told = last["body"]["messages"].to_string();
    assert!(told.contains("ANTHROPIC_BASE_URL=http://127.0.0.1"), "the tool ran: {told}");
    assert!(told.contains("looked"), "the tool ran to its end: {told}");

    for request in model.requests() {
        assert_eq!(KEY, request["headers"]["x-api-key"], "the real key is put in outside");
        let body = request["body"].to_string();
        let at = body.find(KEY).map(|at| &body[at.saturating_sub(300)..at + 100]);
        assert_eq!(None, at, "h52: the key was inside");
    }
    assert_eq!(1, home.number("SELECT count(DISTINCT session_id) FROM sessions"));
    assert!(home.number("SELECT sum(input_tokens) FROM runs") >= 300, "tokens are counted");
}

#[test]
fn h52_claude_cli_under_bwrap_answers_and_never_sees_the_key() {
    check(Kind::Bwrap);
}

#[test]
fn h52_claude_cli_in_docker_answers_and_never_sees_the_key() {
    check(Kind::Docker);
}

#[test]
fn h16_claude_cli_under_bwrap_with_a_refused_key_gives_one_notice() {
    let mut home = Home::with(Kind::Bwrap);
    let model = Model::start(&mut home);
    home.write_env("ANTHROPIC_API_KEY=sk-ant-planted-other-key\n");
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "SAY hello");
    let notice = follower.next();
    assert_eq!("notice", notice["kind"]);
    wait_for("a second attempt", || home.number("SELECT count(*) FROM runs") == 2);
    wait_for("its failure", || {
        home.number("SELECT count(*) FROM runs WHERE state = 'failed'") == 2
    });
    assert_eq!(1, home.number("SELECT count(*) FROM outbox"));
    assert!(!notice["text"].to_string().contains("planted"), "{notice}");
    assert!(model.requests().len() <= 4, "the CLI's own retries were cut short");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn claude_cli_under_bwrap_takes_follow_ups_into_the_running_conversation() {
    let mut home = Home::with(Kind::Bwrap);
    let model = Model::start(&mut home);
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "SAY one");
    assert_eq!("Andy: one", follower.text());
    home.inject(&chat, "SAY two");
    assert_eq!("Andy: two", follower.text());
    assert_eq!(1, home.number("SELECT count(*) FROM runs"), "in one sandbox");
    let told = model.requests().pop().expect("requests")["body"]["messages"].to_string();
    assert!(told.contains("SAY one") && told.contains("SAY two"), "{told}");
    assert_eq!(Some(0), daemon.stop());
    assert_eq!(["succeeded"], *home.texts("SELECT state FROM runs"));
}

#[test]
fn h01_claude_cli_under_bwrap_killed_in_the_middle_answers_once() {
    let mut home = Home::with(Kind::Bwrap);
    let model = Model::start(&mut home);
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "SLOW 40\nSAY a b c d e f g h i j k l m n o p q r s t u v w x y z");
    wait_for("a request", || !model.requests().is_empty());
    daemon.kill();
    let daemon = home.start();
    home.wait_answers(&chat, &["Andy: a b c d e f g h i j k l m n o p q r s t u v w x y z"]);
    assert_eq!(Some(0), daemon.stop());
}
