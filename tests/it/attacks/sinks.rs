//! What the agent puts where the host writes or reads. Here the wall is the host's own
//! (`src/boundary.rs`), the same for all engines; that a swap in the middle of a step leads nowhere
//! is tried 10,000 times beside it (`h50_10_000_swaps_of_folder_and_link_never_lead_outside`).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Arena, EVIL};
use crate::support::Kind;

/// A folder outside of every sandbox that nothing may be written to, and what is in it.
fn victim(arena: &Arena) -> PathBuf {
    let path = arena.home.path("victim");
    fs::create_dir(&path).expect("a folder");
    fs::write(path.join("CLAUDE.md"), "mine").expect("a file");
    fs::write(path.join("1.json"), r#"{"type":"message","text":"attack #0 token"}"#)
        .expect("a file");
    path
}

fn is_untouched(victim: &std::path::Path) {
    let names: Vec<PathBuf> = crate::support::entries(victim);
    assert_eq!(vec![victim.join("1.json"), victim.join("CLAUDE.md")], names);
    assert_eq!("mine", fs::read_to_string(victim.join("CLAUDE.md")).expect("it is there"));
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(victim).expect("it is there"));
    assert_eq!(0o755, mode & 0o777);
}

#[test]
fn h50_a_link_at_every_sink_leads_nowhere_bwrap() {
    let arena = Arena::new(Kind::Bwrap);
    let victim = victim(&arena);
    let to = victim.display();
    for (sink, is_folder) in [
        ("/workspace/ipc/input", true),
        ("/workspace/ipc/messages", true),
        ("/workspace/ipc/tasks", true),
        ("/workspace/ipc/responses", true),
        ("/workspace/group/CLAUDE.md", false),
        ("/workspace/ipc/current_tasks.json", false),
        ("/workspace/ipc/available_groups.json", false),
        ("/workspace/ipc/input/_close", false),
    ] {
        let target = if is_folder { to.to_string() } else { format!("{to}/CLAUDE.md") };
        let said = arena.sh(&format!("rm -rf {sink}; ln -s {target} {sink}; readlink {sink}"));
        assert!(said.starts_with(&target), "{sink}: {said}");
        // While it runs: the host hands in a message, and asks it to close.
        arena.home.inject(EVIL, "hello");
        arena.is_served();
        // The next start finds the link.
        arena.stop();
        arena.start();
        arena.home.inject(EVIL, "hello again");
        arena.is_served();
        is_untouched(&victim);
        // As a person would.
        let place = sink
            .replace("/workspace/ipc", "data/ipc/evil")
            .replace("/workspace/group", "groups/evil");
        let place = arena.home.at(&place);
        if place.is_symlink() {
            fs::remove_file(&place).expect("it is a link");
        }
        arena.stop();
        arena.start();
        arena.lives_on(&format!("alive after {sink}"));
    }
}

/// Follow-ups that the host is made to write; the agent swaps some thousand times meanwhile.
const WRITES: usize = 200;

/// Less would be no attack.
const SWAPS_MIN: u64 = 1000;

#[test]
fn h50_swapping_folders_and_links_while_the_host_writes_leads_nowhere_bwrap() {
    let arena = Arena::new(Kind::Bwrap);
    let victim = victim(&arena);
    arena.begin(EVIL, &format!("swap /workspace/ipc input {} 10000", victim.display()));
    // Each is a file that the host writes into the folder that is being swapped. Where it meets the
    // link it refuses, and ends the sandbox; the next one swaps again.
    for _ in 0..WRITES {
        if arena.home.answers(EVIL).iter().any(|text| text.contains("swapped")) {
            break;
        }
        arena.home.inject(EVIL, "hello");
        is_untouched(&victim);
    }
    arena.is_served();
    arena.stop();
    is_untouched(&victim);
    let swaps = fs::metadata(arena.home.at("groups/evil/swaps")).expect("it has begun").len();
    assert!(SWAPS_MIN <= swaps, "only {swaps} swaps while the host wrote");
    arena.start();
    arena.is_served();
}

#[test]
fn h51_whatever_lies_where_json_is_expected_costs_little_bwrap() {
    let arena = Arena::new(Kind::Bwrap);
    for (what, script) in [
        ("a FIFO", "mkfifo 1.json 2.json _close"),
        (
            "a socket",
            "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local=>\"1.json\",Listen=>1)'",
        ),
        ("folders", "mkdir -p 1.json/a/b _close/x"),
        ("a sparse file of 2 GiB", "truncate -s 2G 1.json"),
        ("100,000 files", "seq -f %06g.json 100000 | xargs touch"),
        ("names of 255 bytes", "touch $(head -c 250 /dev/zero | tr '\\0' x).json"),
        ("names that are no text", "touch \"$(printf 'a\\377\\n\\033[31mb').json\""),
    ] {
        let folders = ["input", "messages", "tasks", "responses"];
        for folder in &folders[..if what.starts_with("100") { 2 } else { 4 }] {
            let said = arena.sh(&format!("cd /workspace/ipc/{folder} && {script}; echo done"));
            assert!(said.contains("done"), "{what}: {said}");
        }
        // It lies there while the run ends and when the next one starts.
        let stopping = Instant::now();
        arena.stop();
        assert!(stopping.elapsed() < Duration::from_secs(30), "{what}");
        arena.start();
        arena.is_served();
        arena.lives_on(&format!("alive after {what}"));
        arena.sh("cd /workspace/ipc && find . -mindepth 2 -delete; echo clean");
    }
    let peak = arena.daemon_peak_mib();
    assert!(peak < 100, "{peak} MiB");
}
