//! What the agent can use up.

use std::process::Command;

use super::{Arena, EVIL, in_every_engine};
use crate::support::{Kind, run, wait_for};

/// Command lines of all processes of the machine that hold `mark`.
fn processes(mark: &str) -> Vec<String> {
    let found = std::fs::read_dir("/proc").expect("proc").flatten();
    let lines = found.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(mark)).collect()
}

impl Arena {
    fn flood_mb(&self) -> u32 {
        if self.home.kind() == Kind::Bwrap { 10_000 } else { 1000 }
    }
}

fn forks_end(arena: &Arena) {
    let begun = arena.begin(EVIL, "forks 2000");
    arena.is_served();
    let said = arena.end(EVIL, begun);
    let started = said.split(' ').nth(1).and_then(|count| count.parse::<u32>().ok());
    let started = started.expect("a count");
    assert!((1..=512).contains(&started), "{said}");
}

#[test]
fn h58_processes_are_bounded_bwrap() {
    // The kernel exempts root: `status` says so, and so does SECURITY.md.
    forks_end(&Arena::new(Kind::BwrapUser));
}

#[test]
fn h58_processes_are_bounded_docker() {
    forks_end(&Arena::new(Kind::Docker));
}

#[test]
fn h58_processes_are_bounded_podman() {
    forks_end(&Arena::new(Kind::Podman));
}

fn memory_ends(kind: Kind) {
    let arena = Arena::new(kind);
    arena.home.run(&["set-limits", "--group", "evil", "--memory", "256m"]).ok();
    let begun = arena.begin(EVIL, "memory 3072");
    arena.is_served();
    let said = arena.end(EVIL, begun);
    assert!(!said.contains("3221225472"), "it had 3 GiB: {said}");
    arena.is_served();
}

#[test]
fn h58_memory_is_bounded_docker() {
    memory_ends(Kind::Docker);
}

#[test]
fn h58_memory_is_bounded_podman() {
    memory_ends(Kind::Podman);
}

in_every_engine! {
    fn h58_its_temporary_files_are_bounded(arena) {
        arena.home.run(&["set-limits", "--group", "evil", "--memory", "256m"]).ok();
        for folder in ["/tmp", "/home/node", "/dev/shm"] {
            let script = format!("head -c 300M /dev/zero >{folder}/x; stat -c %s {folder}/x; rm {folder}/x");
            let said = arena.sh(&script);
            let bytes = said.lines().find_map(|line| line.parse::<u64>().ok());
            assert!(bytes.is_none_or(|bytes| bytes <= 64 << 20), "{folder}: {said}");
        }
    }

    fn h58_open_files_are_bounded(arena) {
        assert_eq!("4096\n4096\n[0]", arena.sh("ulimit -n; ulimit -Hn"));
    }

    fn h35_a_flood_of_output_costs_no_memory(arena) {
        // Docker and podman copy it twice more: 10 GB would take minutes there.
        let begun = arena.begin(EVIL, &format!("flood {}", arena.flood_mb()));
        arena.is_served();
        assert_eq!("flooded", arena.end(EVIL, begun));
        let begun = arena.begin(EVIL, "large 1000");
        arena.is_served();
        assert_eq!("sent", arena.end(EVIL, begun), "the frame of 1 GB is given up, the next counts");
        // Frames may be 10 MiB, and a JSON parser holds a text twice.
        let peak = arena.daemon_peak_mib();
        assert!(peak < 150, "{peak} MiB");
    }

    fn h26_what_ignores_its_stop_is_ended(arena) {
        let mark = format!("beat-{}-{}", std::process::id(), module_path!());
        assert_eq!("stays", arena.attack(&format!("stay {mark}")));
        wait_for("its helper", || !processes(&mark).is_empty());
        arena.stop();
        wait_for("the end of all that it left", || processes(&mark).is_empty());
        arena.start();
    }

    fn h24_a_turn_without_an_end_is_ended(arena) {
        arena.home.run(&["set-limits", "--group", "evil", "--timeout-ms", "2000"]).ok();
        arena.begin(EVIL, "sh\ntrap '' TERM; while :; do sleep 1; done");
        wait_for("the end of the run", || {
            arena.home.number("SELECT count(*) FROM runs WHERE folder = 'evil' AND state = 'failed'") > 0
        });
    }
}

/// What an engine that is asked about its containers says.
#[test]
fn h52_no_secret_where_docker_and_ps_show_it_docker() {
    let arena = Arena::new(Kind::Docker);
    let token = arena.attack("token");
    assert!(token.starts_with("claw-"), "{token}");
    let mut ids = Command::new("docker");
    ids.args(["ps", "-q", "--filter", "label=rust-claw.folder=evil"]);
    let ids = run(ids, b"").ok();
    let mut inspect = Command::new("docker");
    inspect.arg("inspect").args(ids.split_whitespace());
    let mut ps = Command::new("ps");
    ps.args(["-eww", "-o", "args"]);
    for (what, shown) in [("inspect", run(inspect, b"").ok()), ("ps", run(ps, b"").ok())] {
        assert!(shown.contains("rust-claw-evil"), "{what} shows the container: {shown}");
        for secret in [super::KEY, token.as_str()] {
            assert!(!shown.contains(secret), "{what}");
        }
    }
    arena.is_served();
}
