//! `install-service` and `uninstall-service`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Home, Kind, part, program, run};

fn home() -> Home {
    let mut home = Home::new();
    let bin = home.path("bin");
    fs::create_dir(&bin).expect("a folder");
    for name in ["systemctl", "loginctl"] {
        symlink(program("fake-systemd"), bin.join(name)).expect("a link");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    home.set("PATH", &format!("{}:{path}", bin.display()));
    home.set("FAKE_SYSTEMD_STATE", &bin.display().to_string());
    home
}

fn unit(home: &Home) -> PathBuf {
    let folder = home.path("user/.config/systemd/user");
    let mut found = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path());
    found.find(|path| path.is_file()).expect("a unit")
}

#[test]
fn h76_installed_twice_is_installed_once_and_goes_without_a_trace() {
    let home = home();
    let told = home.run(&["install-service"]).ok();
    assert!(told.contains("ExecStart=") && told.contains("to undo it"), "{told}");
    let text = fs::read_to_string(unit(&home)).expect("a text");
    assert!(text.contains(&format!("PATH={}:", home.path("bin").display())), "{text}");
    let told = home.run(&["install-service"]).ok();
    assert!(told.contains("is there as it has to be") && !told.contains("ExecStart"), "{told}");
    let calls = fs::read_to_string(home.path("bin/calls")).expect("it was called");
    assert!(calls.contains("loginctl enable-linger\n"), "{calls}");
    assert!(calls.contains("systemctl --user daemon-reload\n"), "{calls}");
    assert!(calls.contains("systemctl --user restart rust-claw-"), "{calls}");

    home.run(&["uninstall-service"]).ok();
    let folder = home.path("user/.config/systemd/user");
    let left: Vec<_> = fs::read_dir(folder.join("default.target.wants"))
        .expect("a folder")
        .chain(fs::read_dir(&folder).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.is_dir())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(home.run(&["uninstall-service"]).ok().contains("no service is installed"));
}

#[test]
fn without_a_manager_that_answers_it_is_written_and_said() {
    let home = home();
    fs::write(home.path("bin/down"), "").expect("a file");
    let told = home.run(&["install-service"]).ok();
    assert!(told.contains("not done: systemctl --user daemon-reload (Failed to connect"), "{told}");
    assert!(unit(&home).is_file());
}

#[test]
fn settings_that_cannot_be_used_are_said_before_anything_is_written() {
    let home = home();
    home.write_env("LOG_LEVEL=loud\n");
    home.run(&["install-service"]).refused(78, &["LOG_LEVEL"]);
    assert!(!home.path("user/.config/systemd").exists());
}

#[test]
fn systemd_takes_the_unit() {
    let home = home();
    home.run(&["install-service", "--no-start"]).ok();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--user", "--man=no"]).arg(unit(&home));
    verify.env("XDG_RUNTIME_DIR", home.path("user"));
    let done = run(verify, b"");
    assert_eq!((Some(0), ""), (done.code, done.stderr.as_str()), "{done:?}");
}

#[test]
fn h76_bwrap_user_units_run_the_program_and_start_it_again() {
    part("CLAW_TEST_USER_UNITS");
    let mut home = Home::with(Kind::Bwrap);
    let runner = program("claw-agent-runner");
    home.write_env(&format!("CONTAINER_RUNTIME=bwrap\nRUNNER={}\n", runner.display()));
    home.set("CLAW", &program("rust-claw").display().to_string());
    home.set("CLAW_HOME", &home.path("home").display().to_string());
    home.set("RUN", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/user-units.sh"));
    let script = r#"
        set -eu
        claw() { "$CLAW" --home "$CLAW_HOME" "$@"; }
        await() { for n in $(seq 300); do if eval "$1"; then return; fi; sleep 0.1; done; exit 9; }
        show() { systemctl --user show --value --property "$1" "$unit"; }
        # An `ask` before that would serve the home itself, and the unit would find it taken.
        served() {
            main=$(show MainPID)
            [ "$main" != 0 ] && claw status --json | grep -q "\"pid\": *$main\\b"
        }
        claw install-service >&2
        unit=$(basename "$HOME"/.config/systemd/user/rust-claw-*.service)
        await served
        claw ask --timeout 60 hello >answer 2>&1
        pid=$(show MainPID)
        kill -9 "$pid"
        await '[ "$(show NRestarts)" = 1 ] && served'
        claw ask --timeout 60 again >>answer 2>&1
        echo "another: $([ "$(show MainPID)" != "$pid" ] && echo yes), restarts $(show NRestarts)"
        echo LOG_LEVEL=loud >>"$CLAW_HOME/.env"
        systemctl --user restart "$unit" || true
        await '[ "$(show ActiveState)" = failed ]'
        echo "settings: $(show ExecMainStatus), restarts $(show NRestarts)"
        sed -i /loud/d "$CLAW_HOME/.env"
        systemctl --user restart "$unit"
        await served
        claw uninstall-service >&2
        echo "left: $(show LoadState) $(show ActiveState) $(ls "$HOME/.config/systemd/user")"
        cat answer
    "#;
    home.set("SCRIPT", script);
    let done = home.shell(r#"unshare --mount sh "$RUN" sh -c "$SCRIPT""#, "");
    let told = done.stdout.as_str();
    for line in [
        "another: yes, restarts 1\n",
        "settings: 78, restarts 0\n",
        "left: not-found inactive default.target.wants\n",
        "hello",
        "again",
    ] {
        assert!(told.contains(line), "{line}: {done:?}");
    }
}
