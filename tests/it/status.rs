//! `status`, once and live.

use crate::support::{Home, Terminal};

#[test]
fn all_that_waits_failed_and_was_used_is_shown() {
    let home = Home::new();
    home.run(&["schedule-task", "--every", "1h", "--prompt", "look at the build"]).ok();
    home.run_with(&["chat"], "fake:error=other\n").refused_somehow(1);
    home.edit(
        "INSERT OR REPLACE INTO state VALUES ('whatsapp', '{\"state\":\"backoff\",\"since_ms\":1,
         \"reason\":\"the line\\u001b[31m is down\"}')",
    );
    let text = home.run(&["status"]).ok();
    assert!(text.contains("whatsapp   backoff, the line\u{fffd}[31m is down, for "), "{text}");
    assert!(text.contains("look at the build"), "{text}");
    assert!(text.contains("error      run 1 of main"), "{text}");
    assert!(text.contains("today      "), "{text}");
    let json = home.json(&["status", "--json"]);
    assert_eq!("look at the build", json["next_tasks"][0]["title"]);
    assert_eq!(1, json["today"]["runs"]);
    assert_eq!("run", json["errors"][0]["what"]);
    assert_eq!("backoff", json["whatsapp"]["state"]);
}

#[test]
fn a_live_screen_follows_and_gives_the_terminal_back() {
    for (key, columns, rows) in [("q", 80, 24), ("\u{3}", 80, 24), ("q", 20, 4)] {
        let home = Home::new();
        home.run(&["status"]).ok();
        let mut terminal = Terminal::start_at(home.command(&["status", "--watch"]), columns, rows);
        terminal.expect("\u{1b}[?1049h");
        terminal.expect("daemon     not");
        assert!(!terminal.is_echoing());
        if rows == 24 {
            terminal.expect("groups     1");
            home.register("second");
            terminal.expect("groups     2");
        }
        terminal.press(key);
        terminal.expect("\u{1b}[?25h\u{1b}[?1049l");
        let shows_again = || terminal.is_echoing();
        crate::support::wait_for("a terminal as before", shows_again);
        assert_eq!(Some(0), terminal.end());
    }
}

#[test]
fn what_is_drawn_fits_and_is_drawn_only_when_it_changed() {
    let home = Home::new();
    for number in 0..40 {
        home.run(&["schedule-task", "--every", "1h", "--prompt", &format!("task {number}")]).ok();
    }
    let mut terminal = Terminal::start_at(home.command(&["status", "--watch"]), 40, 8);
    let frame = terminal.until("\u{1b}[?2026l");
    let frame = frame.split("\u{1b}[H").nth(1).expect("it is drawn from the corner");
    let lines: Vec<String> = frame
        .split("\r\n")
        .map(|line| {
            line.replace("\u{1b}[K", "").replace("\u{1b}[J", "").replace("\u{1b}[?2026l", "")
        })
        .collect();
    assert_eq!(8, lines.len(), "{lines:?}");
    // The terminal itself adds the carriage return.
    let fits = |line: &String| line.trim_end_matches('\r').chars().count() <= 40;
    assert!(lines.iter().all(fits), "{lines:?}");
    assert!(lines[7].contains("more lines; q leaves"), "{lines:?}");
    terminal.press("q");
    assert_eq!(Some(0), terminal.end());
}

#[test]
fn watch_needs_a_terminal() {
    let home = Home::new();
    home.run(&["status", "--watch"]).refused(1, &["needs a terminal", "`rust-claw status`"]);
    home.run(&["status", "--watch", "--json"]).refused(1, &["one of"]);
}
