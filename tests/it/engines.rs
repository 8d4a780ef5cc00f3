//! The real engines: the same question, the same answer, files that belong to the host's user.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::{Follower, Home, Kind, entries, wait_for};

/// What the demo engine says to the first message.
const ANSWER: &str = "You said: hi\n(Demo engine, no model. Turn 1.)\n(For real answers put \
                      ANTHROPIC_API_KEY=… into the home folder's .env.)\n";

/// `echo hi | rust-claw ask`, and a file.
fn check(kind: Kind) {
    let home = Home::with(kind);
    assert_eq!(ANSWER, home.run_with(&["ask"], "hi\n").ok(), "{kind:?}");
    // The session goes on in the next sandbox.
    let written = home.run(&["ask", "/write note.txt made inside"]).ok();
    assert!(written.contains("Wrote `note.txt`") && written.contains("Turn 2."), "{written}");
    let file = home.at("groups/main/note.txt");
    assert_eq!("made inside", fs::read_to_string(&file).expect("it can be read"));
    let expected = fs::metadata(home.path("home")).expect("it is there").uid();
    let owner = fs::metadata(&file).expect("it is there").uid();
    assert_eq!(expected, owner, "{kind:?}: h31: whose file");
    for place in ["data/sessions/main/.claude", "data/ipc/main"] {
        for path in entries(&home.at(place)) {
            let owner = fs::symlink_metadata(&path).expect("it is there").uid();
            assert_eq!(expected, owner, "{}", path.display());
        }
    }
    let logs = entries(&home.at("groups/main/logs"));
    assert_eq!(2, logs.len(), "a log per run");
    for log in logs {
        assert_eq!(0o600, fs::metadata(&log).expect("it is there").mode() & 0o777);
        assert!(!fs::read_to_string(&log).expect("text").contains("made inside"), "h60");
    }
}

#[test]
fn h31_bwrap_answers_and_its_files_are_ours() {
    check(Kind::Bwrap);
}

#[test]
fn h31_docker_answers_and_its_files_are_ours() {
    check(Kind::Docker);
}

#[test]
fn h31_podman_answers_and_its_files_are_ours() {
    check(Kind::Podman);
}

#[test]
fn h31_rootless_podman_answers_and_its_files_are_ours() {
    check(Kind::Rootless);
}

/// Follow-ups, `_close` when idle, and what is said of an end by the daemon.
fn serve(kind: Kind) {
    let home = Home::with(kind).env("IDLE_TIMEOUT", "2000");
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "one");
    assert!(follower.text().starts_with("Andy: You said: one\n"));
    home.inject(&chat, "two");
    assert!(follower.text().starts_with("Andy: You said: two\n(Demo engine, no model. Turn 2.)"));
    wait_for("a polite end", || home.texts("SELECT state FROM runs") == ["succeeded"]);
    home.inject(&chat, "/sleep 120");
    home.wait_runs("busy", 1);
    // Without a turn that ends, the stop takes it away by name.
    assert_eq!(Some(0), daemon.stop());
    assert_eq!("interrupted", home.texts("SELECT state FROM runs ORDER BY id")[1]);
    assert_eq!(1, home.number("SELECT 3 - cursor_seq FROM group_chats WHERE jid = 'script:a'"));
    drop(follower);
    let inside = std::process::Command::new("pgrep")
        .args(["-f", &home.path("home").display().to_string()])
        .output()
        .expect("pgrep");
    assert_eq!("", String::from_utf8_lossy(&inside.stdout), "nothing is left");
}

#[test]
fn bwrap_serves_follow_ups_and_leaves_nothing() {
    serve(Kind::Bwrap);
}

#[test]
fn h26_docker_serves_follow_ups_and_leaves_nothing() {
    serve(Kind::Docker);
}

#[test]
fn h26_podman_serves_follow_ups_and_leaves_nothing() {
    serve(Kind::Podman);
}

/// What `docker ps` says of containers with a label.
fn containers(label: &str) -> String {
    let output = std::process::Command::new("docker")
        .args(["ps", "--all", "--quiet", "--filter", &format!("label={label}")])
        .output()
        .expect("docker");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn h26_h27_docker_containers_of_a_killed_daemon_are_removed_and_no_others() {
    let home = Home::with(Kind::Docker);
    let other = Home::with(Kind::Docker);
    let label = |home: &Home| {
        let name = home.texts("SELECT container_name FROM runs");
        let output = std::process::Command::new("docker")
            .args(["inspect", "--format", "{{index .Config.Labels \"rust-claw.home\"}}", &name[0]])
            .output()
            .expect("docker");
        format!("rust-claw.home={}", String::from_utf8_lossy(&output.stdout).trim())
    };
    let chats = [&home, &other].map(|home| home.register("a"));
    let daemons = [home.start(), other.start()];
    for (home, chat) in [&home, &other].iter().zip(&chats) {
        home.inject(chat, "/sleep 300");
        home.wait_runs("busy", 1);
        let name = home.texts("SELECT container_name FROM runs")[0].clone();
        wait_for("a container", || {
            let output = std::process::Command::new("docker")
                .args(["ps", "--quiet", "--filter", &format!("name=^{name}$")])
                .output()
                .expect("docker");
            !output.stdout.is_empty()
        });
    }
    let labels = [label(&home), label(&other)];
    assert_ne!(labels[0], labels[1]);
    let [daemon, other_daemon] = daemons;
    daemon.kill();
    let before = containers(&labels[0]);
    assert_eq!(1, before.lines().count(), "a container outlives its client");
    home.edit("UPDATE messages SET text = 'quick'");
    let daemon = home.start();
    wait_for("its removal", || !containers(&labels[0]).contains(before.trim()));
    assert_eq!(1, containers(&labels[1]).lines().count(), "another home's is left alone");
    assert_eq!(Some(0), daemon.stop());
    assert_eq!(Some(0), other_daemon.stop());
    assert_eq!(("", ""), (containers(&labels[0]).as_str(), containers(&labels[1]).as_str()));
}

#[test]
fn h30_docker_without_the_image_names_the_command() {
    let home = Home::with(Kind::Docker).env("CONTAINER_IMAGE", "rust-claw-nobody-has-this:1");
    home.run(&["ask", "hi"]).refused(75, &["rust-claw-nobody-has-this:1", "setup image"]);
}

/// With no network and nothing but what the image brings, the runner is there, of our version, and
/// answers at once: nothing is compiled or fetched at a start.
#[test]
fn h34_the_docker_image_ships_the_runner_built() {
    let image = crate::support::part("CLAW_TEST_IMAGE");
    let inside = "command -v cargo rustc gcc tsc; exec claw-agent-runner --version";
    let output = std::process::Command::new("docker")
        .args(["run", "--rm", "--pull", "never", "--network", "none", "--read-only"])
        .args(["--entrypoint", "/bin/sh", &image, "-c", inside])
        .output()
        .expect("docker starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let version = format!("claw-agent-runner {}\n", rust_claw_protocol::RUNNER_VERSION);
    assert_eq!(version, String::from_utf8_lossy(&output.stdout));
}
