use super::*;
use crate::ids::RunId;

/// A run that started at `at` and took `cost` micro-dollars.
fn spend(db: &mut Db, at: i64, task: Option<&str>, cost: i64) -> RunId {
    let run = NewRun {
        folder: folder("family"),
        kind: if task.is_some() { RunKind::Task } else { RunKind::Chat },
        chat: chat(FAMILY),
        task_id: task.map(str::to_owned),
        container_name_prefix: "rust-claw-x".to_owned(),
    };
    let id = db.store.start_run(&run, UnixMs(at)).expect("no fault");
    let usage = Usage { input_tokens: 1, cost_micro_usd: cost, ..Usage::default() };
    let step = RunStep { usage, ..step(None, vec![]) };
    db.store.record(id, &step, UnixMs(at)).expect("no fault");
    id
}

fn sums(db: &Db, by: UsageBy, since: i64) -> Vec<(String, i64, i64)> {
    let rows = db.store.usage(by, UnixMs(since)).expect("no fault");
    rows.into_iter().map(|row| (row.key, row.run_count, row.usage.cost_micro_usd)).collect()
}

#[test]
fn runs_add_up_by_group_by_task_and_by_day_of_the_zone() {
    let mut db = Db::new();
    // Midnight of 2023-11-15 in Kathmandu, which is 5:45 ahead.
    let midnight = 1_699_985_700_000;
    spend(&mut db, midnight - 1, None, 1);
    spend(&mut db, midnight, Some("t1"), 10);
    spend(&mut db, midnight + 86_399_999, Some("t1"), 100);
    spend(&mut db, midnight + 86_400_000, None, 1000);

    let row = |key: &str, runs, cost| (key.to_owned(), runs, cost);
    assert_eq!(vec![row("family", 4, 1111)], sums(&db, UsageBy::Group, 0));
    assert_eq!(vec![row("family", 3, 1110)], sums(&db, UsageBy::Group, midnight));
    assert_eq!(vec![row("t1", 2, 110)], sums(&db, UsageBy::Task, 0));
    let days = UsageBy::Day(chrono_tz::Asia::Kathmandu);
    assert_eq!(
        vec![row("2023-11-14", 1, 1), row("2023-11-15", 2, 110), row("2023-11-16", 1, 1000)],
        sums(&db, days, 0)
    );
}

#[test]
fn what_a_hostile_runner_reports_breaks_no_sum() {
    let mut db = Db::new();
    let run = spend(&mut db, 0, None, 0);
    let lie = rust_claw_protocol::Usage {
        input_tokens: u64::MAX,
        output_tokens: u64::MAX,
        cost_usd: f64::INFINITY,
        ..rust_claw_protocol::Usage::default()
    };
    for _ in 0..20 {
        let step = RunStep { usage: lie.into(), ..step(None, vec![]) };
        db.store.record(run, &step, NOW).expect("bounded");
    }
    let rows = db.store.usage(UsageBy::Group, UnixMs(0)).expect("a sum");
    let million_dollars = 1_000_000_000_000;
    assert_eq!(
        (million_dollars, million_dollars),
        (rows[0].usage.cost_micro_usd, rows[0].usage.input_tokens)
    );
    let nonsense = rust_claw_protocol::Usage { cost_usd: f64::NAN, ..lie };
    assert_eq!(0, Usage::from(nonsense).cost_micro_usd);
}

#[test]
fn a_date_is_looked_up_and_not_scanned_for() {
    let db = Db::new();
    let sql = format!("EXPLAIN QUERY PLAN {}", include_str!("../../../sql/query/usage.sql"));
    let plan: Vec<String> =
        all(&db.store.conn, &sql, rusqlite::named_params! { ":by": "group", ":since": 5 }, |row| {
            row.get("detail")
        })
        .expect("a plan");
    assert!(plan.iter().any(|step| step.contains("runs_by_start")), "{plan:?}");
}
