mod runs;

use std::time::Duration;

use chrono_tz::Tz;

use super::*;
use crate::ids::{TaskId, TaskRunId};
use crate::limits::{TASK_CLAIMS_MAX, TASK_FAILURES_MAX};
use crate::schedule::Schedule;

const ZONE: Tz = Tz::Europe__Berlin;
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

impl Db {
    /// A task of group `family` every ten minutes from `NOW` on, changed by `change`.
    fn task(&mut self, change: impl FnOnce(&mut NewTask)) -> Task {
        let mut new = new_task("interval", "10m");
        change(&mut new);
        self.store.create_task(&new, ZONE, NOW).expect("it is one")
    }

    fn claim(&mut self, now: UnixMs) -> Vec<Claim> {
        self.claims(now).claimed
    }

    fn claims(&mut self, now: UnixMs) -> Claims {
        self.store.claim_due(ZONE, now, TASK_CLAIMS_MAX).expect("no fault")
    }

    fn begin(&mut self, claim: &Claim, now: UnixMs) -> Option<crate::ids::RunId> {
        let run = NewRun {
            folder: claim.folder.clone(),
            kind: RunKind::Task,
            chat: claim.chat.clone(),
            task_id: Some(claim.task.to_string()),
            container_name_prefix: "rust-claw-x".to_owned(),
        };
        self.store.start_task_run(claim.id, &run, now).expect("no fault")
    }

    fn end(&mut self, claim: &Claim, status: TaskRunStatus, now: UnixMs) {
        let run = self.begin(claim, now).expect("it waits");
        let state =
            if status == TaskRunStatus::Failed { RunState::Failed } else { RunState::Succeeded };
        let end = TaskEnd { status, result: None, error: None };
        self.store.end_task_run(run, state, &end, None, now).expect("no fault");
    }

    fn now(&self, id: &TaskId) -> Task {
        self.store.task(id.as_str(), None).expect("it is there")
    }

    /// Statuses of a task's runs, oldest first.
    fn ran(&self, id: &TaskId) -> Vec<&'static str> {
        let mut runs = self.store.task_history(id, 1000).expect("no fault");
        runs.reverse();
        runs.into_iter().map(|run| run.status.as_str()).collect()
    }

    fn left_over(&mut self, now: UnixMs) -> Vec<(String, &'static str)> {
        let say = |task: &Task, status: TaskRunStatus| {
            Some(answer(FAMILY, status.as_str(), &format!("{}:{}", task.id, status.as_str())))
        };
        let closed = self.store.close_left_over_tasks(now, say).expect("no fault");
        self.store.interrupt_left_over(now).expect("no fault");
        closed.into_iter().map(|(task, status)| (task.prompt, status.as_str())).collect()
    }
}

fn new_task(kind: &str, value: &str) -> NewTask {
    NewTask {
        folder: folder("family"),
        chat: chat(FAMILY),
        prompt: "water the plants".to_owned(),
        script: None,
        schedule_kind: kind.to_owned(),
        schedule_value: value.to_owned(),
        timezone: None,
        context: ContextMode::default(),
        created_by: "cli".to_owned(),
    }
}

fn refused(change: impl FnOnce(&mut NewTask)) -> String {
    let mut db = Db::new();
    let mut new = new_task("interval", "10m");
    change(&mut new);
    let refused = db.store.create_task(&new, ZONE, NOW).expect_err("it is none").to_string();
    assert!(db.store.tasks(None).expect("no fault").0.is_empty());
    refused
}

#[test]
fn what_cannot_be_used_is_refused_with_its_field() {
    for (text, new) in [
        ("interval `1y`", new_task("interval", "1y")),
        ("minute `61`", new_task("cron", "61 * * * *")),
        ("is past", new_task("once", "2020-01-01T00:00")),
        ("schedule kind", new_task("later", "1h")),
        (
            "timezone `IST-2`",
            NewTask { timezone: Some("IST-2".into()), ..new_task("interval", "1h") },
        ),
        ("prompt: it is empty", NewTask { prompt: " ".into(), ..new_task("interval", "1h") }),
        (
            "script: it is longer",
            NewTask { script: Some("x".repeat(70_000)), ..new_task("interval", "1h") },
        ),
        (
            "no group with folder `nix`",
            NewTask { folder: folder("nix"), ..new_task("interval", "1h") },
        ),
        ("is none of group", NewTask { chat: chat("local:main"), ..new_task("interval", "1h") }),
    ] {
        let shown = refused(|task| *task = new);
        assert!(shown.contains(text), "{shown}");
    }
}

#[test]
fn h44_a_zone_comes_from_the_task_else_its_group_else_the_setting() {
    let mut db = Db::new();
    let at = |db: &mut Db, timezone: Option<&str>| {
        let task = db.task(|task| {
            (task.schedule_kind, task.schedule_value) = ("cron".into(), "0 9 * * *".into());
            task.timezone = timezone.map(str::to_owned);
        });
        let next = chrono::DateTime::from_timestamp_millis(task.next_run.expect("a slot").0);
        let local = next.expect("a time").with_timezone(&task.zone_or(ZONE));
        assert_eq!("09:00", local.format("%H:%M").to_string());
        local.timezone()
    };
    assert_eq!(ZONE, at(&mut db, None));
    let config = ContainerConfig { timezone: Some("Asia/Tokyo".into()), ..Default::default() };
    db.store.set_group_config(&folder("family"), &config).expect("no fault");
    assert_eq!(Tz::Asia__Tokyo, at(&mut db, None));
    assert_eq!(Tz::America__New_York, at(&mut db, Some("America/New_York")));
}

#[test]
fn h46_a_task_is_found_by_a_unique_beginning_and_can_be_changed_at_once() {
    let mut db = Db::new();
    let a = db.task(|_| ());
    let b = db.task(|task| task.prompt = "feed the cat".into());
    db.store.conn.execute_batch("PRAGMA foreign_keys = OFF").expect("no fault");
    db.store.conn.execute("UPDATE tasks SET id = 'abcd' WHERE id = ?", [&a.id]).expect("no fault");
    db.store.conn.execute("UPDATE tasks SET id = 'abce' WHERE id = ?", [&b.id]).expect("no fault");
    let find = |db: &Db, prefix: &str, within: &str| {
        db.store.task(prefix, Some(&folder(within))).map(|task| task.id.to_string())
    };
    assert_eq!("abce", find(&db, "abce", "family").expect("in full"));
    assert!(matches!(find(&db, "abc", "family"), Err(TaskError::Ambiguous { .. })));
    assert!(matches!(find(&db, "abd", "family"), Err(TaskError::NoSuchTask { .. })));
    assert!(matches!(find(&db, "abcd", "main"), Err(TaskError::NoSuchTask { .. })));
    assert!(matches!(find(&db, "", "family"), Err(TaskError::Id(_))));

    let id = TaskId::new("abcd").expect("an id");
    let change = TaskChange {
        prompt: Some("new".into()),
        schedule: Some(("once".into(), "2030-01-31T09:00".into())),
        ..TaskChange::default()
    };
    let task = db.store.update_task(&id, change, ZONE, NOW).expect("it is there");
    assert_eq!(("new", "once"), (task.prompt.as_str(), task.schedule_kind.as_str()));
    assert_eq!(Some(UnixMs(1_896_076_800_000)), task.next_run);
    let listed = db.store.tasks(Some(&folder("family"))).expect("no fault").0;
    assert!(listed.contains(&task) && listed.len() == 2);
    assert!(db.store.tasks(Some(&folder("main"))).expect("no fault").0.is_empty());
}

#[test]
fn h47_isolated_is_the_default_on_both_sides() {
    let mut db = Db::new();
    let sql = "INSERT INTO tasks (id, folder, chat_jid, state, schedule_kind, schedule_value,
                                  created_by, created_at_ms, changed_at_ms, prompt)
               VALUES ('x', 'family', '1@g.us', 'paused', 'interval', '1h', 'cli', 0, 0, 'x')";
    db.store.conn.execute(sql, []).expect("no fault");
    assert_eq!(ContextMode::Isolated, db.now(&TaskId::new("x").expect("an id")).context);
    assert_eq!(ContextMode::Isolated, db.task(|_| ()).context);
}

#[test]
fn h41_a_task_of_a_removed_group_is_paused_with_one_row() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    db.store.unregister_group(&folder("family"), NOW).expect("it is there");
    for n in 1..5 {
        let claims = db.claims(NOW.plus(n * 10 * MINUTE));
        assert!(claims.claimed.is_empty());
        assert_eq!(usize::from(n == 1), claims.paused.len());
    }
    let task = db.now(&task.id);
    assert_eq!(TaskState::Paused, task.state);
    assert!(task.pause_reason.expect("a reason").contains("family"));
    assert_eq!(vec!["failed"], db.ran(&task.id));
    let refused = db.store.resume_task(&task.id, ZONE, NOW);
    assert!(matches!(refused, Err(TaskError::NoSuchGroup { .. })), "{refused:?}");
    let refused = db.store.claim_now(&task.id, NOW);
    assert!(matches!(refused, Err(TaskError::NoSuchGroup { .. })), "{refused:?}");
}

#[test]
fn h43_resuming_waits_for_the_next_slot() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    db.store.pause_task(&task.id, NOW).expect("it is there");
    let later = NOW.plus(34 * MINUTE);
    assert!(db.claim(later).is_empty());
    let resumed = db.store.resume_task(&task.id, ZONE, later).expect("it is paused");
    assert_eq!((TaskState::Active, Some(NOW.plus(40 * MINUTE))), (resumed.state, resumed.next_run));
    assert!(db.claim(later).is_empty());
    let again = db.store.resume_task(&task.id, ZONE, later).expect("it is active");
    assert_eq!(resumed, again);
    // One that is past stays paused, and says why.
    let once = db.task(|task| {
        (task.schedule_kind, task.schedule_value) = ("once".into(), "2023-11-15T00:00".into());
    });
    db.store.pause_task(&once.id, NOW).expect("it is there");
    let refused = db.store.resume_task(&once.id, ZONE, once.next_run.expect("a slot").plus(HOUR));
    assert!(refused.expect_err("it is past").to_string().contains("is past"));
}

#[test]
fn h61_a_corrupt_task_is_paused_and_reported_and_stops_nobody() {
    let mut db = Db::new();
    let (bad, good) = (db.task(|_| ()), db.task(|_| ()));
    let sql = "UPDATE tasks SET folder = '../../etc', next_run_ms = 1 WHERE id = ?";
    db.store.conn.execute(sql, [&bad.id]).expect("no fault");
    let third = db.task(|_| ());
    let sql = "UPDATE tasks SET schedule_value = 'never' WHERE id = ?";
    db.store.conn.execute(sql, [&third.id]).expect("no fault");
    let claims = db.claims(NOW.plus(10 * MINUTE));
    assert_eq!(
        vec![good.id],
        claims.claimed.into_iter().map(|claim| claim.task).collect::<Vec<_>>()
    );
    assert_eq!(2, claims.paused.len());
    assert!(db.claims(NOW.plus(10 * MINUTE)).paused.is_empty());
    let (tasks, corrupt) = db.store.tasks(None).expect("no fault");
    assert_eq!((2, 1), (tasks.len(), corrupt.len()));
}

#[test]
fn long_texts_of_a_groups_tasks_are_bounded_together() {
    let mut db = Db::new();
    let long = "x".repeat(crate::limits::TASK_TEXT_BYTES_MAX);
    for _ in 0..64 {
        db.task(|new| new.prompt.clone_from(&long));
    }
    let mut new = new_task("interval", "10m");
    new.prompt.clone_from(&long);
    let refused = db.store.create_task(&new, ZONE, NOW);
    assert!(matches!(refused, Err(TaskError::TooMuchText { .. })), "{refused:?}");
    // A short one has room still, and cannot become long.
    let short = db.task(|_| ());
    let change = TaskChange { prompt: Some(long), ..TaskChange::default() };
    let refused = db.store.update_task(&short.id, change, ZONE, NOW);
    assert!(matches!(refused, Err(TaskError::TooMuchText { .. })), "{refused:?}");
    let outlines = db.store.task_outlines(None, 500).expect("no fault");
    assert_eq!(65, outlines.len());
    assert!(outlines.iter().all(|task| task.prompt.len() <= 1000));
}
