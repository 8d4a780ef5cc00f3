//! The real Claude Code CLI, where something goes wrong.

use rust_claw_protocol::{ErrorKind, Input};
use rustix::process::{Pid, Signal, kill_process};

use crate::claude_cli_turns::api_and_input;
use crate::harness::{Group, Run, input};

/// Runs a turn with `prompt`, which must fail as `expected`, and gives the error's text.
fn check(group: &Group, prompt: &str, expected: ErrorKind) -> String {
    let (_api, input) = api_and_input(prompt);
    let mut run = group.run(&input);
    let failed = run.failure();
    assert_eq!(Some(expected), failed.error_kind, "{failed:?}");
    let ended = run.end();
    assert_eq!((Some(1), 0), (ended.status.code(), ended.frames.len()));
    let error = failed.error.expect("says why");
    assert!(!error.contains("planted"), "{error}");
    error
}

#[test]
fn h16_a_refused_key_is_an_error_after_one_request() {
    let group = Group::with_claude();
    let (api, input) = api_and_input("ERROR 401 invalid x-api-key");
    let failed = group.run(&input).failure();
    assert_eq!(Some(ErrorKind::Credential), failed.error_kind);
    assert_eq!(1, api.prompts().len(), "not ten, as the CLI would");
    check(&group, "ERROR 403 forbidden", ErrorKind::Credential);
}

#[test]
fn h16_no_credit_is_an_error() {
    let prompt = "ERROR 400 Your credit balance is too low to access the Anthropic API.";
    check(&Group::with_claude(), prompt, ErrorKind::Billing);
}

#[test]
fn h16_what_else_the_model_api_refuses_is_an_error() {
    let error = check(&Group::with_claude(), "ERROR 400 no such thing", ErrorKind::Other);
    assert!(error.contains("no such thing"), "{error}");
}

#[test]
fn a_busy_model_api_is_asked_again_and_then_reported() {
    let group = Group::with_claude();
    let (api, input) = api_and_input("ERROR*1 529 overloaded\nERROR*1 429 slow down\nSAY at last");
    assert_eq!(Some("at last"), group.run(&input).answer().result.as_deref());
    assert_eq!(3, api.prompts().len());
    let group = Group::with_claude().env("CLAUDE_CODE_MAX_RETRIES", "1");
    check(&group, "ERROR 529 overloaded", ErrorKind::RateLimit);
    check(&group, "ERROR 429 slow down", ErrorKind::RateLimit);
}

#[test]
fn a_connection_that_is_cut_is_tried_again() {
    let group = Group::with_claude();
    let (_api, input) = api_and_input("CUT*1\nSAY whole");
    assert_eq!(Some("whole"), group.run(&input).answer().result.as_deref());
    let group = Group::with_claude().env("CLAUDE_CODE_MAX_RETRIES", "1");
    check(&group, "CUT", ErrorKind::Other);
}

#[test]
fn h36_a_dead_session_is_replaced_and_the_message_answered() {
    let group = Group::with_claude();
    for dead in ["5b7cd7cc-26ed-43f1-97e4-5b42d7bc58d9", "demo-0123456789abcdef"] {
        let (_api, input) = api_and_input("SAY here I am");
        let mut run = group.run(&Input { session_id: Some(dead.to_owned()), ..input });
        let answer = run.answer();
        assert_eq!(Some("here I am"), answer.result.as_deref());
        assert_ne!(Some(dead), answer.new_session_id.as_deref());
        group.follow_up("1-0.json", "SAY and on");
        assert_eq!(Some("and on"), run.answer().result.as_deref());
    }
}

#[test]
fn h37_an_overfull_conversation_is_replaced_and_the_message_answered() {
    let group = Group::with_claude();
    let (api, input) = api_and_input("SAY one");
    let mut run = group.run(&input);
    let old = run.answer().new_session_id;
    group.follow_up("1-0.json", "ERROR? 400 prompt is too long: 210000 tokens > 200000\nSAY two");
    let answer = run.answer();
    let result = answer.result.expect("has text");
    assert!(result.contains("too long for the model") && result.ends_with("\n\ntwo"), "{result}");
    assert_eq!(Some(vec!["1-0.json".to_owned()]), answer.consumed);
    assert_ne!(old, answer.new_session_id);
    let newest = api.prompts().pop().expect("was asked");
    assert!(!newest.to_string().contains("SAY one"), "the new conversation begins afresh");

    let prompt = "ERROR 400 prompt is too long: 210000 tokens > 200000 maximum";
    check(&Group::with_claude(), prompt, ErrorKind::Overflow);
}

/// Starts a run whose turn waits in a tool, with a follow-up that the CLI cannot have taken.
fn in_a_tool(group: &Group) -> (rust_claw_fakes::model_api::ModelApi, Run) {
    let (api, input) = api_and_input("TOOL Bash {\"command\":\"sleep 1000\"}\nSAY never");
    let run = group.run(&input);
    api.wait_for_prompt(|_| true);
    run.descendant("sleep");
    group.follow_up("1-0.json", "SAY not yet");
    (api, run)
}

#[test]
fn a_stop_signal_interrupts_the_turn_and_leaves_the_rest_to_the_host() {
    let group = Group::with_claude();
    let (api, mut run) = in_a_tool(&group);
    run.terminate();
    let failed = run.failure();
    assert_eq!(Some("stopped before the end"), failed.error.as_deref());
    assert_eq!(Some(Vec::new()), failed.consumed);
    assert_eq!(Some(1), run.end().status.code());
    assert_eq!(vec!["1-0.json".to_owned()], group.waiting());
    assert_eq!(1, api.prompts().len(), "the follow-up was not answered");
}

#[test]
fn a_stop_signal_between_turns_is_a_good_end() {
    let group = Group::with_claude();
    let (_api, input) = api_and_input("SAY hello");
    let mut run = group.run(&input);
    run.answer();
    run.terminate();
    let ended = run.end();
    assert!(ended.status.success() && ended.frames.is_empty(), "{}", ended.stderr);
}

#[test]
fn a_cli_that_dies_in_a_turn_is_an_error() {
    let group = Group::with_claude();
    let (_api, mut run) = in_a_tool(&group);
    let cli = Pid::from_raw(run.descendant("/opt/claude")).expect("a pid is positive");
    kill_process(cli, Signal::KILL).expect("it runs");
    let failed = run.failure();
    assert_eq!(Some(ErrorKind::Other), failed.error_kind);
    assert!(failed.error.is_some_and(|text| text.contains("signal 9")));
    assert_eq!(vec!["1-0.json".to_owned()], group.waiting());
}

#[test]
fn a_cli_that_cannot_start_is_an_error_with_its_words() {
    let missing = Group::new("claude").env("CLAW_CLAUDE", "/nowhere/claude");
    let error = missing.run(&input("hi")).failure().error.expect("says why");
    assert!(error.contains("start the Claude Code CLI"), "{error}");
    let broken = Group::new("claude").env("CLAW_CLAUDE", "/usr/bin/ls");
    let error = broken.run(&input("hi")).failure().error.expect("says why");
    assert!(error.contains("exit code 2") && error.contains("option"), "{error}");
}
