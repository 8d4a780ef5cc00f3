use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::*;
use crate::store::{ContainerConfig, NewGroup};

const DAY: Duration = Duration::from_hours(24);

fn write(path: &Path, bytes: usize, age_days: u32, now: UnixMs) {
    fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
    let file = fs::File::create(path).expect("a file");
    file.set_len(bytes as u64).expect("it is ours");
    let at = u64::try_from(before(now, DAY * age_days).0).expect("after 1970");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(at)).expect("it is ours");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it is there");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

struct Bed {
    _folder: tempfile::TempDir,
    home: Home,
    store: Store,
    settings: Settings,
}

impl Bed {
    fn new() -> Bed {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path());
        home.create().expect("it is ours");
        let mut store = Store::open(&home.database()).expect("a database");
        store.ensure_main_group(UnixMs(1)).expect("it is empty");
        home.create_group_folders(&GroupFolder::main(), "Main", "Andy", true).expect("folders");
        let settings = Settings::load(&home, |_| None).expect("defaults");
        Bed { _folder: folder, home, store, settings }
    }

    fn turn(&mut self, now: UnixMs) -> Option<Gone> {
        turn(&self.home, &self.settings, &mut self.store, now, || false).expect("no fault")
    }
}

#[test]
fn h74_old_logs_and_transcripts_go_and_an_active_session_is_safe() {
    let mut bed = Bed::new();
    let now = UnixMs::now();
    let main = GroupFolder::main();
    let logs = bed.home.group_logs(&main);
    write(&logs.join("container-old.log"), 5, 31, now);
    write(&logs.join("container-new.log"), 5, 20, now);
    write(&logs.join("mine.log"), 5, 400, now);
    let project = bed.home.claude_config(&main).join("projects/-workspace-group");
    for (name, age) in [("active", 400), ("old", 91), ("new", 80)] {
        write(&project.join(format!("{name}.jsonl")), 5, age, now);
        write(&project.join(name).join("subagents/a.jsonl"), 5, age, now);
    }
    write(&project.join("memory.md"), 5, 400, now);
    let archive = bed.home.group(&main).join("conversations/2020-01-01.md");
    write(&archive, 5, 400, now);
    rusqlite::Connection::open(bed.home.database())
        .and_then(|database| {
            database.execute("INSERT INTO sessions VALUES ('main', 'active', 1)", [])
        })
        .expect("no fault");

    let expected = Gone { logs: 1, transcripts: 1, rows: 0 };
    assert_eq!(Some(expected), bed.turn(now));
    assert_eq!(["container-new.log", "mine.log"], *names(&logs));
    let left = ["active", "active.jsonl", "memory.md", "new", "new.jsonl"];
    assert_eq!(left, *names(&project));
    assert!(archive.exists(), "the archive is the group's memory");

    write(&logs.join("container-older.log"), 5, 50, now);
    assert_eq!(None, bed.turn(now.plus(DAY / 2)), "once a day");
    assert_eq!(Some(Gone { logs: 1, ..Gone::default() }), bed.turn(now.plus(DAY)));
}

#[test]
fn h74_size_has_a_bound_too_and_the_newest_stay() {
    let mut bed = Bed::new();
    let now = UnixMs::now();
    let logs = bed.home.group_logs(&GroupFolder::main());
    let half = usize::try_from(RUN_LOGS_BYTES_MAX / 2).expect("it fits");
    for age in 1..=4 {
        // Sparse: it takes no room.
        write(&logs.join(format!("container-{age}.log")), half, age, now);
    }
    assert_eq!(Some(Gone { logs: 2, ..Gone::default() }), bed.turn(now));
    assert_eq!(["container-1.log", "container-2.log"], *names(&logs));
}

#[test]
fn h50_h74_links_in_the_sandboxs_tree_lead_nowhere() {
    let mut bed = Bed::new();
    let now = UnixMs::now();
    let outside = tempfile::tempdir().expect("a folder");
    write(&outside.path().join("-p/victim.jsonl"), 5, 400, now);
    let projects = bed.home.claude_config(&GroupFolder::main()).join("projects");
    std::os::unix::fs::symlink(outside.path(), &projects).expect("a link");
    assert_eq!(Some(Gone::default()), bed.turn(now));
    fs::remove_file(&projects).expect("it is a link");
    fs::create_dir(&projects).expect("a folder");
    std::os::unix::fs::symlink(outside.path().join("-p"), projects.join("-p")).expect("a link");
    assert_eq!(Some(Gone::default()), bed.turn(now.plus(DAY)));
    assert_eq!(["victim.jsonl"], *names(&outside.path().join("-p")));
}

#[test]
fn h74_settled_messages_go_only_where_a_setting_says_so_and_others_never() {
    use crate::ids::ChatJid;
    use crate::store::NewMessage;
    let mut bed = Bed::new();
    let now = UnixMs::now();
    let folder = GroupFolder::new("family").expect("a name");
    let chat = ChatJid::new("script:family").expect("a chat");
    let new = NewGroup {
        jid: chat.clone(),
        name: "Family".to_owned(),
        folder,
        trigger_name: None,
        requires_trigger: true,
        is_main: false,
        attach: false,
        config: ContainerConfig::default(),
    };
    bed.store.register_group(&new, UnixMs(1)).expect("nothing is taken");
    let message = |id: &str, age_days: u32| NewMessage {
        chat: chat.clone(),
        id: id.to_owned(),
        sender: "ann".to_owned(),
        sender_alt: None,
        sender_name: "Ann".to_owned(),
        text: format!("bread {id}"),
        sent_at: before(now, DAY * age_days),
        is_from_assistant: false,
        mentions_assistant: false,
        chat_name: None,
        is_group: true,
        history: false,
    };
    let old = before(now, DAY * 100);
    let batch = [message("settled", 100), message("waiting", 100)];
    bed.store.accept(&batch, "Andy", old).expect("no fault");
    bed.store.accept(&[message("young", 1)], "Andy", now).expect("no fault");
    while bed.store.index_messages(100).expect("no fault") != 0 {}
    let first = bed.store.newest_seq().expect("no fault").0 - 2;
    let settle = bed.store.import().expect("no fault");
    settle.settle(&chat, crate::ids::Seq(first)).expect("no fault");
    settle.commit(["test", "1"]).expect("no fault");
    let found = |store: &Store| {
        store.search("bread", None, 10).expect("no fault").expect("there is a word").len()
    };

    assert_eq!(Some(Gone::default()), bed.turn(now), "nobody asked for it");
    assert_eq!(3, found(&bed.store));
    bed.settings.keep_messages = Some(DAY * 30);
    let cut = turn(&bed.home, &bed.settings, &mut bed.store, now.plus(DAY), || true);
    assert_eq!(Some(Gone { rows: 1, ..Gone::default() }), cut.expect("no fault"));
    assert_eq!(Some(Gone::default()), bed.turn(now.plus(DAY)), "it goes on where it was cut");
    assert_eq!(None, bed.turn(now.plus(DAY)));
    assert_eq!(2, found(&bed.store));
    let left = bed.store.unsettled(&chat, None).expect("no fault");
    let left: Vec<&str> = left.messages.iter().map(|message| &*message.id).collect();
    assert_eq!(["waiting", "young"], *left);
    // The index goes on from where it was.
    bed.store.accept(&[message("later", 0)], "Andy", now).expect("no fault");
    while bed.store.index_messages(100).expect("no fault") != 0 {}
    assert_eq!(3, found(&bed.store));
}
