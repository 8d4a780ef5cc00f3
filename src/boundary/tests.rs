//! Every sort of thing a sandbox can put at a name, at every operation.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::CWD;
use tempfile::TempDir;

use super::*;

const SECRET: &[u8] = b"what lies outside";

/// A tree that a sandbox can write, beside a file and a folder that it must never reach.
struct World {
    home: TempDir,
    dir: Dir,
}

impl World {
    fn new() -> World {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::create_dir(home.path().join("tree")).expect("is new");
        std::fs::create_dir(home.path().join("outside")).expect("is new");
        std::fs::write(home.path().join("outside/secret"), SECRET).expect("is new");
        let dir = Dir::open(&home.path().join("tree")).expect("was made");
        World { home, dir }
    }

    fn inside(&self, name: &str) -> PathBuf {
        self.home.path().join("tree").join(name)
    }

    fn outside(&self) -> PathBuf {
        self.home.path().join("outside")
    }

    fn assert_outside_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(self.outside())
            .expect("is still there")
            .map(|entry| entry.expect("is readable").file_name())
            .collect();
        assert_eq!(vec!["secret"], names);
        assert_eq!(SECRET, std::fs::read(self.outside().join("secret")).expect("is still there"));
    }
}

/// What stands at the name `x`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Planted {
    LinkToFile,
    LinkToFolder,
    LinkToNothing,
    LinkToItself,
    Fifo,
    Socket,
    Folder,
    HardLink,
}

const ALL: [Planted; 8] = [
    Planted::LinkToFile,
    Planted::LinkToFolder,
    Planted::LinkToNothing,
    Planted::LinkToItself,
    Planted::Fifo,
    Planted::Socket,
    Planted::Folder,
    Planted::HardLink,
];

impl Planted {
    fn is_link(self) -> bool {
        use Planted::{LinkToFile, LinkToFolder, LinkToItself, LinkToNothing};
        matches!(self, LinkToFile | LinkToFolder | LinkToNothing | LinkToItself)
    }

    fn world(self) -> World {
        let world = World::new();
        let at = world.inside("x");
        match self {
            Planted::LinkToFile => symlink(world.outside().join("secret"), at).expect("is new"),
            Planted::LinkToFolder => symlink(world.outside(), at).expect("is new"),
            Planted::LinkToNothing => symlink(world.outside().join("new"), at).expect("is new"),
            Planted::LinkToItself => symlink("x", at).expect("is new"),
            Planted::Fifo => {
                fs::mknodat(CWD, &at, FileType::Fifo, Mode::RWXU, 0).expect("needs no right");
            }
            Planted::Socket => drop(UnixListener::bind(at).expect("is new")),
            Planted::Folder => std::fs::create_dir(at).expect("is new"),
            Planted::HardLink => {
                std::fs::write(world.inside("first name"), b"inside").expect("is new");
                std::fs::hard_link(world.inside("first name"), at).expect("same file system");
            }
        }
        world
    }
}

#[test]
fn h50_h51_read_refuses_all_but_regular_files() {
    for planted in ALL {
        let world = planted.world();
        let read = world.dir.read("x", 100);
        match planted {
            Planted::HardLink => assert_eq!(b"inside".to_vec(), read.expect("is a file")),
            planted if planted.is_link() => {
                assert!(matches!(read, Err(Rejected::Symlink { .. })), "{planted:?}: {read:?}");
            }
            _ => {
                let refused = matches!(read, Err(Rejected::NotARegularFile { .. }));
                assert!(refused, "{planted:?}: {read:?}");
            }
        }
    }
    let devices = Dir::open(Path::new("/dev")).expect("every system has one");
    for name in ["zero", "tty"] {
        let read = devices.read(name, 100);
        assert!(matches!(read, Err(Rejected::NotARegularFile { found: "a device", .. })), "{name}");
    }
}

#[test]
fn h50_directories_are_never_entered_through_a_link() {
    for planted in ALL {
        let world = planted.world();
        for opened in [world.dir.sub("x"), world.dir.create_sub("x", 0o700)] {
            match planted {
                Planted::Folder => drop(opened.expect("is a folder")),
                planted if planted.is_link() => assert!(
                    matches!(opened, Err(Rejected::Symlink { .. })),
                    "{planted:?}: {opened:?}"
                ),
                _ => {
                    let refused = matches!(opened, Err(Rejected::NotADirectory { .. }));
                    assert!(refused, "{planted:?}: {opened:?}");
                }
            }
        }
        world.assert_outside_untouched();
    }
}

#[test]
fn h50_new_files_are_never_written_through_what_is_there() {
    for planted in ALL {
        let world = planted.world();
        let before = world.dir.file_type("x").expect("was planted");
        let written = world.dir.write_new("x", b"new", 0o600);
        assert!(matches!(written, Err(Rejected::Exists { .. })), "{planted:?}: {written:?}");
        let opened = world.dir.create_new("x", 0o600);
        assert!(matches!(opened, Err(Rejected::Exists { .. })), "{planted:?}: {opened:?}");
        assert_eq!(before, world.dir.file_type("x").expect("is still there"));
        let entry_count = if planted == Planted::HardLink { 2 } else { 1 };
        assert_eq!(entry_count, world.dir.list(10).expect("is readable").entries.len());
        world.assert_outside_untouched();
    }
}

#[test]
fn h50_replace_takes_the_place_of_a_link_and_leaves_its_target_alone() {
    for planted in ALL {
        let world = planted.world();
        let replaced = world.dir.replace("x", b"new", 0o640);
        if planted == Planted::Folder {
            assert!(matches!(replaced, Err(Rejected::NotARegularFile { .. })), "{replaced:?}");
            assert_eq!(1, world.dir.list(10).expect("is readable").entries.len());
        } else {
            replaced.expect("nothing stands in the way");
            assert_eq!(b"new".to_vec(), world.dir.read("x", 3).expect("is a file now"));
            let mode = std::fs::metadata(world.inside("x")).expect("is there").mode();
            assert_eq!(0o640, mode & 0o7777);
        }
        if planted == Planted::HardLink {
            assert_eq!(b"inside".to_vec(), world.dir.read("first name", 9).expect("is a file"));
        }
        world.assert_outside_untouched();
    }
}

#[test]
fn h50_h51_remove_and_rename_act_on_the_name_alone() {
    for planted in ALL {
        let world = planted.world();
        world.dir.rename("x", "y").expect("anything can be renamed");
        let removed = world.dir.remove("y");
        if planted == Planted::Folder {
            assert!(matches!(removed, Err(Rejected::NotARegularFile { .. })), "{removed:?}");
        } else {
            assert!(removed.expect("is there"), "{planted:?}");
        }
        assert_eq!(planted == Planted::Folder, world.dir.remove_tree("y", 9).expect("empty"));
        assert!(!world.dir.remove("y").expect("nothing is no error"));

        let world = planted.world();
        assert!(world.dir.remove_tree("x", 9).expect("no more than one entry"), "{planted:?}");
        world.assert_outside_untouched();
    }
}

#[test]
fn h51_size_is_bounded_before_anything_is_read() {
    let world = World::new();
    let sparse = File::create(world.inside("sparse")).expect("is new");
    sparse.set_len(2 << 30).expect("needs no space");
    let read = world.dir.read("sparse", 1000);
    assert!(matches!(read, Err(Rejected::TooLarge { bytes_max: 1000, .. })), "{read:?}");

    std::fs::write(world.inside("ten"), b"0123456789").expect("is new");
    assert_eq!(10, world.dir.read("ten", 10).expect("just fits").len());
    assert!(matches!(world.dir.read("ten", 9), Err(Rejected::TooLarge { .. })));
    assert_eq!(10, world.dir.read("ten", u64::MAX).expect("no bound to speak of").len());
}

#[test]
fn h51_lists_are_bounded_and_sorted() {
    let world = World::new();
    for name in ["b", "a", ".hidden", "line\nbreak"] {
        std::fs::write(world.inside(name), name).expect("is new");
    }
    std::fs::create_dir(world.inside("folder")).expect("is new");
    symlink("nowhere", world.inside("link")).expect("is new");
    let not_utf8 = CString::new(b"\xff.json".to_vec()).expect("has no NUL");
    fs::mknodat(&world.dir.0, &not_utf8, FileType::RegularFile, Mode::RUSR, 0).expect("is new");

    let listing = world.dir.list(7).expect("is readable");
    let seen: Vec<_> = listing.entries.iter().map(|e| (e.name.as_str(), e.kind)).collect();
    let wanted = vec![
        (".hidden", Kind::File),
        ("a", Kind::File),
        ("b", Kind::File),
        ("folder", Kind::Directory),
        ("line\nbreak", Kind::File),
        ("link", Kind::Other),
    ];
    assert_eq!(wanted, seen);
    assert!(!listing.truncated);
    let listing = world.dir.list(6).expect("is readable");
    assert!(listing.truncated && listing.entries.len() <= 6);
    assert!(world.dir.list(0).expect("is readable").truncated);
}

#[test]
fn h51_100_000_entries_are_listed_and_removed_in_bounds() {
    let world = World::new();
    let flood = world.dir.create_sub("flood", 0o700).expect("is new");
    for n in 0..100_000 {
        fs::mknodat(&flood.0, format!("{n}.json"), FileType::RegularFile, Mode::RUSR, 0)
            .expect("is new");
    }
    let listing = flood.list(100).expect("is readable");
    assert_eq!((100, true), (listing.entries.len(), listing.truncated));
    let removed = world.dir.remove_tree("flood", 60_000);
    assert!(matches!(removed, Err(Rejected::TooMany { entries_max: 60_000, .. })), "{removed:?}");
    assert!(world.dir.remove_tree("flood", 40_000).expect("that is the rest"));
}

#[test]
fn h51_a_tree_of_any_depth_is_removed_and_links_in_it_are_not_followed() {
    let world = World::new();
    let mut deepest = world.dir.create_sub("deep", 0o700).expect("is new");
    for _ in 0..1000 {
        symlink_at(&world.outside(), &deepest, "link");
        deepest = deepest.create_sub("d", 0o700).expect("is new");
    }
    deepest.write_new(".hidden", b"", 0o400).expect("is new");
    assert!(matches!(world.dir.remove_tree("deep", 2000), Err(Rejected::TooMany { .. })));
    assert!(world.dir.remove_tree("deep", 2001).expect("counts to the last"));
    assert!(!world.dir.remove_tree("deep", 1).expect("nothing is no error"));
    world.assert_outside_untouched();
}

#[test]
fn names_are_one_component() {
    let world = World::new();
    std::fs::create_dir(world.inside("folder")).expect("is new");
    let long = "x".repeat(256);
    for bad in ["", ".", "..", "/", "a/b", "../outside/secret", "/etc/passwd", "a\0b", &long] {
        let all = [
            world.dir.sub(bad).map(drop),
            world.dir.create_sub(bad, 0o700).map(drop),
            world.dir.read(bad, 1).map(drop),
            world.dir.write_new(bad, b"", 0o600),
            world.dir.replace(bad, b"", 0o600),
            world.dir.create_new(bad, 0o600).map(drop),
            world.dir.remove(bad).map(drop),
            world.dir.remove_tree(bad, 9).map(drop),
            world.dir.rename(bad, "good"),
            world.dir.rename("folder", bad),
            world.dir.kind(bad).map(drop),
        ];
        for result in all {
            assert!(matches!(result, Err(Rejected::BadName { .. })), "{bad:?}: {result:?}");
        }
    }
    world.assert_outside_untouched();
}

#[test]
fn modes_are_exact_and_nothing_temporary_stays() {
    let world = World::new();
    world.dir.create_sub("folder", 0o777).expect("is new");
    world.dir.write_new("file", b"1", 0o666).expect("is new");
    let mut log = world.dir.create_new("log", 0o600).expect("is new");
    log.write_all(b"line").expect("is a file");
    for (name, mode) in [("folder", 0o777), ("file", 0o666), ("log", 0o600)] {
        let found = std::fs::metadata(world.inside(name)).expect("was made").permissions().mode();
        assert_eq!(mode, found & 0o7777, "{name}");
    }
    // What is there keeps its mode.
    world.dir.create_sub("folder", 0o700).expect("is there");
    let found = std::fs::metadata(world.inside("folder")).expect("is there").mode();
    assert_eq!(0o777, found & 0o7777);
    assert_eq!(3, world.dir.list(10).expect("is readable").entries.len());
    assert!(matches!(world.dir.read("none", 1), Err(Rejected::NotFound { .. })));
    assert!(matches!(world.dir.sub("none"), Err(Rejected::NotFound { .. })));
}

#[test]
fn errors_do_not_carry_hostile_names() {
    let world = World::new();
    let error = world.dir.read("a\n\u{1b}[2J", 1).expect_err("does not exist").to_string();
    assert!(!error.contains(char::is_control), "{error:?}");
}

#[test]
fn h50_10_000_swaps_of_folder_and_link_never_lead_outside() {
    let world = World::new();
    let folder = world.dir.create_sub("box", 0o700).expect("is new");
    folder.write_new("secret", b"inside", 0o600).expect("is new");
    symlink_at(&world.outside(), &world.dir, "link");
    symlink_at(&world.outside().join("secret"), &folder, "link");
    let (is_over, has_seen_both) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut swap_count = 0;
            while swap_count < 10_000
                || (swap_count < 200_000 && !has_seen_both.load(Ordering::Relaxed))
            {
                for (dir, name) in [(&world.dir, "box"), (&folder, "secret")] {
                    fs::renameat_with(&dir.0, name, &dir.0, "link", RenameFlags::EXCHANGE)
                        .expect("both are there");
                }
                swap_count += 1;
            }
            is_over.store(true, Ordering::Release);
        });
        let (mut read_count, mut refused_count) = (0, 0);
        while !is_over.load(Ordering::Acquire) {
            match world.dir.sub("box").and_then(|dir| {
                dir.write_new("from host", b"x", 0o600)?;
                dir.remove("from host")?;
                drop(dir.create_new("log", 0o600)?);
                dir.remove("log")?;
                dir.create_sub("sub", 0o700)?.replace("file", b"x", 0o600)?;
                dir.remove_tree("sub", 9)?;
                dir.read("secret", 100)
            }) {
                Ok(bytes) => {
                    assert_eq!(b"inside".to_vec(), bytes);
                    read_count += 1;
                }
                Err(Rejected::Symlink { .. } | Rejected::NotADirectory { .. }) => {
                    refused_count += 1;
                }
                Err(other) => panic!("neither file nor link: {other:?}"),
            }
            if read_count > 0 && refused_count > 0 {
                has_seen_both.store(true, Ordering::Relaxed);
            }
        }
    });
    assert!(has_seen_both.into_inner(), "one side of the race never won");
    world.assert_outside_untouched();
}

fn symlink_at(target: &Path, dir: &Dir, name: &str) {
    fs::symlinkat(target, &dir.0, name).expect("is new");
}

#[test]
fn a_folder_tells_that_an_entry_came() {
    let folder = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(folder.path().join("family/messages")).expect("a directory");
    let dir = Dir::open(folder.path()).expect("it is there");
    let at = || dir.changed_at(&["family", "messages"]).expect("it is there");
    let before = at();
    assert_eq!(before, at());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    // The clock of a file system may go in steps.
    for n in 0.. {
        std::fs::write(folder.path().join(format!("family/messages/{n}.json")), "")
            .expect("a file");
        if at() != before {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "it never tells");
    }
    assert!(dir.changed_at(&[]).is_ok() && dir.changed_at(&["none"]).is_err());
    assert!(dir.changed_at(&["..", "x"]).is_err() && dir.changed_at(&["../x"]).is_err());
}
