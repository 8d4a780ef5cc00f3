//! Moving in with a long history, and a look at it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::bed::{Bed, Place};
use crate::table::{Row, Times, row};
use crate::{Extent, Outcome};

const GROUPS: usize = 100;
const TASKS: usize = 100;

/// As `NanoClaw` of February 2026 has them, as far as it matters here.
const SCHEMA: &str = "
    CREATE TABLE chats (jid TEXT PRIMARY KEY, name TEXT, last_message_time TEXT);
    CREATE TABLE messages (id TEXT, chat_jid TEXT, sender TEXT, sender_name TEXT, content TEXT,
        timestamp TEXT, is_from_me INTEGER, is_bot_message INTEGER DEFAULT 0,
        PRIMARY KEY (id, chat_jid));
    CREATE INDEX idx_timestamp ON messages(timestamp);
    CREATE TABLE scheduled_tasks (id TEXT PRIMARY KEY, group_folder TEXT, chat_jid TEXT,
        prompt TEXT, schedule_type TEXT, schedule_value TEXT, next_run TEXT, status TEXT,
        created_at TEXT);
    CREATE TABLE router_state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE registered_groups (jid TEXT PRIMARY KEY, name TEXT, folder TEXT,
        trigger_pattern TEXT, added_at TEXT, container_config TEXT, requires_trigger INTEGER);";

pub(crate) fn measure(extent: Extent) -> Outcome<()> {
    let bed = Bed::new(Place::Disk, 0)?;
    let root = bed.home.root().with_file_name("nanoclaw");
    let count = extent.count(1_000_000);
    make(&root, count)?;
    let home = bed.home.root().with_file_name("moved");
    let begun = Instant::now();
    let mut import = command(&home, &["import", &root.display().to_string()]).spawn()?;
    let peak_kib = peak_until_end(&mut import)?;
    row(&Row {
        what: &format!("import of {count} messages, {GROUPS} groups, disk; peak RSS"),
        measured: format!("{:.1} s; {} MB", begun.elapsed().as_secs_f64(), peak_kib / 1000),
        must: "≤ 60 s; ≤ 100 MB",
        reference: "–",
    })?;
    for args in [&["status"][..], &["list-groups"], &["list-tasks"]] {
        let mut times = Vec::new();
        for _ in 0..extent.count(100) {
            let begun = Instant::now();
            let status = command(&home, args).status()?;
            times.push(begun.elapsed());
            if !status.success() {
                return Err(format!("{args:?} failed").into());
            }
        }
        row(&Row {
            what: &format!("`{}`, {count} stored messages, p50 / p95", args[0]),
            measured: Times::new(times).both(),
            must: "≤ 20 ms",
            reference: "–",
        })?;
    }
    Ok(())
}

fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(crate::programs().join("rust-claw"));
    command.arg("--home").arg(home).args(args).env_clear().env("TZ", "UTC");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The most memory that a process had, until it has ended well.
fn peak_until_end(child: &mut Child) -> Outcome<u64> {
    let path = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    loop {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak_kib = peak_kib.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            return if status.success() { Ok(peak_kib) } else { Err("the import failed".into()) };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A `NanoClaw` with so many messages, all answered.
fn make(root: &Path, count: usize) -> Outcome<()> {
    std::fs::create_dir_all(root.join("store"))?;
    let mut database = Connection::open(root.join("store/messages.db"))?;
    database.execute_batch(SCHEMA)?;
    let tx = database.transaction()?;
    let mut answered = serde_json::Map::new();
    for number in 0..GROUPS {
        let (jid, folder) = (format!("{number}@g.us"), format!("g{number}"));
        tx.execute(
            "INSERT INTO registered_groups VALUES (?1, ?2, ?2, '@Andy', '', NULL, 1)",
            [&jid, &folder],
        )?;
        tx.execute("INSERT INTO chats VALUES (?, ?, NULL)", [&jid, &folder])?;
        answered.insert(jid, "2099-01-01T00:00:00.000Z".into());
    }
    for number in 0..TASKS {
        let group = number % GROUPS;
        tx.execute(
            "INSERT INTO scheduled_tasks VALUES (?, ?, ?, 'look', 'cron', '0 9 * * *',
                 '2099-01-01T09:00:00.000Z', 'active', '2026-02-19T10:00:00.000Z')",
            [format!("task-{number}"), format!("g{group}"), format!("{group}@g.us")],
        )?;
    }
    tx.execute(
        "INSERT INTO router_state VALUES ('last_agent_timestamp', ?)",
        [serde_json::Value::from(answered).to_string()],
    )?;
    {
        let sql = "INSERT INTO messages VALUES (?, ?, '49151@s.whatsapp.net', 'Ann', ?, ?, 0, 0)";
        let mut insert = tx.prepare(sql)?;
        let text = "what about lunch tomorrow, twelve at the usual place?";
        for number in 0..count {
            // In no order, as theirs are.
            let id = format!("3EB0{:016X}", (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let at = chrono::DateTime::from_timestamp(1_700_000_000 + i64::try_from(number)?, 0)
                .unwrap_or_default();
            let at = at.format("%Y-%m-%dT%H:%M:%S.000Z").to_string();
            insert.execute([&id, &format!("{}@g.us", number % GROUPS), text, &at])?;
        }
    }
    tx.commit()?;
    Ok(())
}
