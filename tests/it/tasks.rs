//! Tasks: at their time, once, and steered from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Daemon, Home, Kind, wait_for};

/// Schedules a task of main in an hour, with further arguments; gives its id.
fn schedule(home: &Home, prompt: &str, more: &[&str]) -> String {
    let when: &[&str] = if more.iter().any(|arg| ["--cron", "--at"].contains(arg)) {
        &[]
    } else {
        &["--every", "1h"]
    };
    let said = home.run(&[&["schedule-task", "--prompt", prompt], when, more].concat()).ok();
    said.split_whitespace().next().expect("an id").to_owned()
}

/// Statuses of a task's runs, oldest first.
fn ran(home: &Home, id: &str) -> Vec<String> {
    home.texts(&format!("SELECT status FROM task_runs WHERE task_id = '{id}' ORDER BY id"))
}

fn wait_ran(home: &Home, id: &str, expected: &[&str]) {
    wait_for(&format!("runs of {id}: {expected:?}"), || ran(home, id) == expected);
}

/// Makes a task due, as the passing of an hour would.
fn make_due(home: &Home, id: &str) {
    let now = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
    home.edit(&format!("UPDATE tasks SET next_run_ms = {now} WHERE id = '{id}'"));
    // What rings the bell.
    home.run(&["schedule-task", "--prompt", "later", "--every", "300d"]).ok();
}

fn shown(home: &Home, id: &str) -> Value {
    home.json(&["show-task", "--json", id])
}

#[test]
fn h46_h47_a_task_is_made_listed_changed_and_shown() {
    let home = Home::new().env("TZ", "Europe/Berlin");
    let id = schedule(&home, "look for mail", &["--cron", "0 9 * * MON"]);
    let listed = &home.json(&["list-tasks", "--json"])[0];
    assert_eq!(
        (id.as_str(), "isolated", "active", "Europe/Berlin", "local:main"),
        (
            listed["id"].as_str().expect("an id"),
            listed["context"].as_str().expect("a mode"),
            listed["state"].as_str().expect("a state"),
            listed["timezone"].as_str().expect("a zone"),
            listed["chat"].as_str().expect("a chat"),
        )
    );
    let next = listed["next"].as_str().expect("a text");
    assert!(next.starts_with("Mon ") && next.contains(" 09:00 Europe/Berlin, in "), "{next}");
    let said = home.run(&["update-task", &id[..4], "--prompt", "new", "--timezone", "Asia/Tokyo"]);
    assert!(said.ok().contains(" 09:00 Asia/Tokyo, in "));
    assert_eq!("new", shown(&home, &id)["prompt"]);
    assert!(home.run(&["list-tasks"]).ok().contains("cron 0 9 * * MON"));
    assert!(home.run(&["list-tasks", "--group", "nobody"]).ok().is_empty());
    home.run(&["pause-task", &id]).ok();
    assert_eq!("paused", shown(&home, &id)["state"]);
    home.run(&["cancel-task", &id]).ok();
    assert_eq!(Some(0), home.json(&["list-tasks", "--json"]).as_array().map(Vec::len));
    home.run(&["resume-task", &id]).refused(1, &[&id, "cancelled"]);
}

#[test]
fn h44_what_cannot_be_used_is_refused_with_field_and_example() {
    let home = Home::new();
    for (args, parts) in [
        (&["--cron", "61 * * * *"][..], ["minute `61`", "`*/10`"]),
        (&["--every", "10"], ["interval `10`", "`1h30m`"]),
        (&["--at", "2020-01-01T00:00"], ["once `2020-01-01T00:00`", "is past"]),
        (&["--every", "1h", "--timezone", "IST-2"], ["timezone `IST-2`", "`Europe/Berlin`"]),
        (&["--every", "1h", "--context", "own"], ["context `own`", "`--context group`"]),
        (&["--every", "1h", "--cron", "@daily"], ["only one of", "--every 10m"]),
        (&["--every", "1h", "--script", "/nix"], ["script `/nix`", "`--script check.sh`"]),
        (&["--every", "1h", "--group", "nix"], ["group", "`nix`"]),
        (&[], ["--cron", "--at 2030-01-31T09:00"]),
    ] {
        let args = [&["schedule-task", "--prompt", "x"], args].concat();
        home.run(&args).refused(1, &parts);
    }
    home.run(&["show-task", "nix"]).refused(1, &["`nix`", "list-tasks"]);
}

#[test]
fn run_task_prints_the_result_and_tells_success_and_failure() {
    let home = Home::new();
    let good = schedule(&home, "hello", &[]);
    let bad = schedule(&home, "fake:error=other", &[]);
    let silent = schedule(&home, "fake:silent", &[]);
    // Without a daemon, then with one.
    for daemon in [None, Some(())].map(|with| with.map(|()| home.start())) {
        assert_eq!("echo: hello\n", home.run(&["run-task", &good[..5]]).ok());
        assert_eq!("", home.run(&["run-task", &silent]).ok());
        home.run(&["run-task", &bad]).refused(1, &["fake error: other"]);
        if let Some(daemon) = daemon {
            assert_eq!(Some(0), daemon.stop());
        }
    }
    home.run(&["run-task", "nix"]).refused(1, &["`nix`"]);
    assert_eq!(["succeeded", "succeeded"], *ran(&home, &good));
    let answers = home.answers("local:main");
    let notices = answers.iter().filter(|text| text.contains("failed: fake error")).count();
    assert_eq!((3, 1), (answers.len(), notices), "the first failure in a row is said: {answers:?}");
    let shown = shown(&home, &bad);
    assert_eq!(2, shown["failure_count"]);
    assert_eq!("fake error: other", shown["runs"][0]["error"]);
    home.wait_no_runs();
}

#[test]
fn run_task_says_busy_where_it_runs_already_or_no_engine_answers() {
    let home = Home::new();
    let id = schedule(&home, "fake:sleep=2000 slow", &[]);
    let daemon = home.start();
    let first = spawn(&home, &["run-task", &id]);
    home.wait_runs("busy", 1);
    home.run(&["run-task", &id]).refused(75, &[&id, "running already"]);
    assert_eq!(Some(0), wait_end(first));
    assert_eq!(Some(0), daemon.stop());
    home.engine_mode("not-ready");
    home.run(&["run-task", &id]).refused_somehow(75);
    assert_eq!(["succeeded", "withdrawn"], *ran(&home, &id), "it does not run later");
}

#[test]
fn bwrap_run_task_is_skipped_by_its_script_and_hands_on_what_the_script_found() {
    let home = Home::with(Kind::Bwrap).env("AGENT_ENGINE", "demo");
    let script = |text: &str| {
        let path = home.path("user/gate.sh");
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let path = script("echo '{\"wakeAgent\":false}'");
    let skipped = schedule(&home, "hello", &["--script", &path]);
    let done = home.run(&["run-task", &skipped]);
    assert_eq!((Some(2), ""), (done.code, done.stdout.as_str()), "{done:?}");
    script("echo '{\"wakeAgent\":true,\"data\":{\"mail\":3}}'");
    let woken = schedule(&home, "hello", &["--script", &path]);
    assert!(home.run(&["run-task", &woken]).ok().contains("\"mail\": 3"));
    script("exit 3");
    let broken = schedule(&home, "hello", &["--script", &path]);
    home.run(&["run-task", &broken]).refused(1, &["script"]);
    assert_eq!(["skipped"], *ran(&home, &skipped));
    assert_eq!(0, home.number("SELECT count(*) FROM outbox WHERE kind = 'task' AND run_id = 1"));
}

#[test]
fn bwrap_run_task_works_in_the_groups_folder() {
    let home = Home::with(Kind::Bwrap).env("AGENT_ENGINE", "demo");
    let id = schedule(&home, "/write note.txt done", &[]);
    home.run(&["run-task", &id]).ok();
    assert_eq!("done", fs::read_to_string(home.at("groups/main/note.txt")).expect("a file").trim());
    let echo = schedule(&home, "what time is it", &[]);
    let said = home.run(&["run-task", &echo]).ok();
    assert!(said.starts_with("You said: what time is it\n"), "{said}");
}

#[test]
fn h38_a_task_that_outlasts_its_period_runs_one_after_the_other() {
    let home = Home::new();
    let id = schedule(&home, "fake:sleep=1500 slow", &[]);
    home.run(&["update-task", &id, "--every", "1s"]).ok();
    let daemon = home.start();
    let done =
        format!("SELECT count(*) FROM task_runs WHERE task_id = '{id}' AND status = 'succeeded'");
    wait_for("three runs", || 3 <= home.number(&done));
    home.run(&["pause-task", &id]).ok();
    assert_eq!(Some(0), daemon.stop());
    let overlaps = "SELECT count(*) FROM runs a JOIN runs b ON a.id < b.id
                    WHERE b.started_at_ms < a.ended_at_ms";
    assert_eq!(0, home.number(overlaps));
    let twice = "SELECT count(*) - count(DISTINCT planned_for_ms) FROM task_runs";
    assert_eq!(0, home.number(twice));
}

#[test]
fn h21_a_due_task_closes_the_idle_chat_of_its_group_and_never_a_busy_one() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "hi");
    home.wait_runs("idle", 1);
    let id = schedule(&home, "hello", &["--group", "a"]);
    make_due(&home, &id);
    home.wait_answers(&chat, &["Andy: echo: hi", "Andy: echo: hello"]);
    wait_ran(&home, &id, &["succeeded"]);
    // Busy: it says all it has to say, then the task comes.
    home.inject(&chat, "fake:sleep=1500 slow");
    home.wait_runs("busy", 1);
    make_due(&home, &id);
    wait_ran(&home, &id, &["succeeded", "succeeded"]);
    let answers = home.answers(&chat);
    assert_eq!(["Andy: echo: fake:sleep=1500 slow", "Andy: echo: hello"], answers[2..]);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h22_a_task_s_sandbox_ends_soon_after_its_result() {
    let home = Home::new();
    let prompts = ["hello", "fake:silent", "fake:partial=2 long", "fake:ignore-close deaf"];
    let tasks = prompts.map(|prompt| schedule(&home, prompt, &[]));
    let daemon = home.start();
    for id in &tasks {
        home.run(&["run-task", id]).ok();
        home.wait_no_runs();
    }
    let late = "SELECT count(*) FROM runs JOIN task_runs ON run_id = runs.id
                WHERE runs.ended_at_ms - task_runs.ended_at_ms > 15000";
    assert_eq!(0, home.number(late));
    assert_eq!(4, home.number("SELECT count(*) FROM task_runs WHERE status = 'succeeded'"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h06_a_task_takes_no_chat_messages_and_its_session_is_its_own() {
    let home = Home::new();
    let chat = home.register("a");
    let id = schedule(&home, "fake:sleep=1500 fake:session=mine task", &["--group", "a"]);
    let daemon = home.start();
    let task = spawn(&home, &["run-task", &id]);
    home.wait_runs("busy", 1);
    home.inject(&chat, "hi");
    assert_eq!(Some(0), wait_end(task));
    wait_for("both answers", || home.answers(&chat).len() == 2);
    assert!(home.answers(&chat)[0].contains("task"));
    assert_eq!("Andy: echo: hi", home.answers(&chat)[1]);
    assert_eq!(["fake-session"], *home.texts("SELECT session_id FROM sessions"));
    // Of the group's conversation only where it is asked to be.
    home.run(&["update-task", &id, "--context", "group"]).ok();
    home.run(&["run-task", &id]).ok();
    assert_eq!(["mine"], *home.texts("SELECT session_id FROM sessions"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h41_a_task_of_a_removed_group_is_paused_with_one_row() {
    let home = Home::new();
    home.register("a");
    let id = schedule(&home, "hello", &["--group", "a"]);
    home.run(&["update-task", &id, "--every", "1s"]).ok();
    home.run(&["unregister-group", "--folder", "a"]).ok();
    let daemon = home.start();
    wait_for("the pause", || shown(&home, &id)["state"] == "paused");
    // The next of another task comes when the first would have been due again.
    let other = schedule(&home, "hello", &[]);
    home.run(&["update-task", &other, "--every", "1s"]).ok();
    wait_for("two runs", || 2 <= ran(&home, &other).len());
    assert_eq!(["failed"], *ran(&home, &id));
    assert_eq!(1, home.log().matches(&format!("task={id} paused")).count());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h42_paused_or_cancelled_while_it_waits_it_does_not_run() {
    let home = Home::new().env("MAX_CONCURRENT_CONTAINERS", "1");
    let chat = home.register("a");
    let (paused, cancelled) = (schedule(&home, "one", &[]), schedule(&home, "two", &[]));
    let daemon = home.start();
    home.inject(&chat, "fake:sleep=2500 slow");
    home.wait_runs("busy", 1);
    make_due(&home, &paused);
    make_due(&home, &cancelled);
    wait_ran(&home, &paused, &["running"]);
    wait_ran(&home, &cancelled, &["running"]);
    home.run(&["pause-task", &paused]).ok();
    home.run(&["cancel-task", &cancelled]).ok();
    home.wait_answers(&chat, &["Andy: echo: fake:sleep=2500 slow"]);
    // Had they waited, they would come before this one.
    let last = schedule(&home, "last", &[]);
    home.run(&["run-task", &last]).ok();
    assert_eq!(["echo: last"], *home.answers("local:main"));
    assert_eq!((vec!["withdrawn".to_owned()], vec!["withdrawn".to_owned()]), {
        (ran(&home, &paused), ran(&home, &cancelled))
    });
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h43_a_resumed_task_waits_for_its_next_slot() {
    let home = Home::new();
    let id = schedule(&home, "hello", &[]);
    home.run(&["pause-task", &id]).ok();
    home.edit("UPDATE tasks SET next_run_ms = next_run_ms - 10 * 3600000");
    let daemon = home.start();
    assert!(home.run(&["resume-task", &id]).ok().contains("in "));
    let last = schedule(&home, "last", &[]);
    assert_eq!("echo: last\n", home.run(&["run-task", &last]).ok());
    assert!(ran(&home, &id).is_empty());
    assert_eq!(Some(0), daemon.stop());
}

/// A program that dies at `place` while it runs a task that is due, and is started again.
fn crash(place: &str, ran_then: &[&str], said: &[&str]) {
    let mut home = Home::new();
    let id = schedule(&home, "hello", &[]);
    home.edit("UPDATE tasks SET next_run_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER)");
    home.set("RUST_CLAW_CRASH_AT", place);
    assert_eq!(None, crate::support::Daemon::spawn(home.command(&["run"])).end());
    home.unset("RUST_CLAW_CRASH_AT");
    let daemon = home.start();
    wait_for("the end of the first run", || {
        let ran = ran(&home, &id);
        !ran.is_empty() && ran.iter().all(|status| status != "running")
    });
    // Whatever would be run again would come before this.
    let last = schedule(&home, "last", &[]);
    home.run(&["run-task", &last]).ok();
    assert_eq!(ran_then, ran(&home, &id), "{place}");
    let answers = home.answers("local:main");
    assert_eq!(said.len() + 1, answers.len(), "{place}: {answers:?}");
    assert!(said.iter().zip(&answers).all(|(part, text)| text.contains(part)), "{answers:?}");
    assert_eq!(1, shown(&home, &id)["runs"].as_array().map_or(0, Vec::len));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h39_killed_when_the_slot_was_claimed() {
    crash("task_claimed", &["succeeded"], &["echo: hello"]);
}

#[test]
fn h39_killed_when_the_run_had_started() {
    crash("run_started", &["interrupted"], &["was interrupted"]);
}

#[test]
fn h39_killed_when_the_result_was_read() {
    crash("frame_read", &["interrupted"], &["was interrupted"]);
}

#[test]
fn h39_killed_when_the_result_was_committed() {
    crash("outbox_committed", &["succeeded"], &["echo: hello"]);
}

#[test]
fn h39_a_stop_in_mid_run_is_an_interruption_that_is_said() {
    let home = Home::new();
    let id = schedule(&home, "fake:hang", &[]);
    let daemon = home.start();
    make_due(&home, &id);
    home.wait_runs("busy", 1);
    assert_eq!(Some(0), daemon.stop());
    assert_eq!(["interrupted"], *ran(&home, &id));
    let answers = home.answers("local:main");
    assert!(answers.len() == 1 && answers[0].contains("was interrupted"), "{answers:?}");
    assert_eq!("active", shown(&home, &id)["state"]);
    assert_eq!(0, shown(&home, &id)["failure_count"]);
}

#[test]
fn run_due_runs_what_is_due_and_nothing_else() {
    let home = Home::new();
    let (good, bad) = (schedule(&home, "hello", &[]), schedule(&home, "fake:error=other", &[]));
    let later = schedule(&home, "later", &[]);
    let nothing = home.run(&["run-due"]);
    assert_eq!((Some(0), ""), (nothing.code, nothing.stdout.as_str()));
    home.edit(&format!(
        "UPDATE tasks SET next_run_ms = next_run_ms - 3600000 WHERE id <> '{later}'"
    ));
    let done = home.run(&["run-due"]);
    assert_eq!(Some(1), done.code, "{done:?}");
    assert!(done.stdout.contains(&format!("{good} succeeded\n")), "{done:?}");
    assert!(done.stdout.contains(&format!("{bad} failed: fake error: other\n")), "{done:?}");
    assert!(ran(&home, &later).is_empty());
    home.run(&["run-due"]).ok();
    assert_eq!(["succeeded"], *ran(&home, &good));
}

#[test]
fn eight_failures_in_a_row_pause_a_task_and_are_said() {
    let home = Home::new();
    let id = schedule(&home, "fake:error=other", &[]);
    let daemon = home.start();
    for _ in 0..8 {
        home.run(&["run-task", &id]).refused_somehow(1);
    }
    let shown = shown(&home, &id);
    assert_eq!("paused", shown["state"]);
    assert!(shown["pause_reason"].as_str().expect("a reason").contains("8 times"));
    let answers = home.answers("local:main");
    assert_eq!(2, answers.len(), "the first and the last: {answers:?}");
    assert!(answers[1].contains("I paused the task"), "{answers:?}");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn the_systems_cron_runs_a_task() {
    let home = Home::new();
    let id = schedule(&home, "hello", &[]);
    let command = home.command(&["run-task", &id]);
    let quoted = |text: &std::ffi::OsStr| text.to_str().expect("plain names").to_owned();
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    let variables: String = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}\n", quoted(name), quoted(value?))))
        .collect();
    let (out, words) = (home.path("user/out").display().to_string(), words.join(" "));
    let table = format!("{variables}* * * * * root {words} >{out} 2>&1; echo code=$? >>{out}\n");
    // The name has no dot, or cron would not read it.
    let file = tempfile::Builder::new()
        .prefix("rust-claw-test-")
        .tempfile_in("/etc/cron.d")
        .expect("cron is installed, and we are root");
    let name = file.path().with_file_name(format!("rust-claw-test-{}", std::process::id()));
    let table_file = Removed(name);
    fs::write(file.path(), table).expect("a file");
    fs::set_permissions(file.path(), PermissionsExt::from_mode(0o644)).expect("it is ours");
    file.persist(&table_file.0).expect("a file");
    // It ends at once where one runs already, which does as well.
    let cron = Command::new("cron").arg("-f").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _cron = Killed(cron.expect("cron is installed"));
    let deadline = Instant::now() + Duration::from_secs(150);
    let said = loop {
        let said = fs::read_to_string(&out).unwrap_or_default();
        if said.contains("code=") {
            break said;
        }
        assert!(Instant::now() < deadline, "cron ran nothing: {said}");
        std::thread::sleep(Duration::from_millis(100));
    };
    drop(table_file);
    assert_eq!("echo: hello\ncode=0\n", said);
    assert_eq!("succeeded", ran(&home, &id)[0]);
}

/// Without its lock on the file, a process that closes the database (the `sqlite3` of the system,
/// a backup) takes itself for the last one and removes the log under the daemon.
#[cfg(target_os = "linux")]
#[test]
fn the_daemon_keeps_its_lock_on_the_database() {
    use std::os::unix::fs::MetadataExt;

    let home = Home::new();
    let daemon = home.start();
    let id = schedule(&home, "hello", &[]);
    // A worker opens the database while other threads have it open.
    home.run(&["run-task", &id]).ok();
    let inode = fs::metadata(home.at("store/messages.db")).expect("a database").ino();
    let locks = fs::read_to_string("/proc/locks").expect("the kernel's list");
    let is_held = locks.lines().any(|line| {
        line.contains("POSIX")
            && line.contains(&format!(" {} ", daemon.pid()))
            && line.contains(&format!(":{inode} "))
    });
    assert!(is_held, "pid {} inode {inode}: {locks}", daemon.pid());
    assert_eq!(Some(0), daemon.stop());
}

/// A file that goes with the test.
struct Removed(std::path::PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // Removed early where all went well.
        fs::remove_file(&self.0).ok();
    }
}

/// A program that goes with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn spawn(home: &Home, args: &[&str]) -> Killed {
    let mut command = home.command(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Killed(command.spawn().expect("it starts"))
}

fn wait_end(mut child: Killed) -> Option<i32> {
    crate::support::end(&mut child.0).expect("it ends").code()
}

#[test]
fn run_task_that_is_interrupted_ends_its_sandbox_and_is_said_to_be_cut_off() {
    let home = Home::new();
    let task = schedule(&home, "x fake:sleep=120000", &[]);
    let running = Daemon::spawn(home.command(&["run-task", &task]));
    home.wait_runs("busy", 1);
    running.signal(Signal::TERM);
    assert_eq!(Some(130), running.end());
    assert_eq!(["interrupted"], *home.texts("SELECT status FROM task_runs"));
    assert_eq!(0, home.number("SELECT failure_count FROM tasks"));
    assert_eq!(Vec::<std::path::PathBuf>::new(), home.containers());
}

#[test]
fn run_due_gives_back_what_it_could_not_begin_or_was_killed_over() {
    let home = Home::new();
    let task = schedule(&home, "once", &["--at", "2030-01-31T09:00"]);
    let due = "UPDATE tasks SET next_run_ms = CAST(strftime('%s') AS INTEGER) * 1000 - 60000";
    home.edit(due);
    home.engine_mode("not-ready");
    assert_eq!(Some(75), home.run(&["run-due"]).code);
    assert_eq!(["active"], *home.texts("SELECT state FROM tasks"));
    assert_eq!(1, home.number("SELECT count(*) FROM tasks WHERE next_run_ms IS NOT NULL"));
    // One that was killed between claim and start.
    home.edit(&format!(
        "INSERT INTO task_runs (task_id, asked_by, planned_for_ms, claimed_at_ms, status)
         SELECT '{task}', 'schedule', next_run_ms, next_run_ms, 'running' FROM tasks"
    ));
    home.edit("UPDATE tasks SET next_run_ms = NULL");
    home.engine_mode("");
    let said = home.run(&["run-due"]).ok();
    assert!(said.contains("succeeded"), "{said}");
    assert_eq!(["completed"], *home.texts("SELECT state FROM tasks"));
}
