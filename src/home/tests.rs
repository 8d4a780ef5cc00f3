use std::os::unix::fs::PermissionsExt;

use super::*;

fn home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::at(&dir.path().join("home"));
    (dir, home)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o7777
}

#[test]
fn a_new_home_has_all_folders_for_its_owner_alone() {
    let (_dir, home) = home();
    home.create().expect("it is new");
    for path in [
        home.root().to_owned(),
        home.bells(),
        home.groups(),
        home.global(),
        home.sessions(),
        home.ipc_errors(),
        home.root().join("logs"),
    ] {
        assert_eq!(0o700, mode(&path), "{}", path.display());
    }
    assert_eq!(0o600, mode(&home.global().join(MEMORY)));
    home.create().expect("again");
}

#[test]
fn h73_memory_comes_from_the_template_and_is_never_overwritten() {
    let (_dir, home) = home();
    home.create().expect("it is new");
    let folder = GroupFolder::new("family").expect("a name");
    let memory = home.group(&folder).join(MEMORY);
    home.create_group_folders(&folder, "The {{ASSISTANT_NAME}}s", "José", false).expect("new");
    let text = fs::read_to_string(&memory).expect("it was written");
    assert!(text.contains("José in \"The {{ASSISTANT_NAME}}s\""), "{text}");
    assert!(home.claude_config(&folder).is_dir() && home.ipc(&folder).join("responses").is_dir());

    fs::write(&memory, "mine").expect("a file");
    fs::write(home.global().join(MEMORY), "ours").expect("a file");
    home.create().expect("again");
    home.create_group_folders(&folder, "x", "y", true).expect("again");
    assert_eq!("mine", fs::read_to_string(&memory).expect("it is there"));
    assert_eq!("ours", fs::read_to_string(home.global().join(MEMORY)).expect("it is there"));
}

#[test]
fn templates_leave_no_placeholder() {
    let (_dir, home) = home();
    home.create().expect("it is new");
    for (folder, is_main) in [("main", true), ("other", false)] {
        let folder = GroupFolder::new(folder).expect("a name");
        home.create_group_folders(&folder, "N", "A", is_main).expect("new");
        let text = fs::read_to_string(home.group(&folder).join(MEMORY)).expect("written");
        assert!(!text.contains("{{"), "{text}");
    }
    assert!(!GLOBAL_MEMORY.contains("{{"));
}

#[test]
fn h50_a_link_in_place_of_a_groups_folder_is_refused() {
    let (dir, home) = home();
    home.create().expect("it is new");
    let folder = |name| GroupFolder::new(name).expect("a name");
    for (name, place) in [
        ("a", home.group(&folder("a"))),
        ("b", home.ipc(&folder("b"))),
        ("c", home.sessions().join("c")),
    ] {
        std::os::unix::fs::symlink(dir.path(), &place).expect("a link");
        let refused = home.create_group_folders(&folder(name), "n", "a", false);
        assert!(matches!(refused, Err(HomeError::Rejected { .. })), "{refused:?}");
    }
    assert!(!dir.path().join(MEMORY).exists());
    // A link in place of the file is left alone, and not followed.
    home.create_group_folders(&folder("d"), "n", "a", false).expect("no links");
    let memory = home.group(&folder("d")).join(MEMORY);
    fs::remove_file(&memory).expect("the file");
    std::os::unix::fs::symlink(dir.path().join("target"), &memory).expect("a link");
    home.create_group_folders(&folder("d"), "n", "a", false).expect("there is something");
    assert!(!dir.path().join("target").exists());
}

#[test]
fn a_home_that_others_can_write_is_refused() {
    let (_dir, home) = home();
    fs::create_dir(home.root()).expect("a directory");
    for (mode, is_open) in [(0o777, true), (0o720, true), (0o702, true), (0o755, false)] {
        fs::set_permissions(home.root(), fs::Permissions::from_mode(mode)).expect("ours");
        let made = home.create();
        assert_eq!(is_open, matches!(made, Err(HomeError::OpenToOthers { .. })), "{mode:o}");
    }
}

#[test]
fn h28_the_second_is_told_who_holds_the_home() {
    let (_dir, home) = home();
    home.create().expect("it is new");
    let lock = home.lock(Purpose::Daemon).expect("nobody has it");
    let error = home.lock(Purpose::Terminal).expect_err("we have it");
    let LockError::Held { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(Some(std::process::id()), *pid);
    let expected = format!("is in use by process {} (daemon)", std::process::id());
    assert!(error.to_string().ends_with(&expected), "{error}");
    drop(lock);
    home.lock(Purpose::Terminal).expect("it is free again");
}

#[test]
fn the_label_is_the_same_through_a_link_and_another_for_another_home() {
    let (dir, home) = home();
    home.create().expect("it is new");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(home.root(), &link).expect("a link");
    assert_eq!(home.label(), Home::at(&link).label());
    assert_ne!(home.label(), Home::at(dir.path()).label());
    assert_eq!(16, home.label().len());
}

#[test]
fn a_home_is_absolute() {
    let home = Home::resolve(Some(Path::new("some/where"))).expect("it is said where");
    assert!(home.root().is_absolute() && home.root().ends_with("some/where"));
}
