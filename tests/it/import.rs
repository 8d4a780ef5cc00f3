//! Moving in from `NanoClaw`: what comes over, what stays, and what is refused before anything is
//! written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;

use crate::support::nanoclaw::{FAMILY, MAIN, NanoClaw, at};
use crate::support::{Home, entries, wait_for};

/// Every file below `folder` with what is in it.
fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for path in entries(folder) {
        if path.is_dir() && !path.is_symlink() {
            found.extend(tree(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
        }
    }
    found
}

fn import(home: &Home, old: &NanoClaw) -> String {
    home.run(&["import", &old.path().display().to_string()]).ok()
}

/// The line of the table for one kind of thing.
fn line<'a>(table: &'a str, what: &str) -> &'a str {
    let found = table.lines().find(|line| line.starts_with(&format!("{what}  ")));
    found.unwrap_or_else(|| panic!("no line `{what}`: {table}"))
}

#[test]
fn all_comes_over_and_exactly_the_unanswered_is_answered() {
    let home = Home::new();
    let old = NanoClaw::lived_in(&home.path("old"));
    let before = tree(old.path());

    let path = old.path().display().to_string();
    let would = home.run(&["import", &path, "--dry-run"]).ok();
    assert!(!home.path("home").exists(), "a dry run makes nothing");
    let did = import(&home, &old);
    let table = |text: &str| -> Vec<String> {
        let is_row = |line: &&str| line.contains("  ");
        text.lines().filter(is_row).map(str::to_owned).collect()
    };
    assert_eq!(table(&would), table(&did), "it does what it said");
    assert!(would.contains("Nothing was changed."), "{would}");
    assert_eq!(before, tree(old.path()), "their folder is only read");

    for (what, came, stayed) in [
        ("groups", 2, 0),
        ("sessions", 1, 0),
        ("chats", 2, 1),
        ("messages", 8, 1),
        ("tasks", 3, 1),
        ("runs of tasks", 2, 0),
        ("settings", 2, 2),
        ("files of groups", 4, 1),
        ("files of sessions", 1, 0),
        ("WhatsApp", 0, 1),
    ] {
        let numbers: Vec<&str> = line(&did, what)[what.len()..].split_whitespace().collect();
        assert_eq!([came.to_string(), stayed.to_string()], numbers[..2], "{what}: {did}");
    }
    assert!(line(&did, "WhatsApp").contains("rust-claw pair"), "{did}");
    assert!(line(&did, "messages").contains("2 in 2 chats wait"), "{did}");
    assert!(!did.contains("xoxb") && !did.contains("sk-ant"), "no secret is shown: {did}");

    let cursors = "SELECT m.id FROM group_chats gc JOIN messages m ON m.seq = gc.cursor_seq
                   ORDER BY gc.jid";
    assert_eq!(["f3", "m2"], *home.texts(cursors));
    assert_eq!(
        ["m1", "m2", "f1", "f2", "f3", "f5", "m3", "f6"],
        *home.texts("SELECT id FROM messages ORDER BY seq")
    );
    let own = "SELECT id FROM messages WHERE is_from_assistant ORDER BY seq";
    assert_eq!(["m2", "f3"], *home.texts(own));
    let groups = home.json(&["list-groups", "--json"]);
    assert_eq!(json!([true, false]), json!([groups[0]["is_main"], groups[1]["is_main"]]));
    assert_eq!(json!(["local:family", FAMILY]), groups[1]["chats"]);
    assert_eq!(json!("@Andy"), groups[1]["trigger"]);
    let tasks = "SELECT id || ' ' || state || ' ' || coalesce(next_run_ms, '-') || ' ' ||
                     context_mode FROM tasks ORDER BY id";
    assert_eq!(
        [
            "task-1771500000000-cron active 4070941200000 group",
            "task-1771500000000-each paused 4070941200000 isolated",
            "task-1771500000000-once completed - isolated",
        ],
        *home.texts(tasks)
    );
    let runs = "SELECT status || ' ' || (ended_at_ms - claimed_at_ms) || ' ' ||
                    coalesce(result, error) FROM task_runs ORDER BY id";
    assert_eq!(["succeeded 1500 Good morning", "failed 10 no engine"], *home.texts(runs));

    let text = |path: &str| fs::read_to_string(home.at(path)).expect(path);
    assert_eq!("I am main's memory.\n", text("groups/main/CLAUDE.md"));
    assert_eq!("I am everybody's memory.\n", text("groups/global/CLAUDE.md"));
    assert_eq!("bread\n", text("groups/family/notes/shopping.md"));
    assert!(entries(&home.at("groups/family/logs")).is_empty(), "their logs hold prompts");
    let session = "data/sessions/main/.claude/projects/-workspace-group";
    text(&format!("{session}/6f1c0c56-0000-4000-8000-000000000001.jsonl"));
    assert!(!home.at("store/auth").exists() && !home.at("groups/left").exists());
    assert_eq!("ASSISTANT_NAME='Andy'\nCLAUDE_CODE_OAUTH_TOKEN='sk-ant-oat01-x'\n", text(".env"));
    let mode = fs::metadata(home.at(".env")).expect("it is there").permissions().mode();
    assert_eq!(0o600, mode & 0o777);

    let home = home.env("AGENT_ENGINE", "demo");
    let daemon = home.start();
    let answers = |chat| home.answers(chat).len();
    wait_for("both answers", || answers(MAIN) == 1 && answers(FAMILY) == 1);
    let main = home.answers(MAIN).remove(0);
    assert!(main.contains("what is left?") && !main.contains("good morning"), "{main}");
    let family = home.answers(FAMILY).remove(0);
    assert!(family.contains("milk too?") && !family.contains("@Andy who?"), "{family}");
    home.wait_no_runs_busy();
    assert_eq!(Some(0), daemon.stop());
    assert_eq!(2, home.number("SELECT count(*) FROM outbox"));
    let resumed = "SELECT count(*) FROM sessions WHERE folder = 'main'";
    assert_eq!(1, home.number(resumed));

    home.run(&["import", &path]).refused(1, &["1 further groups", "8 messages", "--home"]);
}

#[test]
fn older_json_files_and_tables_without_later_columns_come_over() {
    let home = Home::new();
    let old = NanoClaw::empty(&home.path("old"));
    old.sql(
        "DROP TABLE registered_groups; DROP TABLE sessions; DROP TABLE router_state;
         ALTER TABLE messages DROP COLUMN is_bot_message;
         ALTER TABLE scheduled_tasks DROP COLUMN context_mode;
         ALTER TABLE chats DROP COLUMN channel; ALTER TABLE chats DROP COLUMN is_group;",
    );
    let groups = json!({
        MAIN: {"name": "Main", "folder": "main", "trigger": "@Andy", "added_at": at(0)},
        FAMILY: {"name": "Family", "folder": "family", "trigger": "@Bot", "added_at": at(0),
                 "requiresTrigger": false, "containerConfig": {"timeout": 1, "image": "x"}},
    });
    old.write("data/registered_groups.json", &groups.to_string());
    old.write("data/sessions.json", &json!({"main": "s-1", "family": "../x"}).to_string());
    let router = json!({"last_timestamp": at(9), "last_agent_timestamp": {MAIN: at(1)}});
    old.write("data/router_state.json", &router.to_string());
    let insert = |chat: &str, id: &str, second, text: &str, me: i64| {
        old.sql(&format!(
            "INSERT OR IGNORE INTO chats (jid, name) VALUES ('{chat}', '{chat}');
             INSERT INTO messages VALUES ('{id}', '{chat}', 's@x', 'S', '{text}', '{}', {me});",
            at(second)
        ));
    };
    insert(MAIN, "1", 1, "hello", 1);
    insert(MAIN, "2", 2, "Andy: Hello!", 1);
    // Hazard 15: said by a person.
    insert(FAMILY, "3", 3, "Andy: come home", 0);
    let did = import(&home, &old);
    assert!(did.contains("`image` is not known here") && did.contains("`timeout`"), "{did}");
    assert!(did.contains("its own `@Bot`"), "{did}");
    assert!(line(&did, "sessions").contains("its id is none"), "{did}");
    assert_eq!(["2"], *home.texts("SELECT id FROM messages WHERE is_from_assistant"));
    assert_eq!(["3"], *home.texts("SELECT id FROM messages WHERE wakes"));
    assert_eq!(["s-1"], *home.texts("SELECT session_id FROM sessions"));
    assert!(old.path().join("data/sessions.json").exists(), "their folder is only read");
}

#[test]
fn what_is_no_nanoclaw_or_in_use_is_refused_before_anything_is_written() {
    type Spoil = fn(&NanoClaw);
    let cases: [(&str, i32, &[&str], Spoil); 14] = [
        ("nothing", 1, &["there is no NanoClaw", "no such folder"], |old| {
            fs::remove_dir_all(old.path()).expect("it is there");
        }),
        ("empty folder", 1, &["there is no NanoClaw", "registered_groups.json"], |old| {
            fs::remove_dir_all(old.path()).expect("it is there");
            fs::create_dir(old.path()).expect("a folder");
        }),
        ("no database", 1, &["messages.db", "no SQLite database"], |old| {
            old.write("store/messages.db", "hello");
        }),
        ("damaged", 1, &["cannot read", "messages.db"], |old| {
            let path = old.path().join("store/messages.db");
            let mut bytes = fs::read(&path).expect("it is there");
            bytes[100..4096].fill(0xff);
            fs::write(&path, bytes).expect("it is ours");
        }),
        ("another program's", 1, &["no table `messages`"], |old| {
            old.sql("DROP TABLE messages");
        }),
        ("a view in place of a table", 1, &["no table `messages`"], |old| {
            old.sql("DROP TABLE messages; CREATE VIEW messages AS SELECT 1 AS id");
        }),
        ("ours", 1, &["it is one of rust-claw"], |old| {
            old.sql("CREATE TABLE group_chats (jid TEXT)");
        }),
        ("hot log", 75, &["messages.db-wal", "start and stop it"], |old| {
            old.write("store/messages.db-wal", "frames");
        }),
        ("hot journal", 75, &["messages.db-journal", "start and stop it"], |old| {
            old.write("store/messages.db-journal", "pages");
        }),
        ("corrupt JSON", 1, &["data/sessions.json", "EOF"], |old| {
            old.sql("DELETE FROM sessions");
            old.write("data/sessions.json", "{");
        }),
        ("corrupt cursors", 1, &["router_state", "cannot be used"], |old| {
            old.sql("UPDATE router_state SET value = '[' WHERE key = 'last_agent_timestamp'");
        }),
        ("half taken over", 1, &["half-migrated", "both data/registered_groups.json"], |old| {
            old.write(
                "data/registered_groups.json",
                &json!({MAIN: {"name": "M",
                "folder": "main", "trigger": "@A"}})
                .to_string(),
            );
        }),
        ("taken over and lost", 1, &["half-migrated", ".migrated"], |old| {
            old.sql("DELETE FROM registered_groups");
            old.write("data/registered_groups.json.migrated", "{\"a\": 1}");
        }),
        ("cursors lost", 1, &["half-migrated", "last_agent_timestamp"], |old| {
            old.sql("DELETE FROM router_state");
        }),
    ];
    for (what, code, parts, spoil) in cases {
        let home = Home::new();
        let old = NanoClaw::lived_in(&home.path("old"));
        spoil(&old);
        let path = old.path().display().to_string();
        for args in [&["import", &path, "--dry-run"][..], &["import", &path]] {
            let done = home.run(args);
            assert_eq!(Some(code), done.code, "{what}: {done:?}");
            done.refused(code, parts);
            assert!(!home.path("home").exists(), "{what}: something was written");
        }
    }
}

#[test]
fn a_running_nanoclaw_is_refused() {
    let home = Home::new();
    let old = NanoClaw::lived_in(&home.path("old"));
    let path = old.path().display().to_string();
    let database = old.path().join("store/messages.db");
    // It is idle: no lock says so.
    let open = fs::File::open(&database).expect("it is there");
    let done = home.run(&["import", &path]);
    done.refused(75, &["NanoClaw runs", &std::process::id().to_string(), "stop it"]);
    drop(open);
    import(&home, &old);
}

#[test]
fn h49_h50_links_and_names_of_the_foreign_tree_lead_nowhere() {
    let home = Home::new();
    let old = NanoClaw::lived_in(&home.path("old"));
    fs::write(home.path("secret"), "secret").expect("a file");
    let at = |name: &str| old.path().join(name);
    symlink(home.path("secret"), at("groups/family/link")).expect("a link");
    symlink(home.path("user"), at("groups/family/folder")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("groups/family/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a FIFO");
    old.sql(
        "INSERT INTO registered_groups VALUES
             ('1@g.us', 'Up', '../../etc', '@Andy', '', NULL, 1),
             ('2@g.us', 'Global', 'Global', '@Andy', '', NULL, 1),
             ('3@g.us', 'Case', 'FAMILY', '@Andy', '', NULL, 1),
             ('tg:4', 'Telegram', 'telegram', '@Andy', '', NULL, 1),
             ('local:main', 'Local', 'local', '@Andy', '', NULL, 1);
         UPDATE registered_groups SET name = 'Fam' || char(27) || 'ily' WHERE folder = 'family';",
    );
    let did = import(&home, &old);
    let numbers: Vec<&str> = line(&did, "groups").split_whitespace().skip(1).take(2).collect();
    assert_eq!(["2", "5"], *numbers, "{did}");
    for why in ["`../../etc` is not allowed", "differs from another only in case", "WhatsApp"] {
        assert!(line(&did, "groups").contains(why), "{why}: {did}");
    }
    assert!(line(&did, "files of groups").contains("a symbolic link"), "{did}");
    assert!(line(&did, "files of groups").contains("a FIFO"), "{did}");
    for name in ["link", "folder", "pipe"] {
        let new = home.at("groups/family").join(name);
        assert!(new.symlink_metadata().is_err(), "{name} came over");
    }
    assert_eq!(["Family"], *home.texts("SELECT name FROM groups WHERE is_main = 0"));

    // A link in place of the folders themselves, and of the database.
    for name in ["groups", "store", "store/messages.db", "data/sessions/main"] {
        let home = Home::new();
        let old = NanoClaw::lived_in(&home.path("old"));
        fs::rename(old.path().join(name), home.path("aside")).expect("it is there");
        symlink(home.path("aside"), old.path().join(name)).expect("a link");
        let done = home.run(&["import", &old.path().display().to_string()]);
        done.refused(1, &["symbolic link"]);
        assert!(home.number_if_there("SELECT count(*) FROM messages").is_none_or(|n| n == 0));
    }
}

#[test]
fn a_home_in_their_folder_is_refused_and_their_folder_is_no_home() {
    let home = Home::new();
    let old = NanoClaw::lived_in(&home.path("home"));
    fs::set_permissions(old.path(), PermissionsExt::from_mode(0o700)).expect("it is ours");
    let before = tree(old.path());
    let path = old.path().display().to_string();
    home.run(&["import", &path]).refused(1, &["lies in NanoClaw's own folder", "--home"]);
    assert_eq!(before, tree(old.path()));
    fs::remove_file(old.path().join(".env")).expect("it is there");
    home.run(&["status"]).refused(78, &["is NanoClaw's", "import"]);
    let database = |tree: &[(String, Vec<u8>)]| {
        tree.iter().find(|(name, _)| name.ends_with("messages.db")).cloned()
    };
    assert_eq!(database(&before), database(&tree(old.path())));
}

#[test]
fn cut_short_at_any_point_it_has_happened_or_not() {
    for (place, is_done) in [("import-placed", false), ("import-committed", true)] {
        let home = Home::new();
        let old = NanoClaw::lived_in(&home.path("old"));
        let path = old.path().display().to_string();
        let mut command = home.command(&["import", &path]);
        command.env("RUST_CLAW_CRASH_AT", place);
        let crashed = crate::support::run(command, b"");
        assert_eq!(None, crashed.code, "{place}: {crashed:?}");
        if is_done {
            let daemon = home.start();
            assert_eq!(Some(0), daemon.stop());
        } else {
            import(&home, &old);
        }
        assert!(!home.at("data/moving").exists(), "{place}");
        assert_eq!(8, home.number("SELECT count(*) FROM messages"), "{place}");
        let memory = fs::read_to_string(home.at("groups/main/CLAUDE.md")).expect("it is there");
        assert_eq!("I am main's memory.\n", memory, "{place}");
    }
}

#[test]
fn a_served_home_is_refused_and_what_made_place_is_kept() {
    let home = Home::new();
    let old = NanoClaw::lived_in(&home.path("old"));
    let path = old.path().display().to_string();
    home.write_env("ASSISTANT_NAME=Berta\n");
    let daemon = home.start();
    home.run(&["import", &path]).refused(75, &["in use by process", "stop it first"]);
    assert_eq!(Some(0), daemon.stop());
    fs::write(home.at("groups/main/CLAUDE.md"), "mine").expect("it is ours");
    let did = import(&home, &old);
    assert!(line(&did, "settings").contains("`ASSISTANT_NAME` is set"), "{did}");
    let kept = entries(&home.at("data"));
    let kept = kept.iter().find(|path| path.to_string_lossy().contains("replaced-"));
    let kept = kept.expect("main's folder had to make place");
    assert_eq!("mine", fs::read_to_string(kept.join("groups/main/CLAUDE.md")).expect("kept"));
    let env = fs::read_to_string(home.at(".env")).expect("it is there");
    assert_eq!("ASSISTANT_NAME=Berta\nCLAUDE_CODE_OAUTH_TOKEN='sk-ant-oat01-x'\n", env);
}

#[test]
fn json_files_in_data_are_taken_over_once_at_the_start() {
    let home = Home::new();
    home.register("a");
    let groups = json!({
        MAIN: {"name": "Main", "folder": "main", "trigger": "@Andy", "added_at": at(0)},
        FAMILY: {"name": "Family", "folder": "family", "trigger": "@Andy", "added_at": at(0)},
    });
    let data = |name: &str| home.at(&format!("data/{name}"));
    fs::write(data("registered_groups.json"), groups.to_string()).expect("a file");
    fs::write(data("sessions.json"), "{\"family\":\"s-1\"}").expect("a file");
    fs::write(data("router_state.json"), "{").expect("a file");
    let mut daemon = home.start();
    assert!(daemon.is_alive());
    assert_eq!(Some(0), daemon.stop());
    assert!(home.log().contains("data/router_state.json cannot be used"), "{}", home.log());
    assert_eq!(0, home.number("SELECT count(*) FROM groups WHERE folder = 'family'"));

    fs::write(data("router_state.json"), "{}").expect("a file");
    for _ in 0..2 {
        let daemon = home.start();
        assert_eq!(Some(0), daemon.stop());
        let chats = "SELECT jid FROM group_chats WHERE folder IN ('main', 'family') ORDER BY jid";
        assert_eq!([FAMILY, MAIN, "local:family", "local:main"], *home.texts(chats));
        assert_eq!(["s-1"], *home.texts("SELECT session_id FROM sessions"));
        for name in ["registered_groups.json", "sessions.json", "router_state.json"] {
            assert!(!data(name).exists() && data(&format!("{name}.migrated")).exists(), "{name}");
        }
    }
    assert!(home.at("groups/family/CLAUDE.md").exists());
}
