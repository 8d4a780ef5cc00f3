//! `chat`: lines of a pipe, and a person at a terminal.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Home, Terminal, program, wait_for};

#[test]
fn piped_lines_are_answered_in_order() {
    let home = Home::new();
    let done = home.run_with(&["chat"], "one\n\n  \ntwo\nthree");
    assert!(done.stderr.contains("group main"), "{done:?}");
    assert_eq!("echo: one\necho: two\necho: three\n", done.ok());
}

#[test]
fn piped_chat_beside_a_daemon() {
    let home = Home::new();
    let daemon = home.start();
    let done = home.run_with(&["chat", "--group", "main"], "one\ntwo\n");
    assert!(done.stderr.contains("served by the running daemon"), "{done:?}");
    assert_eq!("echo: one\necho: two\n", done.ok());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn piped_chat_ends_at_a_failure() {
    let home = Home::new();
    let done = home.run_with(&["chat"], "one\nfake:error=other\nnever\n");
    assert_eq!((Some(1), "echo: one\n"), (done.code, done.stdout.as_str()), "{done:?}");
    assert!(done.stderr.contains("the agent failed: fake error: other"), "{done:?}");
    home.run_with(&["chat", "--group", "none"], "x").refused(1, &["no group `none`"]);
}

#[test]
fn a_piped_line_that_is_too_long_is_refused_and_the_next_is_answered() {
    let home = Home::new();
    let done = home.run_with(&["chat"], &format!("one\n{}\ntwo\n", "x".repeat(65_537)));
    assert_eq!((Some(1), "echo: one\necho: two\n"), (done.code, done.stdout.as_str()), "{done:?}");
    let why = "line 2 of standard input: it is longer than 65536 bytes; not sent";
    assert!(done.stderr.contains(why), "{done:?}");
    assert_eq!(2, home.number("SELECT count(*) FROM messages"));
}

#[test]
fn a_piped_line_that_is_no_text_ends_with_an_error_that_names_it() {
    let home = Home::new();
    let done = home.shell(&format!("printf 'one\\n\\377\\nnever\\n' | {}", chat(&home)), "");
    assert_eq!((Some(1), "echo: one\n"), (done.code, done.stdout.as_str()), "{done:?}");
    assert!(done.stderr.contains("line 2 of standard input is not UTF-8"), "{done:?}");
    let done = home.shell(&format!("{} < /", chat(&home)), "");
    assert_eq!(Some(1), done.code, "{done:?}");
    assert!(done.stderr.contains("cannot read standard input: Is a directory"), "{done:?}");
}

/// `chat`, as a person types it.
fn chat(home: &Home) -> String {
    format!("{} --home {} chat", program("rust-claw").display(), home.path("home").display())
}

#[test]
fn at_a_terminal_lines_are_edited_and_answers_stream() {
    let home = Home::new();
    let mut terminal = Terminal::start(home.command(&["chat"]));
    terminal.expect("you> ");
    // A word is mended: left, left, delete before the cursor, another letter.
    terminal.press("heXlo\u{1b}[D\u{1b}[D\u{7f}l\r");
    terminal.expect("Andy> echo: hello");
    terminal.press("\u{1b}[A fake:sleep=700\r");
    terminal.expect("Andy is working");
    terminal.expect("Andy> echo: hello fake:sleep=700");
    terminal.press("fake:partial=1 fake:session=s\r");
    terminal.expect("Andy> part 1");
    terminal.expect("Andy> echo: fake:partial=1");
    terminal.press("\u{4}");
    assert_eq!(Some(0), terminal.end());
}

#[test]
fn ctrl_c_leaves_cleanly() {
    let home = Home::new();
    let mut terminal = Terminal::start(home.command(&["chat"]));
    terminal.expect("you> ");
    terminal.press("one\r");
    terminal.expect("Andy> echo: one");
    terminal.press("half a li\u{3}");
    assert_eq!(Some(0), terminal.end());
    assert_eq!(0, home.number("SELECT count(*) FROM runs WHERE ended_at_ms IS NULL"));
    assert_eq!("", std::fs::read_to_string(home.path("engine/containers/x")).unwrap_or_default());
}

#[test]
fn a_partial_answer_is_shown_before_the_turn_ends() {
    let home = Home::new();
    let mut terminal = Terminal::start(home.command(&["chat"]));
    terminal.expect("you> ");
    terminal.press("fake:partial=1 fake:hang\r");
    terminal.expect("Andy> part 1");
    terminal.press("\u{3}");
    assert_eq!(Some(0), terminal.end());
}

#[test]
fn a_piped_chat_that_waits_for_its_next_line_ends_by_a_signal() {
    let home = Home::new();
    let mut command = home.command(&["chat"]);
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    wait_for("that it serves", || !home.json(&["status", "--json"])["daemon"].is_null());
    // Whoever waits for its end closes it.
    let _input = chat.stdin.take();
    kill_process(Pid::from_child(&chat), Signal::TERM).expect("it lives");
    assert_eq!(Some(130), chat.wait().expect("it ends").code());
}
