//! What engines and sandboxes do wrong, played by the stand-in.

use std::fs;

use crate::support::{Daemon, Follower, Home, entries, wait_for};

#[test]
fn h29_an_engine_that_is_not_ready_at_boot_is_waited_for_and_said_once() {
    let home = Home::new();
    home.engine_mode("not-ready");
    let chat = home.register("a");
    let mut daemon = Daemon::spawn(home.command(&["run"]));
    daemon.wait_line("no sandbox to run agents in: docker does not answer");
    let follower = Follower::start(&home);
    home.inject(&chat, "hi");
    home.run(&["ask", "hi"]).refused(75, &["no sandbox to run in", "start docker"]);
    // Nobody waits for that question any more, so only the chat's is answered later.
    let told = home.run(&["status"]).ok();
    assert!(told.contains("engine     none") && told.contains("start docker"), "{told}");
    wait_for("three questions", || home.engine_calls().matches("info").count() >= 3);
    assert_eq!(1, home.log().matches("no sandbox to run agents in").count());
    home.engine_mode("");
    assert_eq!("Andy: echo: hi", follower.text());
    assert!(daemon.is_alive());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn an_engine_that_goes_away_costs_no_attempt() {
    let home = Home::new();
    let chat = home.register("a");
    let mut daemon = home.start();
    daemon.wait_line("engine=docker ready");
    home.engine_mode("not-ready");
    home.inject(&chat, "hi");
    daemon.wait_line("no sandbox to run agents in");
    home.engine_mode("");
    home.wait_answers(&chat, &["Andy: echo: hi"]);
    assert_eq!(0, home.number("SELECT count(*) FROM dead_letters"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h30_a_missing_image_is_said_at_start_with_the_one_command() {
    let home = Home::new();
    home.engine_mode("image-missing");
    let mut daemon = home.start();
    let line = daemon.wait_line("no sandbox to run agents in");
    assert!(line.contains("rust-claw-agent:latest") && line.contains("setup image"), "{line}");
    wait_for("the command in the status", || home.run(&["status"]).ok().contains("setup image"));
    home.engine_mode("");
    daemon.wait_line("engine=docker ready");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h33_an_old_runner_is_said_and_serves() {
    let home = Home::new();
    home.engine_mode("old-runner");
    let mut daemon = home.start();
    let line = daemon.wait_line("another agent runner");
    assert!(line.contains("0.0.1") && line.contains("setup image"), "{line}");
    assert_eq!("echo: hi\n", home.run(&["ask", "hi"]).ok());
    let told = home.run(&["status"]).ok();
    assert!(told.contains("it is 0.0.1") && told.contains("setup image"), "{told}");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h26_containers_are_stopped_by_name_whatever_their_client_does() {
    for mode in ["", "deaf", "client-deaf", "kept", "rm-fails-once", "stop-fails"] {
        let home = Home::new();
        home.engine_mode(mode);
        let chat = home.register("a");
        home.edit("UPDATE groups SET container_config = '{\"timeout\":1000}' WHERE folder = 'a'");
        let daemon = home.start();
        home.inject(&chat, "x fake:hang");
        wait_for("the end of the turn", || {
            home.number("SELECT count(*) FROM runs WHERE state = 'failed'") >= 1
        });
        let name = home.texts("SELECT container_name FROM runs ORDER BY id LIMIT 1")[0].clone();
        wait_for("its removal", || !home.path("engine/containers").join(&name).exists());
        home.engine_mode("");
        assert_eq!(Some(0), daemon.stop());
        assert!(entries(&home.path("engine/containers")).is_empty(), "{mode}");
    }
}

#[test]
fn h27_only_containers_of_this_home_are_removed() {
    let home = Home::new();
    home.run(&["status"]).ok();
    let folder = home.path("engine/containers");
    fs::create_dir_all(&folder).expect("a folder");
    // The id of a process group that is not there.
    fs::write(folder.join("rust-claw-a-1"), "99999999 rust-claw.home=0123456789abcdef")
        .expect("a file");
    fs::write(folder.join("postgres"), "99999999 other=label").expect("a file");
    let mut daemon = home.start();
    daemon.wait_line("engine=docker ready");
    assert_eq!("echo: hi\n", home.run(&["ask", "hi"]).ok());
    assert_eq!(Some(0), daemon.stop());
    assert!(folder.join("rust-claw-a-1").exists() && folder.join("postgres").exists());
    assert!(!home.engine_calls().contains("rm --force rust-claw-a-1"));
}

/// Peak of the memory of a process, in MiB.
fn peak_mib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel counts");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib / 1024
}

#[test]
fn h35_a_flood_without_a_frame_stays_bounded_and_the_answer_comes() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "x fake:flood=300");
    assert_eq!("Andy: echo: x fake:flood=300", follower.text());
    let peak = peak_mib(&daemon);
    assert!(peak < 100, "{peak} MiB");
    for log in entries(&home.at("groups/a/logs")) {
        assert!(fs::metadata(&log).expect("a log").len() <= 2 * 1024 * 1024, "{}", log.display());
    }
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h35_an_answer_that_quotes_both_markers_comes_whole() {
    let home = Home::new();
    let (start, end) = ("---NANOCLAW_OUTPUT_START---", "---NANOCLAW_OUTPUT_END---");
    assert_eq!(format!("{start}\n{end}\n{start}\n"), home.run(&["ask", "fake:markers"]).ok());
    assert_eq!(format!("echo: {end} 😀\n"), home.run(&["ask", "--", end, "😀"]).ok());
}

#[test]
fn garbage_between_frames_is_logged_with_its_size_and_the_run_goes_on() {
    let home = Home::new();
    assert_eq!("echo: fake:garbage\n", home.run(&["ask", "fake:garbage"]).ok());
    let log = home.log();
    assert!(log.contains("frame_bytes="), "{log}");
    assert!(!log.contains("nope"), "what a sandbox said is not in the log: {log}");
}

#[test]
fn an_answer_beyond_the_bound_is_given_up_and_said() {
    let home = Home::new().env("CONTAINER_MAX_OUTPUT_SIZE", "1000000");
    let answer = home.run(&["ask", "x fake:large=2"]).ok();
    assert_eq!("echo: x fake:large=2\n", answer);
    assert!(home.log().contains("frame_bytes="), "{}", home.log());
}

#[test]
fn a_process_that_outlives_its_sandbox_does_not_hold_the_answer_back() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "x fake:leak fake:once");
    home.wait_answers(&chat, &["Andy: echo: x fake:leak fake:once"]);
    home.wait_no_runs();
    assert_eq!(["succeeded"], *home.texts("SELECT state FROM runs"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn a_watch_that_fails_begins_again_and_what_waited_is_answered() {
    let home = Home::new();
    let chat = home.register("a");
    let mut daemon = home.start();
    home.inject(&chat, "one");
    home.wait_answers(&chat, &["Andy: echo: one"]);
    let other = home.register("b");
    // It cannot go on where it cannot say how the engine is.
    home.edit(
        "CREATE TRIGGER broken BEFORE UPDATE ON state WHEN new.key = 'engine'
         BEGIN SELECT RAISE(ABORT, 'broken'); END",
    );
    home.engine_mode("not-ready");
    home.inject(&other, "two");
    let line = daemon.wait_line("the watch over the sandbox engine begins again in ");
    assert!(line.contains("broken"), "{line}");
    home.engine_mode("");
    home.edit("DROP TRIGGER broken");
    home.wait_answers(&other, &["Andy: echo: two"]);
    assert!(daemon.is_alive());
    assert_eq!(Some(0), daemon.stop());
}
