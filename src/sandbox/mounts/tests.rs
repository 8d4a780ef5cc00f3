//! Attempts to see more of the host than a person allowed, on real folders.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::sandbox::allowlist::AllowedRoot;

/// `~` with `projects` (may be written), `papers` (may be read), and what must stay unseen.
struct World {
    temporary: TempDir,
    user_home: PathBuf,
    allowlist: Result<Allowlist, Unusable>,
    protected: Vec<PathBuf>,
}

impl World {
    fn new() -> World {
        let temporary = tempfile::tempdir().expect("a temporary folder can be made");
        let user_home = fs::canonicalize(temporary.path()).expect("was made").join("ann");
        for folder in [
            "projects/app/private",
            "projects/a,b",
            "projects/a:b",
            "papers/2026",
            "other",
            ".ssh",
            ".rust-claw/groups/main",
            ".config/rust-claw",
            ".local/bin",
        ] {
            fs::create_dir_all(user_home.join(folder)).expect("can be made");
        }
        let root = |path: &str, allow_read_write| AllowedRoot {
            path: path.into(),
            allow_read_write,
            description: None,
        };
        let allowlist = Allowlist {
            allowed_roots: vec![root("~/projects", true), root("~/papers", false)],
            blocked_patterns: vec!["Token".into()],
            non_main_read_only: false,
        };
        let program = user_home.join(".local/bin/rust-claw");
        let protected = protected(&user_home.join(".rust-claw"), &user_home, Some(&program));
        World { temporary, user_home, allowlist: Ok(allowlist), protected }
    }

    fn allowlist(&mut self) -> &mut Allowlist {
        self.allowlist.as_mut().expect("is not broken yet")
    }

    fn allow_root(&mut self, path: &str, allow_read_write: bool) {
        let root = AllowedRoot { path: path.into(), allow_read_write, description: None };
        self.allowlist().allowed_roots.push(root);
    }

    fn policy(&self, is_main: bool) -> Policy<'_> {
        Policy {
            allowlist: &self.allowlist,
            user_home: &self.user_home,
            protected: &self.protected,
            is_main,
        }
    }

    fn decide(&self, host: &str) -> Result<Allowed, Refused> {
        decide(&asked(host, None, false), self.policy(true))
    }

    fn assert_refused(&self, host: &str, why: &str) {
        let refused = self.decide(host).expect_err(host);
        assert!(refused.reason.contains(why), "{host:?}: {refused}");
        assert!(!refused.reason.contains(char::is_control), "{refused}");
    }
}

fn asked(host: &str, inside: Option<&str>, readonly: bool) -> AdditionalMount {
    AdditionalMount {
        host_path: host.to_owned(),
        container_path: inside.map(str::to_owned),
        readonly,
    }
}

fn writable(decision: Result<Allowed, Refused>) -> (bool, bool) {
    let allowed = decision.expect("is allowed");
    (allowed.mount.writable, allowed.read_only_because.is_some())
}

#[test]
fn what_is_allowed_is_mounted_at_its_real_path() {
    let world = World::new();
    let real = world.user_home.join("projects/app");
    for host in ["~/projects/app", "~//projects/./app/", real.to_str().expect("is UTF-8")] {
        let allowed = world.decide(host).expect(host);
        let mount =
            Mount { host: real.clone(), inside: "/workspace/extra/app".into(), writable: true };
        assert_eq!(Allowed { mount, read_only_because: None }, allowed, "{host}");
    }
    symlink(&real, world.user_home.join("other/link")).expect("is new");
    let allowed = world.decide("~/other/link").expect("leads into a root");
    assert_eq!(real, allowed.mount.host);
    assert_eq!(Path::new("/workspace/extra/link"), allowed.mount.inside);
    fs::write(real.join("file"), "").expect("is new");
    world.decide("~/projects/app/file").expect("a file is fine");
    world.decide("~/projects").expect("the root itself is fine");
}

#[test]
fn links_are_resolved_before_the_check() {
    let world = World::new();
    let home = &world.user_home;
    for (name, target) in [
        ("away", home.join("other")),
        ("home", home.join(".rust-claw/groups")),
        ("ssh", home.join(".ssh")),
        ("etc", "/etc".into()),
        ("up", "../..".into()),
    ] {
        symlink(target, home.join("projects").join(name)).expect("is new");
    }
    world.assert_refused("~/projects/away", "under no allowed root");
    world.assert_refused("~/projects/etc", "under no allowed root");
    world.assert_refused("~/projects/home/main", "no sandbox may see");
    world.assert_refused("~/projects/ssh", "blocked pattern `.ssh`");
    world.assert_refused("~/projects/up", "no sandbox may see");
    world.assert_refused("~/projects/nowhere", "cannot find");
    world.assert_refused("~/other", "under no allowed root");
    // A name that begins like a root is not in it.
    fs::create_dir(home.join("projects2")).expect("is new");
    world.assert_refused("~/projects2", "under no allowed root");
}

#[test]
fn blocked_patterns_always_apply_to_the_way_and_to_its_end() {
    let world = World::new();
    let projects = world.user_home.join("projects");
    let more = [".env.local", "prod.env", ".environment", "ID_RSA.pub", "My-Credentials", "tokens"];
    for (n, name) in ALWAYS_BLOCKED.into_iter().chain(more).enumerate() {
        fs::create_dir_all(projects.join(name).join("below")).expect("can be made");
        symlink(name, projects.join(format!("link{n}"))).expect("is new");
        for host in [name.to_owned(), format!("{name}/below"), format!("link{n}/below")] {
            world.assert_refused(&format!("~/projects/{host}"), "blocked pattern");
        }
    }
    // The name can also be on the link and not on what it leads to.
    symlink(projects.join("app"), projects.join(".aws-link")).expect("is new");
    world.assert_refused("~/projects/.aws-link", "blocked pattern `.aws`");
    fs::create_dir(projects.join(".venv")).expect("is new");
    world.decide("~/projects/.venv").expect("is no `.env`");
}

#[test]
fn h48_home_allowlist_and_program_stay_out_of_reach() {
    let mut world = World::new();
    world.allow_root("/", true);
    for host in [
        "~/.rust-claw",
        "~/.rust-claw/groups/main",
        "~/.config",
        "~/.config/rust-claw",
        "~/.local",
        "~/.local/bin",
        "~",
        "/",
    ] {
        let extra = asked(host, Some("x"), true);
        let refused = decide(&extra, world.policy(true)).expect_err(host);
        assert!(refused.reason.contains("no sandbox may see"), "{host}: {refused}");
    }
    // Not there yet, but what a sandbox would make there would count.
    fs::create_dir_all(world.user_home.join(".config/other")).expect("can be made");
    world.decide("~/.config/other").expect("is beside them");
    let nanoclaw = world.user_home.join(".config/nanoclaw");
    assert!(world.protected.contains(&nanoclaw));
    assert!(!nanoclaw.exists());
    world.decide("~/other").expect("the root is `/`");
}

#[test]
fn h56_text_that_would_become_options_is_refused() {
    let world = World::new();
    for host in ["~/projects/a:b", "~/projects/a,b", "~/projects/a\nb", "~/projects/a\"b", "\0"] {
        world.assert_refused(host, "is not allowed: no `:`");
    }
    // What is asked for is plain, but its real path is not.
    symlink("a:b", world.user_home.join("projects/plain")).expect("is new");
    world.assert_refused("~/projects/plain", "is not allowed: no `:`");
    for host in ["", "projects", "./x", "~root/x", "~/projects/../.ssh", "/..", "~/projects/.."] {
        world.assert_refused(host, "absolute or starting with `~/`");
    }
    for inside in
        ["a:b", "a,b", "a\tb", "a\"b", "/etc", "..", "a/../..", "a//b", "a/", ".", "", "./a"]
    {
        let extra = asked("~/projects/app", Some(inside), true);
        decide(&extra, world.policy(true)).expect_err(inside);
    }
    let extra = asked("~/projects/app", Some("a/b c"), true);
    let allowed = decide(&extra, world.policy(true)).expect("is a plain path");
    assert_eq!(Path::new("/workspace/extra/a/b c"), allowed.mount.inside);
}

#[test]
fn h51_only_folders_and_files_are_mounted() {
    let world = World::new();
    drop(UnixListener::bind(world.user_home.join("projects/docker.sock")).expect("is new"));
    world.assert_refused("~/projects/docker.sock", "neither a folder nor a file");
}

#[test]
fn writing_needs_the_root_and_for_others_the_list() {
    let mut world = World::new();
    let decide_for = |world: &World, host, readonly, is_main| {
        writable(decide(&asked(host, None, readonly), world.policy(is_main)))
    };
    assert_eq!((true, false), decide_for(&world, "~/projects/app", false, false));
    assert_eq!((false, false), decide_for(&world, "~/projects/app", true, true));
    assert_eq!((false, true), decide_for(&world, "~/papers/2026", false, true));
    assert_eq!((false, false), decide_for(&world, "~/papers/2026", true, true));
    world.allowlist().non_main_read_only = true;
    assert_eq!((false, true), decide_for(&world, "~/projects/app", false, false));
    assert_eq!((true, false), decide_for(&world, "~/projects/app", false, true));
}

#[test]
fn of_roots_in_one_another_the_inner_one_decides_and_stays_read_only_from_outside() {
    for is_inner_first in [true, false] {
        let mut world = World::new();
        world.allowlist().allowed_roots.clear();
        let mut roots = vec![("~/projects/app/private", false), ("~/projects", true)];
        if !is_inner_first {
            roots.reverse();
        }
        for (path, allow_read_write) in roots {
            world.allow_root(path, allow_read_write);
        }
        assert_eq!((false, true), writable(world.decide("~/projects/app/private")));
        assert_eq!((false, true), writable(world.decide("~/projects/app")));
        fs::create_dir(world.user_home.join("projects/free")).expect("is new");
        assert_eq!((true, false), writable(world.decide("~/projects/free")));
        // A root that does not exist is as good as none.
        world.allow_root("~/nowhere", true);
        assert_eq!((true, false), writable(world.decide("~/projects/free")));
    }
}

#[test]
fn h57_without_an_allowlist_nothing_is_mounted_and_the_reason_is_said() {
    let mut world = World::new();
    world.allowlist = Allowlist::load(&world.user_home);
    world.assert_refused("~/projects/app", "mount-allowlist.json");
    let path = world.user_home.join(".config/rust-claw/mount-allowlist.json");
    fs::write(&path, "{").expect("is new");
    world.allowlist = Allowlist::load(&world.user_home);
    world.assert_refused("~/projects/app", "line 1");
    fs::write(&path, r#"{"allowedRoots":[{"path":"~/projects"}]}"#).expect("is ours");
    world.allowlist = Allowlist::load(&world.user_home);
    world.decide("~/projects/app").expect("is mended");
}

#[test]
fn two_mounts_never_share_a_place() {
    let world = World::new();
    let decisions = decide_all(
        &[
            asked("~/projects/app", Some("x"), true),
            asked("~/papers", Some("x"), true),
            asked("~/papers", Some("x/y"), true),
            asked("~/nowhere", Some("z"), true),
            asked("~/papers", Some("z/y"), true),
            asked("~/papers", Some("z"), true),
            asked("~/papers", Some("xy"), true),
        ],
        world.policy(true),
    );
    let allowed: Vec<bool> = decisions.iter().map(Result::is_ok).collect();
    assert_eq!(vec![true, false, false, false, true, false, true], allowed);
}

fn group_paths(root: &Path) -> GroupPaths {
    GroupPaths {
        group: root.join("groups/g"),
        logs: root.join("groups/g/logs"),
        global: root.join("groups/global"),
        ipc: root.join("data/ipc/g"),
        claude_config: root.join("data/sessions/g/.claude"),
        skills: Some(root.join("skills")),
        settings: Some(root.join("settings.json")),
        groups_root: root.join("groups"),
    }
}

#[test]
fn h48_groups_see_their_own_folders_and_main_the_groups() {
    let seen = |is_main| -> Vec<String> {
        let extra =
            Mount { host: "/e".into(), inside: "/workspace/extra/e".into(), writable: true };
        mounts(&group_paths(Path::new("/h")), is_main, [extra])
            .iter()
            .map(|mount| {
                let mode = if mount.writable { "rw" } else { "ro" };
                format!("{} {} {mode}", mount.host.display(), mount.inside.display())
            })
            .collect()
    };
    let mut wanted = vec![
        "/h/groups/g /workspace/group rw",
        "/h/groups/g/logs /workspace/group/logs ro",
        "/h/groups/global /workspace/global ro",
        "/h/data/ipc/g /workspace/ipc rw",
        "/h/data/sessions/g/.claude /home/node/.claude rw",
        "/h/skills /home/node/.claude/skills ro",
        "/h/settings.json /home/node/.claude/settings.json ro",
        "/e /workspace/extra/e rw",
    ];
    assert_eq!(wanted, seen(false));
    wanted[2] = "/h/groups/global /workspace/global rw";
    wanted.insert(7, "/h/groups /workspace/project ro");
    assert_eq!(wanted, seen(true));
}

#[test]
fn h50_mount_points_are_never_links() {
    let world = World::new();
    let root = world.temporary.path();
    let paths = group_paths(root);
    fs::create_dir_all(&paths.group).expect("can be made");
    fs::create_dir_all(&paths.claude_config).expect("can be made");
    for _ in 0..2 {
        prepare(&paths).expect("nothing stands in the way");
        assert!(paths.logs.is_dir() && paths.claude_config.join("skills").is_dir());
        assert_eq!(
            "{}\n",
            fs::read_to_string(paths.claude_config.join("settings.json")).expect("is there")
        );
    }

    fs::remove_file(paths.claude_config.join("settings.json")).expect("is there");
    symlink(root.join("target"), paths.claude_config.join("settings.json")).expect("is new");
    prepare(&paths).expect("the link is replaced");
    assert!(!root.join("target").exists());

    for place in [paths.logs.clone(), paths.claude_config.join("skills")] {
        fs::remove_dir(&place).expect("is empty");
        symlink(&world.user_home, &place).expect("is new");
        let refused = prepare(&paths);
        assert!(matches!(refused, Err(Rejected::Symlink { .. })), "{refused:?}");
        fs::remove_file(&place).expect("is there");
        prepare(&paths).expect("nothing stands in the way again");
    }
}

proptest! {
    #[test]
    fn h56_whatever_is_asked_for_lands_below_extra(path in "[a./:,~ \\PC]{0,20}") {
        let extra = asked("/x", Some(&path), true);
        if let Ok(inside) = inside_path(&extra, Path::new("/x")) {
            let below = inside.strip_prefix(inside::EXTRA).expect("is below");
            prop_assert!(below.components().count() > 0);
            prop_assert!(below.components().all(|part| matches!(part, Component::Normal(_))));
            prop_assert!(!path.contains([':', ',', '"']));
        }
    }

    #[test]
    fn whatever_way_is_taken_only_allowed_places_are_reached(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "projects", "papers", "app", "private", "up", "away", "ssh", "loop", "..", ".", "",
                ".ssh", ".rust-claw", "other", "2026",
            ]),
            0..6,
        ),
    ) {
        thread_local!(static WORLD: World = {
            let world = World::new();
            let projects = world.user_home.join("projects");
            for (name, target) in [("up", ".."), ("away", "../other"), ("ssh", "../.ssh"), ("loop", "loop")] {
                symlink(target, projects.join(name)).expect("is new");
            }
            world
        });
        WORLD.with(|world| {
            let host = format!("~/{}", parts.join("/"));
            if let Ok(allowed) = world.decide(&host) {
                let real = fs::canonicalize(&allowed.mount.host).expect("is there");
                prop_assert_eq!(&real, &allowed.mount.host);
                let roots = ["projects", "papers"].map(|root| world.user_home.join(root));
                prop_assert!(roots.iter().any(|root| real.starts_with(root)), "{host}");
            }
            Ok(())
        })?;
    }
}
