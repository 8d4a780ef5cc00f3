//! Their runs: claimed once, ended once.

use super::*;

#[test]
fn h38_two_that_look_at_once_claim_each_slot_once() {
    let mut db = Db::new();
    for _ in 0..200 {
        db.task(|_| ());
    }
    let due = NOW.plus(10 * MINUTE);
    let claimed = std::thread::scope(|scope| {
        let lookers: Vec<_> = (0..4)
            .map(|_| {
                let mut store = db.other();
                scope.spawn(move || {
                    let mut claimed = Vec::new();
                    loop {
                        let claims = store.claim_due(ZONE, due, 7).expect("no fault");
                        claimed.extend(claims.claimed.into_iter().map(|claim| claim.task));
                        if !claims.more {
                            return claimed;
                        }
                    }
                })
            })
            .collect();
        let claimed = lookers.into_iter().flat_map(|looker| looker.join().expect("no panic"));
        claimed.collect::<Vec<_>>()
    });
    assert_eq!(200, claimed.len());
    assert_eq!(200, claimed.iter().collect::<std::collections::BTreeSet<_>>().len());
    assert_eq!(200, db.store.waiting_task_runs(TaskRunId(0), 1000).expect("no fault").len());
    assert_eq!(Some(due.plus(10 * MINUTE)), db.store.next_due_at().expect("no fault"));
}

#[test]
fn h38_a_task_that_outlasts_its_period_does_not_overlap_itself() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    let slot = |n: u32| NOW.plus(n * 10 * MINUTE);
    let claim = db.claim(slot(1)).pop().expect("it is due");
    let run = db.begin(&claim, slot(1)).expect("it waits");
    assert_eq!(None, db.begin(&claim, slot(1)), "not begun twice");
    assert!(db.claim(slot(2)).is_empty());
    let refused = db.store.claim_now(&task.id, slot(2));
    assert!(matches!(refused, Err(TaskError::Running { .. })), "{refused:?}");
    let end = TaskEnd { status: TaskRunStatus::Succeeded, result: None, error: None };
    let step = RunStep { task: Some(end), ..step(None, vec![]) };
    db.store.record(run, &step, slot(2)).expect("no fault");
    assert_eq!(1, db.claim(slot(3)).len());
    assert_eq!(vec!["succeeded", "skipped", "running"], db.ran(&task.id));
}

#[test]
fn h39_a_crash_in_mid_run_is_said_and_not_run_again() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    let due = NOW.plus(10 * MINUTE);
    let claim = db.claim(due).pop().expect("it is due");
    db.begin(&claim, due).expect("it waits");
    let mut db = db.restart();
    assert_eq!(vec![("water the plants".to_owned(), "interrupted")], db.left_over(due));
    assert_eq!(vec!["interrupted"], db.said(FAMILY));
    assert!(db.left_over(due).is_empty());
    assert!(db.store.waiting_task_runs(TaskRunId(0), 10).expect("no fault").is_empty());
    assert!(db.claim(due).is_empty());
    assert_eq!(1, db.claim(due.plus(10 * MINUTE)).len(), "the next slot as planned");
    assert_eq!(vec!["interrupted", "running"], db.ran(&task.id));
}

#[test]
fn h39_a_crash_after_the_claim_is_taken_up_and_runs_once() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    let due = NOW.plus(10 * MINUTE);
    let claim = db.claim(due).pop().expect("it is due");
    let mut db = db.restart();
    assert!(db.left_over(due).is_empty() && db.claim(due).is_empty());
    let waiting = db.store.waiting_task_runs(TaskRunId(0), 10).expect("no fault");
    assert_eq!(vec![claim.clone()], waiting);
    assert!(db.store.waiting_task_runs(claim.id, 10).expect("no fault").is_empty());
    let (run, found) = db.store.waiting_task(&task.id).expect("no fault").expect("it waits");
    assert_eq!((claim.id, &task.id), (run.id, &found.id));
    // After the next slot has passed too, that one makes up for both.
    let late = due.plus(15 * MINUTE);
    assert_eq!("skipped", db.left_over(late)[0].1);
    assert_eq!(None, db.begin(&claim, late));
    assert_eq!(1, db.claim(late).len());
    assert_eq!(vec!["skipped", "running"], db.ran(&task.id));
}

#[test]
fn h39_the_answer_and_the_end_of_its_task_are_one_transaction() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    let due = NOW.plus(10 * MINUTE);
    let claim = db.claim(due).pop().expect("it is due");
    let run = db.begin(&claim, due).expect("it waits");
    let end =
        TaskEnd { status: TaskRunStatus::Succeeded, result: Some("done".to_owned()), error: None };
    let step = RunStep { task: Some(end), ..step(None, vec![answer(FAMILY, "done", "k")]) };
    let fault = "CREATE TEMP TRIGGER fault BEFORE UPDATE ON task_runs
                 BEGIN SELECT raise(ABORT, 'fault'); END";
    db.store.conn.execute_batch(fault).expect("a trigger");
    db.store.record(run, &step, due).expect_err("a fault");
    assert_eq!((0, vec!["running"]), (db.said(FAMILY).len(), db.ran(&task.id)));
    db.store.conn.execute_batch("DROP TRIGGER fault").expect("it is there");
    db.store.record(run, &step, due).expect("no fault");
    // Killed before the sandbox ended: done all the same.
    let mut db = db.restart();
    assert!(db.left_over(due).is_empty());
    assert_eq!((vec!["done".to_owned()], vec!["succeeded"]), (db.said(FAMILY), db.ran(&task.id)));
    let run = db.store.task_run(claim.id).expect("no fault").expect("it is there");
    assert_eq!((10, 7), (run.usage.input_tokens, run.usage.cost_micro_usd));
    assert_eq!((Some(due), Some("done")), (run.started_at, run.result.as_deref()));
}

#[test]
fn h40_an_interval_keeps_its_grid_and_a_gap_is_one_run() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    let at = |minutes: u32| NOW.plus(minutes * MINUTE);
    for (now, expected) in [(10, 1), (13, 0), (20, 1), (97, 1), (99, 0), (100, 1)] {
        let claims = db.claim(at(now));
        assert_eq!(expected, claims.len(), "{now}");
        for claim in claims {
            db.end(&claim, TaskRunStatus::Succeeded, at(now + 3));
        }
    }
    assert_eq!(Some(at(110)), db.now(&task.id).next_run);
}

#[test]
fn h42_what_is_paused_or_cancelled_while_it_waits_does_not_run() {
    let due = NOW.plus(10 * MINUTE);
    for how in ["pause", "cancel", "new times"] {
        let mut db = Db::new();
        let task = db.task(|_| ());
        let claim = db.claim(due).pop().expect("it is due");
        match how {
            "pause" => db.store.pause_task(&task.id, due),
            "cancel" => db.store.cancel_task(&task.id, due),
            _ => {
                let schedule = Some(("interval".to_owned(), "1h".to_owned()));
                let change = TaskChange { schedule, ..TaskChange::default() };
                db.store.update_task(&task.id, change, ZONE, due)
            }
        }
        .expect(how);
        assert_eq!(None, db.begin(&claim, due), "{how}");
        assert!(db.store.waiting_task(&task.id).expect("no fault").is_none());
        assert_eq!(vec!["withdrawn"], db.ran(&task.id), "{how}");
        let withdrawn = db.store.withdrawn_since(due).expect("no fault");
        assert_eq!(vec![(folder("family"), task.id.clone())], withdrawn);
        assert!(db.store.alive_runs().expect("no fault").is_empty());
    }
}

#[test]
fn h42_a_withdrawal_that_is_told_late_does_not_hit_a_newer_run() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    let claim = db.store.claim_now(&task.id, NOW).expect("nothing runs");
    assert!(db.store.withdraw_task_run(claim.id, "no time", NOW).expect("no fault"));
    assert!(!db.store.withdraw_task_run(claim.id, "no time", NOW).expect("no fault"));
    db.store.claim_now(&task.id, NOW).expect("nothing runs");
    assert!(db.store.withdrawn_since(NOW).expect("no fault").is_empty());
}

#[test]
fn a_single_run_completes_its_task_when_it_has_ended() {
    let mut db = Db::new();
    let once = |task: &mut NewTask| {
        (task.schedule_kind, task.schedule_value) = ("once".into(), "2023-11-15T00:00".into());
    };
    let task = db.task(once);
    let due = task.next_run.expect("a slot");
    assert!(db.claim(UnixMs(due.0 - 1)).is_empty());
    let claim = db.claim(due).pop().expect("it is due");
    assert_eq!((TaskState::Active, None), (db.now(&task.id).state, db.now(&task.id).next_run));
    db.end(&claim, TaskRunStatus::Failed, due);
    assert_eq!(TaskState::Completed, db.now(&task.id).state);
    assert_eq!(None, db.store.next_due_at().expect("no fault"));
    // By hand it runs again, and with new times it is active again.
    let claim = db.store.claim_now(&task.id, due).expect("nothing runs");
    db.end(&claim, TaskRunStatus::Succeeded, due);
    assert_eq!(TaskState::Completed, db.now(&task.id).state);
    let schedule = Some(("once".to_owned(), "2030-01-31T09:00".to_owned()));
    let change = TaskChange { schedule, ..TaskChange::default() };
    let task = db.store.update_task(&task.id, change, ZONE, due).expect("it is there");
    assert_eq!(TaskState::Active, task.state);
    // Missed for more than a day: never run, and told.
    let late = task.next_run.expect("a slot").plus(25 * HOUR);
    let claims = db.claims(late);
    assert_eq!((0, vec![task.id.clone()]), (claims.claimed.len(), claims.missed));
    assert_eq!(TaskState::Completed, db.now(&task.id).state);
    assert_eq!(vec!["failed", "succeeded", "skipped"], db.ran(&task.id));
    db.store.cancel_task(&task.id, late).expect("it is there");
    assert!(db.store.tasks(None).expect("no fault").0.is_empty());
    let refused = db.store.claim_now(&task.id, late);
    assert!(matches!(refused, Err(TaskError::Ended { .. })), "{refused:?}");
}

#[test]
fn failures_in_a_row_pause_a_task_and_a_success_forgets_them() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    let mut now = NOW;
    let mut fail = |db: &mut Db, count: u32, status| {
        for _ in 0..count {
            now = now.plus(10 * MINUTE);
            let claim = db.claim(now).pop().expect("it is due");
            db.end(&claim, status, now);
        }
        db.now(&task.id)
    };
    assert_eq!(7, fail(&mut db, TASK_FAILURES_MAX - 1, TaskRunStatus::Failed).failure_count);
    assert_eq!(0, fail(&mut db, 1, TaskRunStatus::Skipped).failure_count);
    let paused = fail(&mut db, TASK_FAILURES_MAX, TaskRunStatus::Failed);
    assert_eq!((TaskState::Paused, 8), (paused.state, paused.failure_count));
    assert!(paused.pause_reason.expect("a reason").contains("8 times"));
    let resumed = db.store.resume_task(&paused.id, ZONE, now).expect("it is paused");
    assert_eq!((0, None), (resumed.failure_count, resumed.pause_reason));
}

#[test]
fn a_run_that_nobody_follows_is_failed_with_its_sandbox_and_said() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    let claim = db.store.claim_now(&task.id, NOW).expect("nothing runs");
    db.begin(&claim, NOW).expect("it waits");
    let say = |_: &Task| Some(answer(FAMILY, "it failed", "k"));
    db.store.fail_task(&task.id, "lost", NOW, say).expect("no fault");
    db.store.fail_task(&task.id, "lost", NOW, |_| panic!("it has ended")).expect("no fault");
    assert_eq!((vec!["failed"], vec!["it failed".to_owned()]), (db.ran(&task.id), db.said(FAMILY)));
    assert!(db.store.alive_runs().expect("no fault").is_empty());
    // A sandbox that did not come to be is nobody's failure.
    let claim = db.store.claim_now(&task.id, NOW).expect("nothing runs");
    let run = db.begin(&claim, NOW).expect("it waits");
    let returned = db.store.return_task_run(run, RunState::Failed, None, NOW);
    returned.expect("no fault");
    assert!(db.begin(&claim, NOW).is_some(), "it waits again");
}

/// A week of a program that is stopped, killed and asleep at random, by a clock that is set now and
/// then. At each look exactly the tasks are claimed that owe a run: one for all slots since the last
/// that was seen, none for one that runs. So no slot runs twice, none is left out, none overlaps.
#[test]
fn h38_h39_h40_a_week_of_restarts_jumps_and_gaps() {
    for seed in 1..=12_u64 {
        week(seed);
    }
}

/// Kind and value of a schedule, and whether a second since 1970 is one of its slots.
type SlotsOf<'a> = (&'static str, &'static str, &'a dyn Fn(i64) -> bool);

/// Seconds since 1970.
fn second_of(at: UnixMs) -> i64 {
    at.0.div_euclid(1_000)
}

fn week(seed: u64) {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut db = Db::new();
    // Beside each, the same said once more: whether a second since 1970 is a slot. It is winter, an
    // hour ahead of UTC.
    let since = second_of(NOW);
    let schedules: [SlotsOf<'_>; 4] = [
        ("cron", "*/7 * * * *", &|second| second % 60 == 0 && second / 60 % 60 % 7 == 0),
        ("cron", "30 2 * * *", &|second| second % (24 * 60 * 60) == 90 * 60),
        ("interval", "45m", &|second| (second - since) % (45 * 60) == 0),
        ("interval", "5h", &|second| (second - since) % (300 * 60) == 0),
    ];
    let tasks = schedules.map(|(kind, value, _)| {
        let new = new_task(kind, value);
        db.store.create_task(&new, ZONE, NOW).expect("it is one")
    });
    let mut claimed_at = [NOW; 4];
    let mut owed_count = 0;
    let end = NOW.plus(7 * 24 * HOUR);
    let mut now = NOW;
    let mut running: Vec<(Claim, UnixMs)> = Vec::new();
    while now < end {
        // A look every few seconds to minutes; now and then a sleep, a jump back, a crash.
        now = match next(200) {
            0 => now.plus(HOUR * u32::try_from(1 + next(30)).expect("small")),
            1 => UnixMs(now.0 - 600_000),
            _ => now.plus(Duration::from_secs(1 + next(300))),
        };
        if next(100) == 0 {
            db = db.restart();
            db.left_over(now);
            let waiting = db.store.waiting_task_runs(TaskRunId(0), 100).expect("no fault");
            running = waiting.into_iter().map(|claim| (claim, now)).collect();
        }
        let mut owing = Vec::new();
        for (n, task) in tasks.iter().enumerate() {
            let sql = "SELECT count(*) FROM task_runs WHERE task_id = ? AND status = 'running'";
            let alive: i64 =
                db.store.conn.query_row(sql, [&task.id], |row| row.get(0)).expect("no fault");
            let is_running = alive == 1;
            let (from, to) = (second_of(claimed_at[n]) + 1, second_of(now));
            if (from..=to).any(schedules[n].2) {
                claimed_at[n] = now;
                // A slot that comes while the task runs is passed over.
                owing.extend((!is_running).then(|| task.id.clone()));
            }
        }
        let claims = db.claim(now);
        let mut claimed: Vec<TaskId> = claims.iter().map(|claim| claim.task.clone()).collect();
        owing.sort();
        claimed.sort();
        assert_eq!(owing, claimed, "seed {seed}: at {now}");
        owed_count += owing.len();
        running.extend(claims.into_iter().map(|claim| (claim, now)));
        for (claim, since) in std::mem::take(&mut running) {
            // Some wait, some are killed when they have begun.
            match next(4) {
                0 => running.push((claim, since)),
                1 if next(10) == 0 => assert!(db.begin(&claim, now).is_some()),
                _ => db.end(&claim, TaskRunStatus::Succeeded, now),
            }
        }
    }
    assert!(100 < owed_count, "seed {seed}: {owed_count} runs");
    for task in tasks {
        let schedule =
            Schedule::stored(&task.schedule_kind, &task.schedule_value, ZONE).expect("a schedule");
        let mut runs = db.store.task_history(&task.id, 100_000).expect("no fault");
        runs.reverse();
        let mut slots: Vec<UnixMs> = runs.iter().map(|run| run.planned_for).collect();
        assert!(slots.is_sorted(), "seed {seed}");
        let count = slots.len();
        slots.dedup();
        assert_eq!(count, slots.len(), "seed {seed}: a slot was claimed twice");
        let mut at = NOW;
        let mut all = std::collections::BTreeSet::new();
        while let Some(slot) = schedule.next_after(at, ZONE).filter(|slot| *slot <= now.plus(HOUR))
        {
            all.insert(slot);
            at = slot;
        }
        assert!(slots.iter().all(|slot| all.contains(slot)), "seed {seed}: off the grid");
        runs.retain(|run| run.status != TaskRunStatus::Skipped);
        for pair in runs.windows(2) {
            let ended = pair[0].ended_at.expect("only the last may live");
            // The clock may have been set back in between.
            assert!(ended <= pair[1].claimed_at.plus(10 * MINUTE), "seed {seed}: overlap");
        }
        assert!(3 < count, "seed {seed}: {count} runs of {}", task.schedule_value);
    }
}

#[test]
fn h38_a_slot_that_was_given_back_is_due_again() {
    let mut db = Db::new();
    let once = db.task(|new| {
        (new.schedule_kind, new.schedule_value) =
            ("once".to_owned(), "2030-01-31T09:00".to_owned());
    });
    let due = once.next_run.expect("it has a slot");
    let claim = db.claim(due).pop().expect("it is due");
    assert!(db.store.withdraw_task_run(claim.id, "no sandbox", due).expect("no fault"));
    let task = db.now(&once.id);
    assert_eq!((TaskState::Active, Some(due)), (task.state, task.next_run));
    let claim = db.claim(due.plus(MINUTE)).pop().expect("it is due still");
    db.end(&claim, TaskRunStatus::Succeeded, due);
    assert_eq!(TaskState::Completed, db.now(&once.id).state);
    assert_eq!(vec!["withdrawn", "succeeded"], db.ran(&once.id));
}

#[test]
fn h40_what_was_asked_for_by_hand_gives_no_slot_back() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    let next = task.next_run;
    let claim = db.store.claim_now(&task.id, NOW).expect("it is there");
    assert!(db.store.withdraw_task_run(claim.id, "no sandbox", NOW).expect("no fault"));
    assert_eq!(next, db.now(&task.id).next_run);
}

#[test]
fn h41_a_group_that_goes_takes_its_waiting_tasks_along() {
    let mut db = Db::new();
    let task = db.task(|_| ());
    let due = NOW.plus(10 * MINUTE);
    assert_eq!(1, db.claim(due).len());
    db.store.unregister_group(&folder("family"), due).expect("it is there");
    assert_eq!(vec!["withdrawn"], db.ran(&task.id));
    db.register(&new_group(FAMILY, "family"));
    db.store.pause_task(&task.id, due).expect("it is there");
    db.store.resume_task(&task.id, ZONE, due).expect("its group is there");
    assert_eq!(1, db.claim(due.plus(10 * MINUTE)).len(), "not taken for one that runs");
}
