use super::*;

fn check(new: &NewGroup, expected: std::result::Result<Registered, &str>) {
    let mut db = Db::new();
    let all =
        |db: &Db| (db.store.groups().expect("no fault"), db.store.all_chats().expect("no fault"));
    let before = all(&db);
    let result = db.store.register_group(new, NOW).map_err(|error| error.to_string());
    assert_eq!(expected.map_err(str::to_owned), result, "{new:?}");
    assert_eq!(expected.is_err(), before == all(&db), "{new:?}");
}

#[test]
fn a_group_has_its_chat_and_its_terminal() {
    let db = Db::new();
    let chats = db.store.chats_of_group(&folder("family")).expect("no fault");
    assert_eq!(vec![chat("local:family"), chat(FAMILY)], chats);
    let group = db.store.group_of_chat(&chat(FAMILY)).expect("no fault").expect("it is there");
    assert_eq!(Some(&group), db.store.group(&folder("family")).expect("no fault").as_ref());
    let (groups, corrupt) = db.store.groups().expect("no fault");
    assert_eq!((2, true, Vec::new()), (groups.len(), groups[0].is_main, corrupt));
    assert!(!groups[0].requires_trigger);
}

#[test]
fn h53_nothing_that_is_taken_is_taken_again() {
    let group = || new_group("7@g.us", "new");
    check(&group(), Ok(Registered::Created));
    check(
        &NewGroup { folder: folder("family"), attach: true, ..group() },
        Ok(Registered::Attached),
    );
    check(
        &NewGroup { folder: folder("main"), is_main: true, ..group() },
        Err(
            "folder `main` belongs to group `Main` already; `--attach` adds the chat to that group",
        ),
    );
    check(
        &NewGroup { folder: folder("MAIN"), ..group() },
        Err(
            "folder `main` belongs to group `Main` already; `--attach` adds the chat to that group",
        ),
    );
    check(
        &NewGroup { is_main: true, ..group() },
        Err("group `main` is main already, there can be only one"),
    );
    for attach in [true, false] {
        check(
            &NewGroup { jid: chat(FAMILY), attach, ..group() },
            Err("chat `1@g.us` belongs to group `family` (folder `family`) already"),
        );
    }
    check(&NewGroup { attach: true, ..group() }, Err("there is no group with folder `new`"));
    check(
        &NewGroup { jid: chat("local:other"), ..group() },
        Err("chat `local:other` is the terminal of its own folder, not of `new`"),
    );
    for name in ["", " ", "a\nb", &"x".repeat(101)] {
        let refused = format!(
            "name `{}` is not allowed: 1 to 100 characters on one line",
            crate::ids::shown(name)
        );
        check(&NewGroup { name: name.to_owned(), ..group() }, Err(&refused));
        let trigger_name = Some(name.to_owned());
        let refused = refused.replacen("name", "trigger", 1);
        let refused = refused.replace("` `", "``");
        check(&NewGroup { trigger_name, ..group() }, Err(&refused));
    }
}

#[test]
fn h53_the_database_itself_keeps_main_single() {
    let db = Db::new();
    let sql = "UPDATE groups SET is_main = 1 WHERE folder = 'family'";
    assert!(db.store.conn.execute(sql, []).is_err());
}

#[test]
fn the_first_start_makes_main_once() {
    let mut db = Db::new();
    assert!(!db.store.ensure_main_group(NOW).expect("no fault"));
    assert!(!db.other().ensure_main_group(NOW).expect("no fault"));
    assert_eq!(2, db.store.groups().expect("no fault").0.len());
}

#[test]
fn what_was_said_before_the_registration_is_settled() {
    let mut db = Db::new();
    db.accept(&message("local:main", "1", "hi"));
    let attach = NewGroup { attach: true, folder: folder("main"), ..new_group("3@lid", "x") };
    db.register(&attach);
    assert_eq!(Some(Seq(1)), db.store.cursor(&chat("3@lid")).expect("no fault"));
    db.accept(&message("3@lid", "1", "hi"));
    db.store.detach_chat(&chat("3@lid")).expect("it is attached");
    db.register(&attach);
    assert!(db.batch("3@lid").messages.is_empty());
    assert_eq!(vec!["local:main"], db.pending());
}

#[test]
fn a_removed_group_gives_its_chats_back() {
    let mut db = Db::new();
    db.accept(&message(FAMILY, "1", "@Andy hi"));
    let run = db.start_run(FAMILY);
    let mut begun = step(None, vec![]);
    begun.session_id = Some(Some("s".to_owned()));
    db.store.record(run, &begun, NOW).expect("no fault");
    db.store.give_up(&chat(FAMILY), &folder("family"), 1, "x", None, NOW).expect("no fault");
    db.store.unregister_group(&folder("family"), NOW).expect("it is there");

    assert_eq!(None, db.store.group_of_chat(&chat(FAMILY)).expect("no fault"));
    assert_eq!(None, db.store.session(&folder("family")).expect("no fault"));
    assert_eq!(None, db.store.cursor(&chat(FAMILY)).expect("no fault"));
    assert!(db.store.dead_letters().expect("no fault").is_empty());
    assert_eq!(Accepted::NotRegistered, db.accept(&message(FAMILY, "2", "@Andy hi")));
    // A run that goes on meanwhile does no harm.
    let mut late = step(Some((FAMILY, Seq(9))), vec![answer(FAMILY, "late", "k")]);
    late.session_id = Some(Some("s".to_owned()));
    db.store.record(run, &late, NOW).expect("no fault");
    assert_eq!(None, db.store.session(&folder("family")).expect("no fault"));
    db.register(&new_group(FAMILY, "again"));
}

#[test]
fn what_stays() {
    let mut db = Db::new();
    let text = |result: std::result::Result<(), RegisterError>| {
        result.map_err(|error| error.to_string()).expect_err("it is refused")
    };
    assert_eq!(
        "group `main` is main and stays",
        text(db.store.unregister_group(&folder("main"), NOW))
    );
    assert_eq!(
        "there is no group with folder `x`",
        text(db.store.unregister_group(&folder("x"), NOW))
    );
    assert_eq!("chat `9@lid` belongs to no group", text(db.store.detach_chat(&chat("9@lid"))));
    assert_eq!(
        "chat `local:main` is the terminal of its group and stays as long as the group",
        text(db.store.detach_chat(&chat("local:main")))
    );
}

/// Rows as somebody with an editor may leave them.
fn corrupted(sql: &str) -> Db {
    let db = Db::new();
    let off = "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;";
    db.store.conn.execute_batch(&format!("{off} {sql}")).expect("no check holds it back");
    db.restart()
}

#[test]
fn h61_a_corrupt_row_is_skipped_and_reported() {
    for sql in [
        "UPDATE groups SET container_config = '{\"memory\":1}' WHERE folder = 'family'",
        "UPDATE groups SET container_config = 'nonsense' WHERE folder = 'family'",
        "UPDATE groups SET is_main = 7 WHERE folder = 'family'",
    ] {
        let mut db = corrupted(sql);
        let (groups, corrupt) = db.store.groups().expect("the start goes on");
        assert_eq!((1, 1), (groups.len(), corrupt.len()), "{sql}");
        assert_eq!(("groups", "family"), (corrupt[0].table, corrupt[0].key.as_str()), "{sql}");
        assert!(!corrupt[0].to_string().contains('\n'));
        let group = db.store.group(&folder("family"));
        assert!(matches!(group, Err(Error::Corrupt { .. })), "{sql}: {group:?}");
        // Its messages are kept for when it is mended; the other group is served.
        assert!(!db.wakes(|_| ()));
        assert!(db.wakes(|m| m.chat = chat("local:main")));
        assert_eq!(vec!["local:main"], db.pending());
    }
}

#[test]
fn h49_an_impossible_folder_in_the_database_is_not_served() {
    let escape = "UPDATE groups SET folder = '../../etc' WHERE folder = 'family';
                  UPDATE group_chats SET folder = '../../etc' WHERE folder = 'family';";
    let mut db = corrupted(escape);
    let (groups, corrupt) = db.store.groups().expect("the start goes on");
    assert_eq!(vec!["main"], groups.iter().map(|g| g.folder.as_str()).collect::<Vec<_>>());
    // The group, and its two chats.
    assert_eq!(3, corrupt.len(), "{corrupt:?}");
    db.accept(&message(FAMILY, "1", "@Andy hi"));
    assert!(db.pending().is_empty());
    assert!(db.store.woken_since(Seq(0), 10).expect("no fault").0.is_empty());
    assert!(db.store.group_of_chat(&chat(FAMILY)).is_err());
    assert_eq!(1, db.store.all_chats().expect("no fault").len());
}
