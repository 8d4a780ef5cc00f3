//! Settings, the home folder, the database: what cannot be used is said in one line, with exit
//! code 78, and nothing is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use crate::support::{Home, entries};

#[test]
fn h44_each_value_that_cannot_be_used_is_named_with_its_line() {
    let home = Home::new();
    for (name, value, allowed) in [
        ("ASSISTANT_NAME", "x".repeat(51).as_str(), "1 to 50 characters"),
        ("ASSISTANT_HAS_OWN_NUMBER", "maybe", "true or false"),
        ("ANTHROPIC_BASE_URL", "ftp://x", "http:// or https://"),
        ("CREDENTIALS", "env", "proxy or stdin"),
        ("AGENT_ENGINE", "gpt", "auto, claude or demo"),
        ("CONTAINER_TIMEOUT", "999", "1000 to 86400000"),
        ("IDLE_TIMEOUT", "1h", "1000 to 86400000"),
        ("CONTAINER_MAX_OUTPUT_SIZE", "1", "65536 to 1073741824"),
        ("MAX_CONCURRENT_CONTAINERS", "0", "1 to 256"),
        ("CONTAINER_IMAGE", "--privileged", "without spaces"),
        ("LOG_LEVEL", "loud", "error, warn, info, debug or trace"),
        ("CLAUDE_CLI", "claude", "an absolute path"),
        ("TZ", "IST-2", "an IANA name like Europe/Berlin"),
        ("TZ", "'open", "quote"),
    ] {
        home.write_env(&format!("# settings\n\n{name}={value}\n"));
        for command in ["run", "ask", "chat", "status", "list-groups", "inject"] {
            home.run_with(&[command], "x").refused(78, &[&format!(".env:3: {name}: "), allowed]);
        }
    }
    assert_eq!(vec![home.at(".env")], entries(&home.path("home")), "nothing else was made");
    home.write_env("ASSISTANT_NAME=Eva\n");
    let daemon = home.run(&["ask", "--json", "hi"]);
    assert_eq!(Some(0), daemon.code, "{daemon:?}");
}

#[test]
fn the_environment_goes_before_the_file_and_is_named() {
    let home = Home::new().env("IDLE_TIMEOUT", "soon");
    home.write_env("IDLE_TIMEOUT=5000\n");
    home.run(&["run"]).refused(78, &["environment: IDLE_TIMEOUT: `soon`"]);
}

#[test]
fn a_secret_is_never_in_an_error() {
    let home = Home::new();
    home.write_env("ANTHROPIC_API_KEY='sk planted'\n");
    let done = home.run(&["status"]);
    done.refused(78, &[".env:1: ANTHROPIC_API_KEY"]);
    assert!(!done.stderr.contains("planted"), "{done:?}");
}

#[test]
fn h72_the_file_is_read_as_a_shell_would() {
    let home = Home::new();
    home.write_env(
        "# one character, quotes, export, comments\r\nexport ASSISTANT_NAME=\"X\" # me\n\
         MAX_CONCURRENT_CONTAINERS=3#4\nMAX_CONCURRENT_CONTAINERS=3 # 4\nother stuff\nA==\n",
    );
    home.run(&["register-group", "--jid", "script:a", "--folder", "a"]).ok();
    assert_eq!("@X", home.json(&["list-groups", "--json"])[1]["trigger"]);
    assert_eq!(3, home.json(&["status", "--json"])["sandboxes_max"]);
}

#[test]
fn a_home_that_others_can_write_or_that_cannot_be_made_is_refused() {
    let home = Home::new();
    home.write_env("");
    fs::set_permissions(home.path("home"), fs::Permissions::from_mode(0o777)).expect("ours");
    home.run(&["status"]).refused(78, &["can be written by others", "chmod go-w"]);
    fs::set_permissions(home.path("home"), fs::Permissions::from_mode(0o700)).expect("ours");
    home.run(&["status"]).ok();

    fs::write(home.path("file"), "").expect("a file");
    let file = home.path("file").display().to_string();
    let sub = format!("{file}/home");
    for place in [file.as_str(), &sub, "/proc/nothing/here"] {
        home.run(&["--home", place, "status"]).refused_somehow(1);
        let mut command = std::process::Command::new(crate::support::program("rust-claw"));
        command.env_clear().args(["--home", place, "run"]);
        crate::support::run(command, b"").refused(78, &[place]);
    }
    let mut command = std::process::Command::new(crate::support::program("rust-claw"));
    command.env_clear().arg("status");
    crate::support::run(command, b"").refused(78, &["--home DIR", "RUST_CLAW_HOME"]);
}

#[test]
fn the_home_is_found_by_flag_variable_and_default() {
    let home = Home::new();
    let expect = |command: &mut std::process::Command, sub: &str| {
        let mut fresh = std::process::Command::new(command.get_program());
        fresh.args(command.get_args()).env_clear();
        let env: Vec<_> = command.get_envs().collect();
        fresh.envs(env.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let status = crate::support::run(fresh, b"").ok();
        // As people write it, where it is below their own folder.
        let found = match sub.strip_prefix("user/") {
            Some(below) => format!("~/{below}"),
            None => home.path(sub).display().to_string(),
        };
        assert!(status.contains(&found), "{found}: {status}");
    };
    let program = crate::support::program("rust-claw");
    let mut command = std::process::Command::new(&program);
    command.env("HOME", home.path("user")).arg("status");
    expect(&mut command, "user/.rust-claw");
    command.env("RUST_CLAW_HOME", home.path("second"));
    expect(&mut command, "second");
    let mut flagged = std::process::Command::new(&program);
    flagged.env("RUST_CLAW_HOME", home.path("second"));
    flagged.arg("--home").arg(home.path("third")).arg("status");
    expect(&mut flagged, "third");
    let mode = fs::metadata(home.path("third")).expect("made").permissions().mode();
    assert_eq!(0o700, mode & 0o777);
}

#[test]
fn a_newer_database_is_refused_and_not_touched() {
    let home = Home::new();
    home.run(&["status"]).ok();
    let path = home.at("store/messages.db");
    let database = Connection::open(&path).expect("it is there");
    database.pragma_update(None, "user_version", 999).expect("it is ours");
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("it is ours");
    drop(database);
    let before = fs::read(&path).expect("it is there");
    for args in [&["run"][..], &["ask", "x"], &["status"], &["inject"], &["outbox"], &["chat"]] {
        home.run(args).refused(78, &["schema 999", "run the newer program"]);
    }
    assert!(before == fs::read(&path).expect("it is there"), "the bytes have changed");
}

#[test]
fn what_is_no_database_is_said() {
    let home = Home::new();
    home.run(&["status"]).ok();
    for file in entries(&home.at("store")) {
        if file.is_file() {
            fs::remove_file(file).expect("it is ours");
        }
    }
    let path = home.at("store/messages.db");
    fs::write(&path, "no database, but long enough to be looked at".repeat(100)).expect("a file");
    let before = fs::read(&path).expect("it is there");
    home.run(&["run"]).refused_somehow(75);
    assert!(before == fs::read(&path).expect("it is there"), "the bytes have changed");
}

#[test]
fn usage_errors_are_1_and_help_names_every_command() {
    let home = Home::new();
    home.run(&[]).refused(1, &["no command"]);
    home.run(&["dance"]).refused_somehow(1);
    home.run(&["status", "--loud"]).refused_somehow(1);
    let help = home.run(&["--help"]).ok();
    for command in [
        "run",
        "chat",
        "ask",
        "status",
        "register-group",
        "unregister-group",
        "list-groups",
        "inject",
        "outbox",
    ] {
        assert!(help.contains(command), "{command}: {help}");
        home.run(&[command, "--help"]).ok();
    }
    assert!(home.run(&["--version"]).ok().starts_with("rust-claw 0."));
    assert!(!home.path("home").exists(), "to ask for help makes nothing");
}

#[test]
fn status_says_how_things_stand() {
    let home = Home::new();
    let told = home.run(&["status"]).ok();
    assert!(told.contains("not running") && told.contains("rust-claw run"), "{told}");
    let status = home.json(&["status", "--json"]);
    assert_eq!((true, true), (status["daemon"].is_null(), status["engine"].is_null()));
    home.register("a");
    let daemon = home.start();
    home.inject("script:a", "x fake:sleep=60000");
    home.wait_runs("busy", 1);
    crate::support::wait_for("the engine in the status", || {
        home.json(&["status", "--json"])["engine"]["state"] == "ready"
    });
    let status = home.json(&["status", "--json"]);
    assert_eq!(u64::from(daemon.pid()), status["daemon"]["pid"].as_u64().expect("a pid"));
    assert!(status["daemon"]["uptime_s"].is_u64(), "{status}");
    assert_eq!(2, status["groups"]);
    let run = &status["sandboxes"][0];
    assert_eq!(
        ("a", "busy"),
        (run["group"].as_str().expect("a group"), run["state"].as_str().expect("a state"),)
    );
    let told = home.run(&["status"]).ok();
    for part in [&format!("pid {}", daemon.pid()), "sandboxes  1 of 5", "engine     docker"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
