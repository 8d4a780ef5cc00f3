//! What a container sees: its group's folder, the shared memory, its requests, its sessions; main
//! the project too.

use super::home;
use crate::support::Home;

/// The `--mount` arguments of the last container.
fn mounts(home: &Home) -> Vec<String> {
    let calls = home.engine_calls();
    let run = calls.lines().rfind(|call| call.starts_with("run ")).expect("a container");
    let words: Vec<&str> = run.split(' ').collect();
    let pairs = words.windows(2).filter(|pair| pair[0] == "--mount");
    pairs.map(|pair| pair[1].to_owned()).collect()
}

#[test]
fn each_group_sees_its_own_and_main_the_project() {
    let home = home();
    home.register("a");
    let daemon = home.start();
    for (group, global_is_read_only) in [("a", true), ("main", false)] {
        home.run(&["ask", "--group", group, "hi"]).ok();
        let all = mounts(&home);
        let find = |inside: &str| {
            let part = format!("dst={inside}");
            all.iter().find(|mount| mount.split(',').any(|word| word == part))
        };
        let source = |inside: &str, path: &str, is_read_only: bool| {
            let mount = find(inside).unwrap_or_else(|| panic!("no {inside}: {all:?}"));
            let from = format!("src={}", home.at(path).display());
            assert!(mount.split(',').any(|word| word == from), "{inside}: {mount}");
            let found = mount.split(',').any(|word| word == "readonly");
            assert_eq!(is_read_only, found, "{inside}: {mount}");
        };
        source("/workspace/group", &format!("groups/{group}"), false);
        source("/workspace/ipc", &format!("data/ipc/{group}"), false);
        source("/home/node/.claude", &format!("data/sessions/{group}/.claude"), false);
        source("/workspace/global", "groups/global", global_is_read_only);
        assert_eq!(group == "main", all.iter().any(|mount| mount.contains("/workspace/project")));
        for secret in [".env", "messages.db", "store"] {
            let shown = |mount: &String| mount.contains(&home.at(secret).display().to_string());
            assert!(!all.iter().any(shown), "{secret}: {all:?}");
        }
    }
    assert_eq!(Some(0), daemon.stop());
}
