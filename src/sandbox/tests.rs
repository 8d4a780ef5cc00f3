//! Sandboxes under a stand-in for docker, with a stand-in for the agent.

use std::fs;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use rustix::process::{Pid, Signal, kill_process, test_kill_process, test_kill_process_group};

use super::fakes::{DEADLINE, World, answer, end, next};
use super::*;
use crate::limits;

const PS: &str = "ps --all --filter label=rust-claw.home=0123456789abcdef --format {{.Names}}\n";
const STOP: &str = "stop -t 1 rust-claw-main-7\n";
const RM: &str = "rm --force rust-claw-main-7\n";
const GRACE: Duration = Duration::from_secs(1);

/// The process group of the container.
fn container(world: &World) -> Pid {
    let text = fs::read_to_string(world.path("containers/rust-claw-main-7")).expect("it runs");
    let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
    pid.and_then(Pid::from_raw).expect("the stand-in notes the process")
}

/// Waits until nothing of a process group runs; whoever inherits the dead reaps them later.
fn wait_gone(group: Pid) {
    let deadline = Instant::now() + DEADLINE;
    while test_kill_process_group(group).is_ok() {
        let stat = fs::read_to_string(format!("/proc/{group}/stat")).unwrap_or_default();
        if stat.contains(") Z ") {
            return;
        }
        assert!(Instant::now() < deadline, "{group} still runs: {stat}");
        std::thread::yield_now();
    }
}

/// Starts a sandbox, waits for its first answer, stops it, and looks at everything.
#[track_caller]
fn check_stop(mode: &str, expected: Stopped, calls: &[&str]) {
    let world = World::new(mode);
    let mut running = world.spawn("hi");
    assert_eq!("echo: hi", answer(&running));
    let (group, client) = (container(&world), running.leader_pid());
    assert_eq!(expected, running.stop(GRACE), "{mode}");
    assert_eq!(calls.concat(), world.calls(), "{mode}");
    drop(running);
    assert_eq!(calls.concat(), world.calls(), "{mode}: nothing more on drop");
    assert!(test_kill_process(client).is_err(), "{mode}: no zombie of the client");
    if expected != Stopped::LeftBehind {
        wait_gone(group);
    }
}

#[test]
fn h24_a_stop_asks_by_name_before_anything_is_killed() {
    check_stop("", Stopped::Asked, &[PS, STOP, PS]);
}

#[test]
fn h26_a_container_deaf_to_term_is_killed_by_its_engine() {
    check_stop("deaf", Stopped::Asked, &[PS, STOP, PS]);
}

#[test]
fn h26_a_container_that_stays_is_removed_and_looked_for() {
    check_stop("kept", Stopped::Asked, &[PS, STOP, PS, RM, PS]);
}

#[test]
fn h26_a_removal_that_fails_is_repeated() {
    check_stop("kept rm-fails-once", Stopped::Asked, &[PS, STOP, PS, RM, PS, RM, PS]);
}

#[test]
fn h26_a_container_that_cannot_be_removed_is_said() {
    let calls = [PS, STOP, PS, RM, PS, RM, PS, RM, PS, RM, PS];
    check_stop("kept rm-fails", Stopped::LeftBehind, &calls);
}

#[test]
fn h26_a_client_that_stays_is_killed() {
    check_stop("client-deaf", Stopped::Killed, &[PS, STOP, PS]);
}

#[test]
fn h26_a_stop_that_fails_ends_in_a_removal() {
    check_stop("stop-fails", Stopped::Killed, &[PS, STOP, PS, RM, PS]);
}

#[test]
fn h26_a_killed_client_does_not_leave_its_container() {
    let world = World::new("");
    let running = world.spawn("hi");
    assert_eq!("echo: hi", answer(&running));
    let group = container(&world);
    kill_process(running.leader_pid(), Signal::KILL).expect("the client runs");
    let ended = end(&running);
    // The container still has the pipes.
    assert_eq!((EndedBy::Signal(9), true), (ended.by, ended.leaked));
    assert!(test_kill_process_group(group).is_ok(), "the container outlives its client");
    drop(running);
    assert_eq!([PS, RM, PS].concat(), world.calls());
    wait_gone(group);
}

#[test]
fn h26_a_dropped_sandbox_is_gone() {
    let world = World::new("");
    let running = world.spawn("fake:hang");
    assert!(matches!(
        running.events.recv_timeout(Duration::from_millis(300)),
        Err(RecvTimeoutError::Timeout)
    ));
    let group = container(&world);
    drop(running);
    assert_eq!([PS, RM, PS].concat(), world.calls());
    wait_gone(group);
}

#[test]
fn a_sandbox_that_ends_well_costs_no_further_command() {
    let world = World::new("");
    let mut running = world.spawn("fake:once");
    assert_eq!("echo: fake:once", answer(&running));
    let ended = end(&running);
    assert_eq!((EndedBy::Code(0), false), (ended.by, ended.leaked));
    assert!(running.events.recv().is_err(), "nothing comes after the end");
    assert_eq!("", world.calls());
    assert_eq!(Stopped::ByItself, running.stop(GRACE));
}

#[test]
fn h27_containers_of_other_homes_are_left_alone() {
    let world = World::new("");
    let mut running = world.spawn("hi");
    assert_eq!("echo: hi", answer(&running));
    let (own, other) = ("0123456789abcdef", "fedcba9876543210");
    assert_eq!(["rust-claw-main-7"], *world.engine.list_owned(own).expect("a list"));
    assert!(world.engine.list_owned(other).expect("a list").is_empty());
    let group = container(&world);
    world.engine.remove(other, "rust-claw-main-7").expect("nothing of theirs to remove");
    assert!(!world.calls().contains("rm --force"), "{}", world.calls());

    // The same name from another home: refused by the engine, and nothing of the first is touched.
    let mut theirs = World::new("");
    theirs.engine = world.engine.clone();
    theirs.spec.home_label = other.into();
    let second = theirs.spawn("hi");
    let ended = end(&second);
    assert_eq!(EndedBy::Code(125), ended.by);
    assert!(ended.complaint.contains("already in use"), "{}", ended.complaint);
    drop(second);
    assert!(!world.calls().contains("rm --force"), "{}", world.calls());
    assert!(test_kill_process_group(group).is_ok());
    running.stop(GRACE);
}

#[test]
fn h29_an_engine_that_is_not_ready_is_said_in_bounded_time() {
    let world = World::new("");
    let detect = |mode: &str| {
        fs::write(world.path("mode"), mode).expect("a new mode");
        let choice = RuntimeChoice::One(RuntimeKind::Docker);
        Engine::detect(choice, Some(&world.path("docker")))
    };
    let finding = detect("not-ready").expect_err("it does not answer");
    assert!(finding.blocks);
    assert!(finding.why.contains("Is the docker daemon running?"), "{finding}");
    assert!(finding.mend.contains("docker"), "{finding}");
    let asked_at = Instant::now();
    let finding = detect("hang").expect_err("it never answers");
    assert_eq!("no answer within 5 s", finding.why);
    assert!(asked_at.elapsed() < limits::ENGINE_COMMAND_MAX);
    detect("").expect("it is ready now");
    let missing = Engine::detect(RuntimeChoice::Auto, Some("/nonexistent/podman".as_ref()));
    let finding = missing.expect_err("it is not there");
    assert_eq!(
        "podman does not answer: not installed",
        format!("{}: {}", finding.what, finding.why)
    );
}

#[test]
fn h30_a_missing_image_is_found_before_a_message_comes() {
    let world = World::new("");
    fs::write(world.path("mode"), "image-missing").expect("a new mode");
    let findings = world.engine.preflight("rust-claw-agent:latest", "/nonexistent".as_ref());
    assert_eq!(
        [
            "image `rust-claw-agent:latest` cannot be used: Error: No such image; to mend it: rust-claw setup image"
        ],
        *findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    assert!(findings[0].blocks);
    // Should one come nevertheless, its run says the same.
    let ended = end(&world.spawn("hi"));
    assert_eq!(EndedBy::Code(125), ended.by);
    assert!(ended.complaint.ends_with("No such image"), "{}", ended.complaint);
}

#[test]
fn h33_an_old_runner_is_said() {
    let world = World::new("");
    let preflight = || world.engine.preflight("rust-claw-agent:latest", "/nonexistent".as_ref());
    assert!(preflight().is_empty());
    fs::write(world.path("mode"), "old-runner").expect("a new mode");
    let findings = preflight();
    assert_eq!(1, findings.len());
    assert!(findings[0].why.contains("0.0.1"), "{}", findings[0]);
    assert!(!findings[0].blocks, "it still works, and is said");
}

#[test]
fn h35_what_a_sandbox_writes_beside_its_frames_is_only_counted() {
    let world = World::new("");
    let running = world.spawn("fake:flood=20 fake:garbage fake:markers fake:once");
    let mut flaws = Vec::new();
    let text = loop {
        match next(&running) {
            SandboxEvent::Frame { output, .. } => break output.result.expect("a text"),
            SandboxEvent::BadFrame(bad) => flaws.push(bad.why),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([Flaw::NotOutput, Flaw::NotOutput], *flaws);
    let (start, end_marker) = (rust_claw_protocol::OUTPUT_START, rust_claw_protocol::OUTPUT_END);
    assert_eq!(format!("{start}\n{end_marker}\n{start}"), text);
    end(&running);
    let log = world.logged();
    assert!(log.contains("bad frame why=not-output bytes=5\n"), "{log}");
    assert!(log.contains("stdout_bytes=20000"), "{log}");
    assert!(!log.contains("xxx") && log.len() < 1000, "{log}");
}

#[test]
fn h35_a_frame_that_is_too_large_is_dropped_and_said() {
    let world = World::new("");
    let running = world.spawn_limited("fake:large=3 fake:once", 1_000_000);
    let SandboxEvent::BadFrame(bad) = next(&running) else { panic!("no bad frame") };
    assert_eq!(Flaw::TooLarge, bad.why);
    assert!(3_000_000 < bad.bytes, "{}", bad.bytes);
    assert!(answer(&running).starts_with("echo: "));
}

#[test]
fn h60_the_log_of_a_run_has_no_text_of_a_message() {
    let world = World::new("");
    let running = world.spawn("the-secret-phrase fake:stderr=oops fake:exit=3");
    let ended = end(&running);
    assert_eq!((EndedBy::Code(3), "oops"), (ended.by, &*ended.complaint));
    let log = world.logged();
    for expected in
        ["start folder=main runtime=docker", "stderr: oops\n", "end by=\"exit status 3\""]
    {
        assert!(log.contains(expected), "{log}");
    }
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn every_frame_arrives_in_order_though_nobody_reads_at_first() {
    let world = World::new("");
    let running = world.spawn("fake:frames=5000 fake:once");
    // More than the channel holds: the sandbox waits, nothing is lost.
    while running.events.len() < limits::RUN_EVENTS_MAX {
        std::thread::yield_now();
    }
    for _ in 0..5000 {
        assert_eq!("small", answer(&running));
    }
    assert!(answer(&running).starts_with("echo: "));
}

#[test]
fn a_sandbox_that_nobody_reads_can_be_dropped() {
    let world = World::new("");
    let running = world.spawn("fake:frames=5000");
    while running.events.len() < limits::RUN_EVENTS_MAX {
        std::thread::yield_now();
    }
    let events = running.events.clone();
    let dropped_at = Instant::now();
    drop(running);
    assert!(dropped_at.elapsed() < DEADLINE);
    assert_eq!(limits::RUN_EVENTS_MAX, events.iter().count());
}

#[test]
fn a_large_frame_is_worked_on_before_the_next_comes() {
    let world = World::new("");
    let running = world.spawn("fake:large=1 fake:once");
    let SandboxEvent::Frame { held, .. } = next(&running) else { panic!("no frame") };
    let waited = running.events.recv_timeout(Duration::from_millis(100));
    assert!(matches!(waited, Err(RecvTimeoutError::Timeout)), "{waited:?}");
    drop(held);
    assert!(answer(&running).starts_with("echo: "));
    // Nor does one that is never worked on keep the sandbox from ending.
    let running = world.spawn("fake:large=1 fake:once");
    let SandboxEvent::Frame { held, .. } = next(&running) else { panic!("no frame") };
    drop(running);
    drop(held);
}

#[test]
fn a_child_that_never_reads_holds_nobody_up() {
    let world = World::new("unread");
    let started_at = Instant::now();
    let mut running = world
        .engine
        .spawn(&world.spec, vec![b'x'; 8 * 1024 * 1024], &world.log(), 1000, || ())
        .expect("it starts");
    // Else the stop could come before the container is there.
    while !world.path("containers/rust-claw-main-7").exists() {
        assert!(started_at.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    assert_eq!(Stopped::Asked, running.stop(GRACE));
    drop(running);
    assert!(started_at.elapsed() < DEADLINE);
}

#[test]
fn a_process_that_escapes_and_holds_the_pipe_does_not_keep_the_run_open() {
    let world = World::new("");
    let running = world.spawn("fake:leak fake:once");
    assert!(answer(&running).starts_with("echo: "));
    let ended = end(&running);
    assert_eq!((EndedBy::Code(0), true), (ended.by, ended.leaked));
}

#[test]
fn an_input_larger_than_the_pipe_arrives_whole() {
    let world = World::new("");
    let text = "y".repeat(3 * 1024 * 1024);
    let running = world.spawn(&format!("{text} fake:once"));
    assert_eq!(format!("echo: {text} fake:once"), answer(&running));
}

#[test]
fn h56_a_spec_with_an_option_in_it_starts_nothing() {
    let mut world = World::new("");
    world.spec.mounts[0].host = "/a,readonly=false".into();
    let refused = world.engine.spawn(&world.spec, Vec::new(), &world.log(), 1000, || ());
    assert!(matches!(refused, Err(SpawnError::Unsafe(_))));
    assert!(!world.path("calls").exists());
}
