//! What must not be written down.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{Follower, Home, entries, wait_for};

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(folder) {
        let kind = fs::symlink_metadata(&path).expect("it is there").file_type();
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found
}

fn logs(home: &Home) -> Vec<PathBuf> {
    files(&home.path("home"))
        .into_iter()
        .filter(|path| path.components().any(|part| part.as_os_str() == "logs"))
        .collect()
}

#[test]
fn h60_no_text_and_no_secret_is_in_any_log() {
    let home = Home::new();
    home.write_env("ANTHROPIC_API_KEY=sk-planted-key\nAGENT_ENGINE=demo\n");
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    for words in ["", "fake:stderr=ok", "fake:garbage", "fake:session=s2"] {
        home.inject(&chat, &format!("planted-question {words}"));
        follower.text();
    }
    home.inject(&chat, "planted-question fake:exit=1");
    wait_for("a failed run", || {
        home.number("SELECT count(*) FROM runs WHERE state = 'failed'") == 1
    });
    home.run(&["status"]).ok();
    assert_eq!(Some(0), daemon.stop());
    let logs = logs(&home);
    assert_eq!(2, logs.len(), "the program's and the run's: {logs:?}");
    for log in logs {
        let text = fs::read_to_string(&log).expect("text");
        assert!(!text.contains("planted"), "{}: {text}", log.display());
        let mode = fs::metadata(&log).expect("it is there").permissions().mode();
        assert_eq!(0o600, mode & 0o777, "{}", log.display());
    }
    for call in home.engine_calls().lines() {
        assert!(!call.contains("planted"), "{call}");
    }
}

#[test]
fn at_debug_the_prompt_is_in_the_log_and_still_no_secret() {
    let home = Home::new().env("LOG_LEVEL", "debug");
    home.write_env("ANTHROPIC_API_KEY=sk-planted-key\nAGENT_ENGINE=demo\n");
    home.run(&["ask", "the question"]).ok();
    let log = home.log();
    assert!(log.contains("the question") && !log.contains("planted"), "{log}");
}

#[test]
fn a_text_cannot_forge_a_line_of_the_log() {
    let home = Home::new().env("LOG_LEVEL", "debug");
    home.run(&["ask", "x\n2026-01-01T00:00:00.000+00:00 info stopped"]).ok();
    let forged = home.log().lines().any(|line| line.starts_with("2026-01-01T00:00:00.000"));
    assert!(!forged, "{}", home.log());
}

#[test]
fn what_the_home_holds_is_its_owners_alone() {
    let home = Home::new();
    home.register("a");
    home.run(&["ask", "--group", "a", "hi"]).ok();
    for path in files(&home.path("home")) {
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        // Folders shield what is in them; the store must be shut itself.
        if path.starts_with(home.at("store")) || path.starts_with(home.at("logs")) {
            assert_eq!(0, mode & 0o077, "{}", path.display());
        }
    }
    for folder in ["", "store", "groups", "groups/a", "data/sessions/a", "data/ipc/a", "logs"] {
        let mode = fs::metadata(home.at(folder)).expect(folder).permissions().mode();
        assert_eq!(0o700, mode & 0o777, "{folder}");
    }
}
