//! The demo engine, and all that needs no model: frames, follow-ups, the close file, scripts.

use std::fs;

use rust_claw_protocol::{ErrorKind, Input};

use crate::harness::{Group, Run, input};

fn check(run: &mut Run, expected: &str) {
    let answer = run.answer();
    let result = answer.result.expect("the demo always says something");
    assert!(result.starts_with(expected), "{result}");
    assert!(result.contains("Demo engine, no model."), "{result}");
}

#[test]
fn it_answers_says_what_it_is_and_ends_when_asked() {
    let group = Group::new("demo");
    let mut run = group.run(&input("<message sender=\"A\" time=\"x\">1 &lt; 2</message>"));
    let first = run.frame();
    let session = first.new_session_id.expect("the session is known before the answer");
    assert_eq!((Some(false), None), (first.turn_end, first.result));
    let answer = run.answer();
    let result = answer.result.expect("has text");
    assert!(result.starts_with("You said: 1 < 2\n"), "{result}");
    assert!(result.contains("Turn 1.") && result.contains(".env"), "{result}");
    assert_eq!(Some(session), answer.new_session_id);
    group.close();
    let ended = run.end();
    assert!(ended.status.success() && ended.frames.is_empty());
    assert_eq!("", ended.stderr);
}

#[test]
fn its_session_counts_on_in_the_next_run() {
    let group = Group::new("demo");
    let mut run = group.run(&input("a"));
    let session_id = run.answer().new_session_id;
    group.close();
    assert!(run.end().status.success());
    let mut run = group.run(&Input { session_id: session_id.clone(), ..input("b") });
    let answer = run.answer();
    assert_eq!(session_id, answer.new_session_id);
    assert!(answer.result.is_some_and(|text| text.contains("Turn 2.")));
}

#[test]
fn a_session_of_the_other_engine_is_not_continued() {
    let group = Group::new("demo");
    let session_id = Some("5b7cd7cc-26ed-43f1-97e4-5b42d7bc58d2".to_owned());
    let mut run = group.run(&Input { session_id, ..input("a") });
    let new = run.answer().new_session_id.expect("has one");
    assert!(new.starts_with("demo-"), "{new}");
}

#[test]
fn follow_ups_between_turns_are_answered_one_by_one_in_order() {
    let group = Group::new("demo");
    let mut run = group.run(&input("a"));
    check(&mut run, "You said: a");
    group.follow_up("10-0.json", "b");
    let answer = run.answer();
    assert_eq!(Some(vec!["10-0.json".to_owned()]), answer.consumed);
    assert!(group.waiting().is_empty());
    group.follow_up("11-0.json", "c");
    check(&mut run, "You said: c");
}

#[test]
fn h04_a_follow_up_during_a_turn_is_in_the_frame_that_answers_it() {
    let group = Group::new("demo");
    let mut run = group.run(&input("/sleep 2"));
    run.frame();
    group.follow_up("7-0.json", "meanwhile");
    run.wait_taken("7-0.json");
    let answer = run.answer();
    assert_eq!(Some(vec!["7-0.json".to_owned()]), answer.consumed);
    assert!(answer.result.is_some_and(|text| text.contains("You said: meanwhile")));
}

#[test]
fn h05_follow_up_racing_close_is_answered_or_still_there() {
    let group = Group::new("demo");
    for round in 0..100 {
        let mut run = group.run(&input("a"));
        check(&mut run, "You said: a");
        let name = format!("{round}-0.json");
        std::thread::scope(|scope| {
            scope.spawn(|| group.follow_up(&name, "raced"));
            group.close();
        });
        let ended = run.end();
        let answers = ended.frames.iter().filter_map(|frame| frame.consumed.as_deref());
        let is_answered = answers.flatten().any(|consumed| *consumed == name);
        let is_there = group.waiting().contains(&name);
        assert!(is_answered != is_there, "answered {is_answered}, still there {is_there}");
        if is_there {
            fs::remove_file(group.path("ipc/input").join(name)).expect("the host takes it back");
        }
    }
}

#[test]
fn h06_a_task_takes_no_follow_up_and_ends_by_itself() {
    let group = Group::new("demo");
    group.follow_up("1-0.json", "chat text");
    let run = group.run(&Input { is_scheduled_task: Some(true), ..input("/sleep 1") });
    let ended = run.end();
    assert!(ended.status.success());
    assert_eq!(vec!["1-0.json".to_owned()], group.waiting());
    assert!(!format!("{:?}", ended.frames).contains("chat text"));
}

#[test]
fn a_turn_that_is_running_is_finished_after_close() {
    let group = Group::new("demo");
    let mut run = group.run(&input("/sleep 1"));
    run.frame();
    group.close();
    check(&mut run, "You said: /sleep 1");
    assert!(run.end().status.success());
}

#[test]
fn a_stop_signal_ends_a_turn_with_an_error_frame() {
    let group = Group::new("demo");
    let mut run = group.run(&input("/sleep 50"));
    run.frame();
    run.terminate();
    assert_eq!(Some("stopped before the end"), run.failure().error.as_deref());
    assert_eq!(Some(1), run.end().status.code());
}

#[test]
fn failures_and_long_answers_can_be_asked_for() {
    let group = Group::new("demo");
    let mut run = group.run(&input("/long 3"));
    run.frame();
    for n in 1..=3 {
        let part = run.frame();
        assert_eq!(Some(false), part.turn_end);
        assert_eq!(Some(format!("Part {n} of 3.")), part.result);
    }
    check(&mut run, "You said: /long 3");
    group.follow_up("1-0.json", "/fail billing");
    let failed = run.failure();
    assert_eq!(Some(ErrorKind::Billing), failed.error_kind);
    assert_eq!(Some(vec!["1-0.json".to_owned()]), failed.consumed);
}

#[test]
fn it_writes_into_the_groups_folder_and_nowhere_else() {
    let group = Group::new("demo");
    let mut run = group.run(&input("/write note.txt hello there"));
    check(&mut run, "You said: /write");
    let written = fs::read_to_string(group.path("group/note.txt")).expect("was written");
    assert_eq!("hello there", written);
}

#[test]
fn a_script_decides_whether_the_agent_is_woken() {
    let group = Group::new("demo");
    let task = |script: &str| Input {
        is_scheduled_task: Some(true),
        script: Some(script.to_owned()),
        ..input("do it")
    };
    let skipped = group.run(&task("pwd >&2; echo '{\"wakeAgent\":false}'")).end();
    assert!(skipped.status.success());
    let [frame] = skipped.frames.as_slice() else { panic!("{:?}", skipped.frames) };
    assert_eq!((Some(true), Some(true)), (frame.skipped, frame.turn_end));
    assert_eq!(None, frame.result);

    let mut woken = group.run(&task("echo '{\"wakeAgent\":true,\"data\":{\"unread\":3}}'"));
    let answer = woken.answer().result.expect("has text");
    assert!(answer.contains("\"unread\": 3") && answer.contains("do it"), "{answer}");

    for (script, says) in [
        ("echo planted >&2; exit 3", "the task's script ended with exit status: 3: planted"),
        ("echo hello", "must end with a line like"),
        ("echo '{\"wakeAgent\":true}'; exit 1", "the task's script ended with exit status: 1"),
    ] {
        let mut failed = group.run(&task(script));
        let failure = failed.failure();
        assert_eq!(Some(ErrorKind::Other), failure.error_kind, "{script}");
        let error = failure.error.expect("says what");
        assert!(error.contains(says), "{script}: {error}");
        let ended = failed.end();
        assert_eq!(Some(1), ended.status.code());
        assert!(!ended.stderr.contains("planted"), "{}", ended.stderr);
    }
}

#[test]
fn a_script_is_stopped_with_all_it_started() {
    let group = Group::new("demo");
    let script = Some("sleep 1000 & sleep 1000".to_owned());
    let run = group.run(&Input { script, ..input("do it") });
    run.descendant("sleep");
    run.terminate();
    assert_eq!(Some(1), run.end().status.code());
}

#[test]
fn limits_are_those_of_the_children_too() {
    let group = Group::new("demo").env("CLAW_OPEN_FILES_MAX", "77").env("CLAW_PIDS_MAX", "4321");
    let script =
        "echo \"{\\\"wakeAgent\\\":true,\\\"data\\\":\\\"$(ulimit -n -u -c | tr -d '\\n')\\\"}\"";
    let mut run = group.run(&Input { script: Some(script.to_owned()), ..input("do it") });
    let answer = run.answer().result.expect("has text");
    assert!(answer.contains("77") && answer.contains("4321"), "{answer}");
}

#[test]
fn input_that_cannot_be_used_is_an_error_frame() {
    let group = Group::new("nonsense");
    let mut run = group.run(&input("a"));
    let error = run.failure().error.expect("says what");
    assert!(error.contains("CLAW_ENGINE"), "{error}");
    assert_eq!(Some(1), run.end().status.code());
}

#[test]
fn h60_no_prompt_reaches_standard_error() {
    let group = Group::new("demo");
    group.follow_up("1-0.json", "planted-follow-up");
    fs::write(group.path("ipc/input/2-0.json"), "planted-garbage").expect("writes");
    let mut run = group.run(&input("planted-prompt"));
    check(&mut run, "You said: planted-prompt");
    check(&mut run, "You said: planted-follow-up");
    // The bad file is noted when it is looked at.
    run.wait_taken("2-0.json");
    group.close();
    let stderr = run.end().stderr;
    assert!(stderr.contains("2-0.json") && !stderr.contains("planted"), "{stderr}");
}
