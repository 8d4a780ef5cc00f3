//! `doctor`: each fault is planted, the command that it names for it is typed, and it is well again.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Home, KEY, Model, program};

/// A home that was started once, with nothing wrong.
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
    home.run(&["status"]).ok();
    home
}

fn examined(home: &Home) -> (Option<i32>, Vec<Value>) {
    let done = home.run(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    assert_eq!(report["ok"], json!(done.code == Some(0)), "{done:?}");
    (done.code, report["checks"].as_array().expect("a list").clone())
}

fn bad(checks: &[Value]) -> Vec<&Value> {
    checks.iter().filter(|check| check["mark"] == "bad").collect()
}

/// That `doctor` finds exactly this fault, and that what it says mends it. Some faults hide
/// another: `steps` commands at most.
fn check_with(home: &Home, about: &str, says: &str, stdin: &str, steps: usize) {
    let (code, checks) = examined(home);
    let faults = bad(&checks);
    assert_eq!((Some(1), 1), (code, faults.len()), "{about}: {checks:#?}");
    let said = faults[0]["says"].as_str().expect("a text");
    assert!(faults[0]["about"] == about && said.contains(says), "{faults:#?}");
    assert!(home.run(&["doctor"]).stdout.contains(&format!("✗ {about}")));
    for step in 1..=steps {
        let (_, checks) = examined(home);
        let Some(fault) = bad(&checks).first().copied().cloned() else { break };
        let mend = fault["mend"].as_str().expect("a fault has a command");
        let done = home.shell(mend, stdin);
        assert_eq!(Some(0), done.code, "step {step}: {mend}: {done:?}");
    }
    let (code, checks) = examined(home);
    assert_eq!(Some(0), code, "{about} is not mended: {:#?}", bad(&checks));
}

fn check(home: &Home, about: &str, says: &str) {
    check_with(home, about, says, "", 1);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn a_home_with_nothing_wrong_is_well() {
    let home = home();
    let (code, checks) = examined(&home);
    assert_eq!(Some(0), code, "{checks:#?}");
    for about in ["home", "settings", "database", "disk", "sandbox", "image", "files", "containers"]
    {
        let found = checks.iter().find(|check| check["about"] == about);
        assert_eq!(Some(&json!("good")), found.map(|check| &check["mark"]), "{about}: {checks:#?}");
    }
    assert!(!home.at("data").read_dir().expect("a folder").any(|entry| {
        entry.expect("an entry").file_name().to_string_lossy().starts_with("trial")
    }));
}

#[test]
fn a_home_that_is_not_there_is_made() {
    let home = home();
    fs::remove_dir_all(home.path("home")).expect("it is there");
    check(&home, "home", "there is no");
}

#[test]
fn what_others_can_read_is_closed() {
    for sub in ["", ".env", "store", "store/messages.db"] {
        let home = home();
        home.write_env("LOG_LEVEL=info\n");
        set_mode(&home.at(".env"), 0o600);
        let path = if sub.is_empty() { home.path("home") } else { home.at(sub) };
        set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
        check(&home, "home", "other users can look into");
    }
}

#[test]
fn a_setting_that_cannot_be_used_is_taken_out() {
    let home = home();
    home.write_env("# mine\nASSISTANT_NAME=Bo\nLOG_LEVEL=loud\n");
    set_mode(&home.at(".env"), 0o600);
    check(&home, "settings", "LOG_LEVEL");
    let left = fs::read_to_string(home.at(".env")).expect("it is there");
    assert_eq!("# mine\nASSISTANT_NAME=Bo\n# LOG_LEVEL=loud\n", left);
}

#[test]
fn an_env_file_that_is_no_text_is_set_aside() {
    let home = home();
    fs::write(home.at(".env"), b"A=\xff\xfe\n").expect("a file");
    set_mode(&home.at(".env"), 0o600);
    check(&home, "settings", "cannot read");
}

#[test]
fn h61_a_corrupt_row_is_named_and_can_be_removed() {
    let home = home();
    home.register("broken");
    home.edit("UPDATE groups SET container_config = '{\"timeout\":\"x\"}' WHERE folder = 'broken'");
    check(&home, "database", "row `broken` of table `groups` is corrupt");
}

#[test]
fn a_damaged_database_is_set_aside() {
    let home = home();
    // All in the one file, then harm in its middle.
    home.edit("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE");
    let path = home.at("store/messages.db");
    let mut bytes = fs::read(&path).expect("a database");
    for page in bytes.chunks_mut(4096).skip(1) {
        page[..100].fill(0x5a);
    }
    fs::write(&path, bytes).expect("a file");
    check(&home, "database", "");
    assert!(home.at("store.damaged/messages.db").is_file());
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let home = home();
    fs::write(home.at("store/messages.db"), "not a database, but long enough to be taken for one")
        .expect("a file");
    check(&home, "database", "cannot use database");
}

fn want_mount(home: &Home) {
    let wanted = home.path("user/projects");
    fs::create_dir(&wanted).expect("a folder");
    let list = json!({"additionalMounts": [{"hostPath": wanted, "containerPath": "p"}]});
    home.edit(&format!("UPDATE groups SET container_config = '{list}' WHERE folder = 'main'"));
}

#[test]
fn h57_an_allowlist_that_is_missing_is_written_for_what_is_wanted() {
    let home = home();
    want_mount(&home);
    check(&home, "allowlist", "there is no");
    home.run(&["check-mounts"]).ok();
}

#[test]
fn h57_an_allowlist_that_is_broken_or_open_is_mended() {
    let home = home();
    want_mount(&home);
    let path = home.path("user/.config/rust-claw/mount-allowlist.json");
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&path, "{").expect("a file");
    check_with(&home, "allowlist", "is not a mount allowlist", "", 2);
    set_mode(&path, 0o666);
    check(&home, "allowlist", "others can write");
}

#[test]
fn h30_a_missing_image_is_built() {
    let home = home();
    home.engine_mode("image-missing");
    check(&home, "sandbox", "image `rust-claw-agent:latest` cannot be used");
    assert!(home.engine_calls().contains("build --tag rust-claw-agent:latest"));
}

#[test]
fn h33_an_old_runner_is_remarked_with_the_command() {
    let home = home();
    home.engine_mode("old-runner");
    let (code, checks) = examined(&home);
    let image = checks.iter().find(|check| check["about"] == "image").expect("it is looked at");
    assert_eq!((Some(0), "remark"), (code, image["mark"].as_str().expect("a word")));
    home.shell(image["mend"].as_str().expect("a command"), "").ok();
    let (_, checks) = examined(&home);
    assert!(checks.contains(&json!({
        "about": "image", "mark": "good", "mend": null, "says": "`rust-claw-agent:latest`",
    })));
}

#[test]
fn h31_files_that_do_not_reach_the_host_lead_to_another_runtime() {
    let mut home = home();
    home.unset("CONTAINER_CLI");
    home.unset("CONTAINER_RUNTIME");
    fs::create_dir(home.path("other")).expect("a folder");
    symlink(program("fake-engine"), home.path("other/podman")).expect("a link");
    let path = std::env::var("PATH").unwrap_or_default();
    let (bin, engine, other) = (home.path("bin"), home.path("engine"), home.path("other"));
    let path = format!("{}:{}:{}:{path}", bin.display(), engine.display(), other.display());
    home.set("PATH", &path);
    home.engine_mode("unshared");
    check(&home, "files", "a sandbox wrote no file");
    let env = fs::read_to_string(home.at(".env")).expect("it was written");
    assert_eq!("CONTAINER_RUNTIME=podman\n", env);
}

#[test]
fn h27_left_over_containers_are_removed() {
    let home = home();
    let folder = home.path("engine/containers");
    fs::create_dir_all(&folder).expect("a folder");
    let label = home_label(&home);
    fs::write(folder.join("rust-claw-a-1"), format!("99999999 rust-claw.home={label}"))
        .expect("a file");
    fs::write(folder.join("other"), "99999999 rust-claw.home=0123456789abcdef").expect("a file");
    check(&home, "containers", "1 belong to no run");
    assert!(folder.join("other").exists());
}

fn home_label(home: &Home) -> String {
    // The engine is asked for it.
    home.run(&["doctor"]);
    let calls = home.engine_calls();
    let call = calls.lines().rfind(|call| call.starts_with("ps ")).expect("it was asked");
    let label = call.split("rust-claw.home=").nth(1).expect("a label");
    label.split(' ').next().expect("a word").to_owned()
}

#[test]
fn h77_keys_that_cannot_do_are_replaced() {
    for (text, says) in [
        ("ANTHROPIC_API_KEY=sk-ant-oat01-x\n", "is an OAuth token"),
        ("CLAUDE_CODE_OAUTH_TOKEN=sk-ant-api03-x\n", "is an API key"),
        ("ANTHROPIC_API_KEY=sk-ant-admin01-x\n", "is a key for administration"),
        ("AGENT_ENGINE=claude\n", "AGENT_ENGINE is `claude`"),
    ] {
        let mut home = home();
        home.write_env(text);
        set_mode(&home.at(".env"), 0o600);
        // What the API says of them is no other fault here: it does not answer.
        home.set("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
        check_with(&home, "key", says, &format!("{KEY}\n"), 1);
    }
}

#[test]
fn h77_a_key_that_the_api_refuses_is_replaced() {
    let mut home = home();
    let _model = Model::start_alone(&mut home);
    home.write_env("ANTHROPIC_API_KEY=sk-ant-api03-old\n");
    set_mode(&home.at(".env"), 0o600);
    check_with(&home, "model", "refuses the key with status 401", &format!("{KEY}\n"), 1);
    let env = fs::read_to_string(home.at(".env")).expect("it is there");
    assert_eq!(format!("ANTHROPIC_API_KEY={KEY}\n"), env);
}

#[test]
fn h77_a_key_of_the_environment_that_is_refused_has_to_go_from_there() {
    let mut home = home();
    let _model = Model::start_alone(&mut home);
    home.set("ANTHROPIC_API_KEY", "sk-ant-api03-old");
    let (_, checks) = examined(&home);
    let faults = bad(&checks);
    let mend = faults.first().and_then(|fault| fault["mend"].as_str()).expect("a command");
    assert!(mend.starts_with("unset ANTHROPIC_API_KEY && "), "{faults:#?}");
    let done = home.shell(mend, &format!("{KEY}\n"));
    assert!(!done.ok().contains("counts until"));
    home.unset("ANTHROPIC_API_KEY");
    let (code, checks) = examined(&home);
    assert_eq!(Some(0), code, "{:#?}", bad(&checks));
}

#[test]
fn h77_a_login_that_expired_is_told_from_one_that_lasts() {
    let mut home = home();
    home.set("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
    home.write_env("CLAUDE_CODE_OAUTH_TOKEN=sk-ant-oat01-x\n");
    set_mode(&home.at(".env"), 0o600);
    let login = |expires: i64| {
        fs::create_dir_all(home.path("user/.claude")).expect("a folder");
        let login =
            json!({"claudeAiOauth": {"accessToken": "sk-ant-oat01-x", "expiresAt": expires}});
        fs::write(home.path("user/.claude/.credentials.json"), login.to_string()).expect("a file");
    };
    login(4_102_444_800_000);
    let (code, checks) = examined(&home);
    let key = checks.iter().find(|check| check["about"] == "key").expect("it is looked at");
    let says = key["says"].as_str().expect("a text");
    assert!(
        code == Some(0) && says.contains("expires in") && says.contains("setup-token"),
        "{key}"
    );
    login(1_000);
    check_with(&home, "key", "which expired", &format!("{KEY}\n"), 1);
}

#[test]
fn h76_a_service_with_another_path_or_program_is_written_anew() {
    let home = home();
    home.run(&["install-service", "--no-start"]).ok();
    let (code, checks) = examined(&home);
    assert_eq!(Some(0), code, "{checks:#?}");
    let folder = home.path("user/.config/systemd/user");
    let unit = fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.is_file())
        .expect("a unit");
    let text = fs::read_to_string(&unit).expect("a text");
    let bin = home.path("bin").display().to_string();
    fs::write(&unit, text.replace(&bin, "/nowhere")).expect("a file");
    check(&home, "service", "its PATH lacks");
    fs::write(&unit, text.replace("ExecStart=\"", "ExecStart=\"/gone")).expect("a file");
    check(&home, "service", "a program that is not there");
    let link = folder.join("default.target.wants").join(unit.file_name().expect("a name"));
    fs::remove_file(link).expect("a link");
    check(&home, "service", "not enabled");
    fs::remove_file(home.path("bin/linger")).expect("it was switched on");
    check(&home, "linger", "ends when you log out");
}

/// What doctor says of a link that stands so, and its exit code.
fn whatsapp_that_stands(state: &Value) -> (Option<i32>, Value) {
    let home = home();
    home.edit(&format!("INSERT OR REPLACE INTO state VALUES ('whatsapp', '{state}')"));
    let (code, checks) = examined(&home);
    let found = checks.into_iter().find(|check| check["about"] == "whatsapp");
    (code, found.expect("it is looked at"))
}

#[test]
fn whatsapp_that_is_linked_is_so_while_nobody_serves() {
    let state = json!({ "state": "off", "since_ms": 1, "number": "4915550000001" });
    let (_, found) = whatsapp_that_stands(&state);
    let is_linked = found["says"].as_str().is_some_and(|says| says.contains("4915550000001"));
    assert!(is_linked || !cfg!(feature = "whatsapp"), "{found}");
}

#[test]
fn whatsapp_that_needs_a_person_is_a_fault_with_a_command() {
    let state = json!({
        "state": "needs-pairing", "since_ms": 1, "reason": "logged out on the phone",
    });
    let (code, found) = whatsapp_that_stands(&state);
    if cfg!(feature = "whatsapp") {
        assert_eq!((Some(1), &json!("bad")), (code, &found["mark"]), "{found}");
        assert!(found["says"].as_str().expect("a text").contains("logged out on the phone"));
        assert!(found["mend"].as_str().expect("a command").ends_with(" pair"), "{found}");
    } else {
        assert_eq!((Some(0), &json!("good")), (code, &found["mark"]), "{found}");
    }
}

#[test]
fn a_clock_that_went_back_is_a_fault() {
    let home = home();
    home.run(&["ask", "hi"]).ok();
    home.edit("UPDATE messages SET received_at_ms = received_at_ms + 3600000");
    let (code, checks) = examined(&home);
    let faults = bad(&checks);
    assert_eq!((Some(1), 1, "clock"), (code, faults.len(), faults[0]["about"].as_str().expect("")));
}

#[test]
fn h29_an_engine_that_hangs_does_not_hang_doctor() {
    let home = home();
    home.engine_mode("hang");
    let (code, checks) = examined(&home);
    let faults = bad(&checks);
    assert_eq!((Some(1), 1), (code, faults.len()), "{faults:#?}");
    assert!(faults[0]["says"].as_str().expect("a text").contains("no answer within"));
}

#[test]
fn each_command_of_ours_that_is_named_exists() {
    let home = home();
    let help = home.run(&["--help"]).ok();
    for command in ["setup", "doctor", "install-service", "check-mounts", "unregister-group"] {
        assert!(help.contains(&format!("\n  {command}")), "{command}: {help}");
    }
}

#[test]
fn h31_bwrap_writes_files_that_are_ours() {
    files_are_ours(crate::support::Kind::Bwrap);
}

#[test]
fn h31_docker_writes_files_that_are_ours() {
    files_are_ours(crate::support::Kind::Docker);
}

#[test]
fn h31_podman_writes_files_that_are_ours() {
    files_are_ours(crate::support::Kind::Podman);
}

#[test]
fn h31_rootless_podman_writes_files_that_are_ours() {
    files_are_ours(crate::support::Kind::Rootless);
}

fn files_are_ours(kind: crate::support::Kind) {
    let home = Home::with(kind);
    home.run(&["status"]).ok();
    let (_, checks) = examined(&home);
    let files = checks.iter().find(|check| check["about"] == "files");
    assert_eq!(Some(&json!("good")), files.map(|check| &check["mark"]), "{checks:#?}");
}
