//! What a person says about one group's walls: mounts, senders, limits; and what it used.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::support::Home;

/// A home with the group `g` and, outside of it, the folders `user/code` and `user/.ssh`.
fn home() -> Home {
    let home = Home::new();
    home.register("g");
    for name in ["user/code", "user/.ssh", "user/.config/rust-claw"] {
        fs::create_dir_all(home.path(name)).expect("a folder");
    }
    home
}

fn allow(home: &Home, text: &str) {
    let path = home.path("user/.config/rust-claw/mount-allowlist.json");
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
}

const CODE: &str =
    r#"{"allowedRoots":[{"path":"~/code","allowReadWrite":true}],"nonMainReadOnly":false}"#;

fn config(home: &Home) -> String {
    home.texts("SELECT container_config FROM groups WHERE folder = 'g'").remove(0)
}

#[test]
fn h57_the_allowlist_counts_as_it_is_now() {
    let home = home();
    let add = ["set-mounts", "--group", "g", "--add", "~/code", "--at", "src", "--writable"];
    home.run(&add).refused(1, &["there is no", "mount-allowlist.json", "nothing was changed"]);
    assert_eq!("{}", config(&home));

    allow(&home, CODE);
    home.run(&add).ok();
    let shown = home.run(&["check-mounts", "--group", "g"]).ok();
    let line = shown.lines().find(|line| line.contains("/workspace/extra/src")).expect("a line");
    assert!(line.contains("allowed") && line.contains("writable"), "{line}");
    for base in ["/workspace/group", "/workspace/group/logs", "/workspace/global"] {
        assert!(shown.lines().any(|line| line.ends_with(base)), "{base}: {shown}");
    }
    assert!(!shown.contains("/workspace/project"), "{shown}");

    // Broken: no mount, and it is said, here and by `status`.
    allow(&home, "{\"allowedRoots\":");
    let checked = home.run(&["check-mounts"]);
    checked.refused_somehow(1);
    assert!(checked.stdout.contains("refused"), "{checked:?}");
    assert!(checked.stderr.contains("is not a mount allowlist"), "{checked:?}");
    let status = home.json(&["status", "--json"]);
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("no additional mounts for g"), "{warnings}");

    allow(&home, CODE);
    home.run(&["check-mounts"]).ok();
    assert!(!home.json(&["status", "--json"])["warnings"].to_string().contains("mounts"));
}

#[test]
fn h57_the_first_mount_is_refused_with_the_command_that_allows_it() {
    let home = home();
    fs::remove_dir(home.path("user/.config/rust-claw")).expect("it is empty");
    let add = ["set-mounts", "--group", "g", "--add", "~/code"];
    let refused = home.run(&add);
    refused.refused(1, &["there is no", "; nothing was changed; mkdir -p ~/.config/rust-claw && "]);
    let command = refused.stderr.split("nothing was changed; ").nth(1).expect("a command");
    home.shell(command, "").ok();
    home.run(&add).ok();
    let shown = home.run(&["check-mounts", "--group", "g"]).ok();
    let line = shown.lines().find(|line| line.contains("/workspace/extra/code")).expect("a line");
    assert!(line.contains("allowed") && line.contains("read-only"), "{line}");
}

#[test]
fn h56_mounts_that_cannot_be_are_refused_and_change_nothing() {
    let home = home();
    allow(&home, r#"{"allowedRoots":[{"path":"/"}]}"#);
    symlink(home.path("user/.ssh"), home.path("user/innocent")).expect("a link");
    let (inside, around) = (home.at("groups"), home.path(""));
    for (path, why) in [
        ("~/.ssh", ".ssh"),
        ("~/innocent", ".ssh"),
        ("~/code:/etc", "no `:`"),
        ("~/code,readonly=false", "no `:`, `,`"),
        ("~/code/../.ssh", "without `..`"),
        ("code", "absolute"),
        ("/nowhere", "cannot find"),
        (&inside.to_string_lossy(), "no sandbox may see"),
        (&around.to_string_lossy(), "no sandbox may see"),
    ] {
        let done = home.run(&["set-mounts", "--group", "g", "--add", path]);
        done.refused(1, &[why, "nothing was changed"]);
    }
    for at in ["../x", "/etc", "a/../../b", ""] {
        home.run(&["set-mounts", "--group", "g", "--add", "~/code", "--at", at])
            .refused(1, &["containerPath"]);
    }
    home.run_with(&["set-mounts", "--group", "g", "--json", "-"], "[{\"path\":\"/\"}]")
        .refused(1, &["--json", "hostPath"]);
    home.run(&["set-mounts", "--group", "g"]).refused(1, &["--add"]);
    home.run(&["set-mounts", "--group", "nobody", "--clear"]).refused(1, &["no group nobody"]);
    assert_eq!("{}", config(&home));

    let list = json!([{"hostPath": "~/code"}, {"hostPath": "~/code", "containerPath": "b"}]);
    home.run_with(&["set-mounts", "--group", "g", "--json", "-"], &list.to_string()).ok();
    assert_eq!(2, config(&home).matches("hostPath").count());
    home.run(&["set-mounts", "--group", "g", "--clear"]).ok();
    assert_eq!("{}", config(&home));
}

#[test]
fn h58_limits_are_set_checked_and_taken_back() {
    let home = home();
    let set = |args: &[&str]| home.run(&[&["set-limits", "--group", "g"], args].concat());
    set(&["--memory", "512m", "--cpus", "0.5", "--network", "model-only"]).ok();
    let expected = r#"{"memory":"512m","cpus":0.5,"network":"model-only"}"#;
    assert_eq!(expected, config(&home));
    for (option, value, allowed) in [
        ("--memory", "2", "512m"),
        ("--memory", "1m", "at least 64m"),
        ("--cpus", "0", "0.1 to 256"),
        ("--cpus", "many", "0.1 to 256"),
        ("--timeout-ms", "1", "1000 to 86400000"),
        ("--timeout-ms", "1h", "1000 to 86400000"),
        ("--network", "none", "full, model-only"),
        ("--timezone", "IST-2", "IANA"),
    ] {
        // What stands beside a wrong value is not set either.
        set(&[option, value, "--memory", "1g"][..if option == "--memory" { 2 } else { 4 }])
            .refused(1, &[option, value, allowed]);
    }
    set(&[]).refused(1, &["--memory", "--timezone"]);
    assert_eq!(expected, config(&home));
    set(&["--memory", "default", "--cpus", "default", "--network", "default"]).ok();
    assert_eq!("{}", config(&home));
}

#[test]
fn h59_only_whom_the_person_names_wakes_the_agent() {
    let home = home();
    let set = |args: &[&str]| home.run(&[&["set-senders", "--group", "g"], args].concat());
    set(&[]).refused(1, &["--allow", "--everybody"]);
    set(&["--allow", "@x"]).refused(1, &["--allow `@x`", "an address"]);
    set(&["--allow", "eve", "--others", "ignore"]).refused(1, &["--others", "context, drop"]);
    set(&["--allow", "eve", "--everybody"]).refused(1, &["--everybody"]);
    assert_eq!("{}", config(&home));

    set(&["--allow", "eve@x", "--allow", "+49 15"]).ok();
    let mut daemon = home.start();
    home.inject("script:g", "from ada, who may not");
    set(&["--allow", "ada"]).ok();
    home.inject("script:g", "from ada, who may");
    home.wait_answers("script:g", &["Andy: echo: from ada, who may"]);
    set(&["--everybody"]).ok();
    assert_eq!("{}", config(&home));
    assert!(daemon.is_alive());
}

#[test]
fn usage_words_and_dates_are_checked() {
    let home = home();
    home.run(&["usage", "--by", "month"]).refused(1, &["--by `month`", "group, task, day"]);
    home.run(&["usage", "--since", "yesterday"]).refused(1, &["--since", "2026-02-19"]);
    assert!(home.run(&["usage"]).ok().contains("total"));
    assert_eq!(json!([]), home.json(&["usage", "--by", "day", "--json"]));
}
