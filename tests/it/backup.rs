//! `backup` and `restore`: one file, made beside a daemon, put back into a new home.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::support::{Home, entries, run};

/// A home that was lived in, served by a daemon that has answered.
fn lived_in(home: &Home) -> PathBuf {
    let chat = home.register("family");
    home.write_env("ANTHROPIC_API_KEY=sk-ant-secret\n");
    let task = ["schedule-task", "--group", "main", "--every", "1d", "--prompt", "look"];
    home.run(&task).ok();
    let daemon = home.start();
    home.inject(&chat, "one");
    home.wait_answers(&chat, &["Andy: echo: one"]);
    let notes = home.at("groups/family/notes");
    fs::create_dir_all(&notes).expect("a folder");
    fs::write(notes.join("bread.md"), "bread").expect("a file");
    std::os::unix::fs::symlink("/etc/passwd", notes.join("link")).expect("a link");
    fs::write(home.at("groups/family/logs/container-x.log"), "log").expect("a file");
    let session = home.at("data/sessions/family/.claude/projects/-p");
    fs::create_dir_all(&session).expect("a folder");
    fs::write(session.join(format!("{}.jsonl", "s".repeat(150))), "{}").expect("a file");
    let file = home.path("claw.tar.gz");
    let done = home.run(&["backup", &file.display().to_string()]).ok();
    assert!(done.starts_with("verified backup of 1 messages, 2 groups, 1 tasks"), "{done}");
    assert!(done.contains("left out: 1 links") && done.contains("--with-secrets"), "{done}");
    assert_eq!(Some(0), daemon.stop());
    file
}

/// Names and contents in a backup.
fn contents(file: &Path) -> Vec<(String, Vec<u8>)> {
    let mut tar = tar::Archive::new(GzDecoder::new(File::open(file).expect("it is there")));
    let entries = tar.entries().expect("a tar");
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.expect("an entry");
        let mut bytes = Vec::new();
        Read::read_to_end(&mut entry, &mut bytes).expect("it is whole");
        (entry.path().expect("a name").display().to_string(), bytes)
    };
    entries.map(read).collect()
}

#[test]
fn what_was_saved_comes_back_and_nothing_is_answered_twice() {
    let home = Home::new();
    let file = lived_in(&home);
    let mode = fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(0o600, mode & 0o777);
    let inside = contents(&file);
    let names: Vec<&str> = inside.iter().map(|(name, _)| &**name).collect();
    assert_eq!(["backup.json", "store/messages.db"], names[..2]);
    for secret in [".env", "store/whatsapp.db"] {
        assert!(!names.contains(&secret), "{names:?}");
    }
    let is_log = |name: &&str| name.contains("/logs/");
    assert!(!names.iter().any(is_log) && !names.iter().any(|name| name.ends_with("link")));
    assert!(!inside.iter().any(|(_, bytes)| bytes.windows(13).any(|w| w == b"sk-ant-secret")));
    for folder in [home.path(""), home.at("data"), home.at("store")] {
        let left: Vec<PathBuf> = entries(&folder)
            .into_iter()
            .filter(|path| {
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                name.contains("partial") || name.contains("copy-")
            })
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let path = file.display().to_string();
    home.run(&["backup", &path]).refused(1, &["exists already"]);
    home.run(&["restore", &path]).refused(1, &["1 further groups", "1 messages", "--home"]);

    let other = Home::new();
    let done = other.run(&["restore", &path]).ok();
    assert!(done.starts_with("restored 1 messages, 2 groups, 1 tasks"), "{done}");
    for sql in ["SELECT text FROM messages", "SELECT text FROM outbox", "SELECT prompt FROM tasks"]
    {
        assert_eq!(home.texts(sql), other.texts(sql), "{sql}");
    }
    let text = |path: &str| fs::read_to_string(other.at(path)).expect(path);
    assert_eq!("bread", text("groups/family/notes/bread.md"));
    text(&format!("data/sessions/family/.claude/projects/-p/{}.jsonl", "s".repeat(150)));
    let daemon = other.start();
    other.inject("script:family", "two");
    other.wait_answers("script:family", &["Andy: echo: one", "Andy: echo: two"]);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn secrets_come_along_only_where_somebody_asks() {
    let home = Home::new();
    lived_in(&home);
    let keys = rusqlite::Connection::open(home.at("store/whatsapp.db")).expect("a database");
    keys.execute_batch("CREATE TABLE device (id INTEGER); INSERT INTO device VALUES (7)")
        .expect("SQL");
    let path = home.path("all.tar.gz").display().to_string();
    let done = home.run(&["backup", &path, "--with-secrets"]).ok();
    assert!(done.contains("holds secrets"), "{done}");
    let other = Home::new();
    other.run(&["restore", &path]).ok();
    let env = fs::read_to_string(other.at(".env")).expect("it came back");
    assert_eq!("ANTHROPIC_API_KEY=sk-ant-secret\n", env);
    let keys = rusqlite::Connection::open(other.at("store/whatsapp.db")).expect("a database");
    let id: i64 = keys.query_row("SELECT id FROM device", [], |row| row.get(0)).expect("a row");
    assert_eq!(7, id);
    for name in [".env", "store/whatsapp.db", "store/messages.db"] {
        let mode = fs::metadata(other.at(name)).expect(name).permissions().mode();
        assert_eq!(0o600, mode & 0o777, "{name}");
    }
}

/// A backup of `file`'s entries, changed.
fn changed(
    file: &Path,
    to: &Path,
    change: impl Fn(&mut tar::Header, &mut String, &mut Vec<u8>) -> bool,
    more: impl FnOnce(&mut tar::Builder<GzEncoder<File>>),
) {
    let gzip = GzEncoder::new(File::create(to).expect("a file"), Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (mut name, mut bytes) in contents(file) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        let is_folder = bytes.is_empty();
        let kind = if is_folder { tar::EntryType::Directory } else { tar::EntryType::Regular };
        header.set_entry_type(kind);
        if change(&mut header, &mut name, &mut bytes) {
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, &name, &bytes[..]).expect("it fits");
        }
    }
    more(&mut tar);
    tar.into_inner().and_then(GzEncoder::finish).expect("it is written");
}

#[test]
fn what_is_no_backup_or_would_escape_is_refused_and_nothing_is_changed() {
    let home = Home::new();
    let file = lived_in(&home);
    let bad = home.path("bad.tar.gz");
    let check = |what: &str, code: i32, parts: &[&str]| {
        let other = Home::new();
        let done = other.run(&["restore", &bad.display().to_string()]);
        assert_eq!(Some(code), done.code, "{what}: {done:?}");
        done.refused(code, parts);
        let count = other.number_if_there("SELECT count(*) FROM messages").unwrap_or(0);
        assert_eq!(0, count, "{what}");
        assert!(!other.at("groups/family").exists(), "{what}");
        assert!(!other.at("data/moving").exists(), "{what}");
        assert!(!other.path("escaped").exists(), "{what}");
    };
    check("not there", 1, &["cannot open"]);
    for text in ["", "hello", "\u{1f}\u{8b}"] {
        fs::write(&bad, text).expect("a file");
        check("no backup", 1, &["no usable backup"]);
    }
    let whole = fs::read(&file).expect("it is there");
    for part in [2, 3] {
        fs::write(&bad, &whole[..whole.len() / part]).expect("a file");
        check("cut off", 1, &["no usable backup"]);
    }
    // The name is written past the library, which would not have it.
    for escape in ["../escaped", "/tmp/escaped", "groups/../../escaped", "store/messages.db-wal"] {
        changed(
            &file,
            &bad,
            |_, _, _| true,
            |tar| {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(0o600);
                header.set_size(1);
                header.as_old_mut().name[..escape.len()].copy_from_slice(escape.as_bytes());
                header.set_cksum();
                tar.append(&header, &b"x"[..]).expect("it fits");
            },
        );
        check(escape, 1, &["does not belong into one"]);
    }
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Fifo] {
        changed(
            &file,
            &bad,
            |_, _, _| true,
            |tar| {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(kind);
                header.set_mode(0o600);
                header.set_size(0);
                tar.append_link(&mut header, "groups/link", "/etc").expect("it fits");
            },
        );
        check("a link", 1, &["`groups/link` does not belong into one"]);
    }
    changed(&file, &bad, |_, name, _| name != "store/messages.db", |_| {});
    check("without database", 1, &["no database of messages"]);
    let rename = |_: &mut tar::Header, name: &mut String, bytes: &mut Vec<u8>| {
        if name == "backup.json" {
            let text = String::from_utf8_lossy(bytes).replace("\"messages\":1", "\"messages\":2");
            *bytes = text.into_bytes();
        }
        true
    };
    changed(&file, &bad, rename, |_| {});
    check("rows missing", 1, &["not as many rows"]);
    let newer = |_: &mut tar::Header, name: &mut String, bytes: &mut Vec<u8>| {
        if name == "store/messages.db" {
            // `user_version`: sqlite.org/fileformat.html, section 1.3.
            bytes[60..64].copy_from_slice(&999_u32.to_be_bytes());
        }
        true
    };
    changed(&file, &bad, newer, |_| {});
    check("newer", 78, &["schema 999", "newer program"]);
    let later = |_: &mut tar::Header, name: &mut String, bytes: &mut Vec<u8>| {
        if name == "backup.json" {
            let text = String::from_utf8_lossy(bytes).replace("\"format\":1", "\"format\":2");
            *bytes = text.into_bytes();
        }
        true
    };
    changed(&file, &bad, later, |_| {});
    check("later format", 1, &["format 2"]);
}

#[test]
fn a_served_or_missing_home_is_refused_and_a_cut_leaves_it_as_it_was() {
    let home = Home::new();
    let file = lived_in(&home);
    let path = file.display().to_string();
    let other = Home::new();
    let new = other.path("x.tar.gz").display().to_string();
    other.run(&["backup", &new]).refused(1, &["there is no home"]);
    let daemon = other.start();
    other.run(&["restore", &path]).refused(75, &["in use by process", "stop it first"]);
    assert_eq!(Some(0), daemon.stop());
    fs::write(other.at("groups/main/CLAUDE.md"), "mine").expect("it is ours");
    let mut command = other.command(&["restore", &path]);
    command.env("RUST_CLAW_CRASH_AT", "restore-placed");
    assert_eq!(None, run(command, b"").code);
    let daemon = other.start();
    assert_eq!(Some(0), daemon.stop());
    let memory = fs::read_to_string(other.at("groups/main/CLAUDE.md")).expect("it is there");
    assert_eq!("mine", memory);
    assert_eq!(0, other.number("SELECT count(*) FROM messages"));
    other.run(&["restore", &path]).ok();
    assert_eq!(1, other.number("SELECT count(*) FROM messages"));
}
