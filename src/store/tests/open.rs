use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::store::open::KNOWN;

/// What `sqlite_schema` says, whatever the order in which it was made.
fn schema(path: &Path) -> Vec<(String, String)> {
    let conn = Connection::open(path).expect("it is there");
    let sql = "SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name";
    all(&conn, sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("no fault")
}

fn rows(path: &Path) -> Vec<(String, i64)> {
    let conn = Connection::open(path).expect("it is there");
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    let tables: Vec<String> = all(&conn, sql, [], |row| row.get(0)).expect("no fault");
    tables
        .into_iter()
        .map(|table| {
            let sql = format!("SELECT count(*) FROM {table}");
            let count = conn.query_row(&sql, [], |row| row.get(0)).expect("no fault");
            (table, count)
        })
        .collect()
}

#[test]
fn a_new_database_is_its_owners_alone() {
    let db = Db::new();
    for name in ["messages.db", "messages.db-wal", "messages.db-shm"] {
        let found = fs::metadata(db.dir.path().join(name)).expect(name);
        assert_eq!(0o600, found.mode() & 0o777, "{name}");
    }
}

#[test]
fn frozen_databases_reach_the_newest_schema_and_keep_their_rows() {
    let fresh = Db::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for version in 1..=KNOWN {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("old.db");
        fs::copy(data.join(format!("store-v{version}.db")), &path).expect("it is checked in");
        let before = rows(&path);
        assert!(before.iter().all(|(_, count)| 0 < *count), "{before:?}");

        let store = Store::open(&path).expect("it is known");
        assert_eq!(Vec::<CorruptRow>::new(), store.groups().expect("no fault").1);
        assert_eq!(1, store.alive_runs().expect("no fault").len());
        assert_eq!(1, store.dead_letters().expect("no fault").len());
        assert_eq!(1, store.pending_chats().expect("no fault").len());
        assert_eq!(vec![("local".to_owned(), 1)], store.outbox_depth().expect("no fault"));
        drop(store);
        assert_eq!(schema(&fresh.dir.path().join("messages.db")), schema(&path));
        let after = rows(&path);
        assert!(before.iter().all(|row| after.contains(row)), "{before:?} {after:?}");
    }
}

#[test]
fn a_newer_database_is_refused_and_left_as_it_is() {
    for mode in ["wal", "delete"] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("new.db");
        let conn = Connection::open(&path).expect("it is new");
        conn.pragma_update(None, "journal_mode", mode).expect("it is new");
        conn.execute_batch("CREATE TABLE later (x); PRAGMA user_version = 999").expect("it is new");
        drop(conn);
        let before = fs::read(&path).expect("it is there");
        let refused = Store::open(&path);
        let Err(Error::SchemaTooNew { found: 999, known }) = refused else { panic!("{refused:?}") };
        assert_eq!(KNOWN, known);
        assert!(before == fs::read(&path).expect("it is there"), "{mode}: the file has changed");
    }
}

#[test]
fn a_newer_version_that_is_still_in_the_log_is_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("new.db");
    let newer = Connection::open(&path).expect("it is new");
    newer.pragma_update(None, "journal_mode", "wal").expect("it is new");
    newer.execute_batch("CREATE TABLE later (x); PRAGMA user_version = 999").expect("it is new");
    // Not checkpointed: the newer program runs.
    let refused = Store::open(&path);
    assert!(matches!(refused, Err(Error::SchemaTooNew { found: 999, .. })), "{refused:?}");
}

#[test]
fn what_is_no_database_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notes.txt");
    let text = "not a database ".repeat(100);
    fs::write(&path, &text).expect("a file");
    let refused = Store::open(&path);
    assert!(matches!(refused, Err(Error::Unreadable { .. })), "{refused:?}");
    assert_eq!(text, fs::read_to_string(&path).expect("it is there"));
    for path in [dir.path(), &dir.path().join("missing/messages.db")] {
        let refused = Store::open(path);
        assert!(matches!(refused, Err(Error::Unreadable { .. })), "{refused:?}");
    }
}

#[test]
fn a_failing_migration_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("messages.db");
    // In the way of the schema's last table.
    let conn = Connection::open(&path).expect("it is new");
    conn.execute_batch("CREATE TABLE state (x)").expect("it is new");
    let refused = Store::open(&path);
    assert!(matches!(refused, Err(Error::Sqlite { .. })), "{refused:?}");
    assert_eq!(vec![("state".to_owned(), "CREATE TABLE state (x)".to_owned())], schema(&path));
}

#[test]
fn many_may_open_a_new_database_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("messages.db");
    std::thread::scope(|scope| {
        let openers: Vec<_> = (0..8).map(|_| scope.spawn(|| Store::open(&path))).collect();
        for opener in openers {
            opener.join().expect("no panic").expect("they wait for each other");
        }
    });
}

#[test]
fn many_may_make_the_database_at_once() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("new.db");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| Store::open(&path).map(drop).expect("nobody is turned away"));
            }
        });
    }
}
