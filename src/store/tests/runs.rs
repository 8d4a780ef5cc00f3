use super::*;
use crate::ids::RunId;

#[test]
fn h01_a_crash_in_mid_turn_asks_again_and_answers_once() {
    let mut db = Db::new();
    db.accept(&message(FAMILY, "1", "@Andy hi"));
    db.start_run(FAMILY);
    // Before the answer is recorded: still pending.
    let mut db = db.restart();
    let left_over = db.store.interrupt_left_over(NOW).expect("no fault");
    assert_eq!(vec![RunState::Interrupted], left_over.iter().map(|r| r.state).collect::<Vec<_>>());
    assert_eq!(vec![FAMILY], db.pending());
    // After: answered, not asked again.
    let batch = db.batch(FAMILY);
    let run = db.start_run(FAMILY);
    let answered = step(Some((FAMILY, batch.last_seq)), vec![answer(FAMILY, "hello", "k")]);
    db.store.record(run, &answered, NOW).expect("no fault");
    let db = db.restart();
    assert!(db.pending().is_empty() && db.batch(FAMILY).messages.is_empty());
    assert_eq!(vec!["hello"], db.said(FAMILY));
}

#[test]
fn h45_what_was_said_by_tool_and_as_result_is_one_message() {
    let mut db = Db::new();
    let run = db.start_run(FAMILY);
    assert!(db.store.enqueue(&answer(FAMILY, "hello", "k"), NOW).expect("no fault").is_some());
    assert_eq!(None, db.store.enqueue(&answer(FAMILY, "hello", "k"), NOW).expect("no fault"));
    let said = vec![answer(FAMILY, "hello", "k"), answer(FAMILY, "bye", "l")];
    let recorded = db.store.record(run, &step(None, said), NOW).expect("no fault");
    assert_eq!(1, recorded.queued.len());
    assert_eq!(vec!["hello", "bye"], db.said(FAMILY));
}

/// The invariant: whichever statement of a step fails, nothing of the step is there.
#[test]
fn a_failing_statement_leaves_cursor_and_outbox_untouched() {
    for (table, event) in [
        ("group_chats", "UPDATE"),
        ("runs", "UPDATE"),
        ("sessions", "INSERT"),
        ("outbox", "INSERT"),
    ] {
        let mut db = Db::new();
        db.accept(&message(FAMILY, "1", "@Andy hi"));
        let run = db.start_run(FAMILY);
        let before = db.store.alive_runs().expect("no fault");
        // The second row of the outbox, the first of everything else.
        let when = if table == "outbox" { "WHEN new.text = 'two'" } else { "" };
        let fault = format!(
            "CREATE TEMP TRIGGER fault BEFORE {event} ON {table} {when}
             BEGIN SELECT raise(ABORT, 'fault'); END"
        );
        db.store.conn.execute_batch(&fault).expect("a trigger");
        let mut step = step(
            Some((FAMILY, Seq(1))),
            vec![answer(FAMILY, "one", "1"), answer(FAMILY, "two", "2")],
        );
        step.session_id = Some(Some("s".to_owned()));
        db.store.record(run, &step, NOW).expect_err(table);
        db.store.conn.execute_batch("DROP TRIGGER fault").expect("it is there");

        assert_eq!(Some(Seq(0)), db.store.cursor(&chat(FAMILY)).expect("no fault"), "{table}");
        assert!(db.said(FAMILY).is_empty(), "{table}");
        assert_eq!(None, db.store.session(&folder("family")).expect("no fault"), "{table}");
        assert_eq!(before, db.store.alive_runs().expect("no fault"), "{table}");

        db.store.record(run, &step, NOW).expect(table);
        assert_eq!(Some(Seq(1)), db.store.cursor(&chat(FAMILY)).expect("no fault"), "{table}");
        assert_eq!(vec!["one", "two"], db.said(FAMILY), "{table}");
    }
}

#[test]
fn a_run_that_has_ended_records_nothing_more() {
    let mut db = Db::new();
    db.accept(&message(FAMILY, "1", "@Andy hi"));
    let run = db.start_run(FAMILY);
    db.store.end_run(run, RunState::Failed, Some("it broke"), NOW).expect("no fault");
    for run in [run, RunId(99)] {
        let late = step(Some((FAMILY, Seq(1))), vec![answer(FAMILY, "late", "k")]);
        let refused = db.store.record(run, &late, NOW);
        assert!(matches!(refused, Err(Error::RunEnded { .. })), "{refused:?}");
    }
    assert_eq!((vec![FAMILY.to_owned()], 0), (db.pending(), db.said(FAMILY).len()));
    // The first end stands.
    db.store.end_run(run, RunState::Succeeded, None, NOW).expect("no fault");
    let failures = db.store.failures_in_a_row(&chat(FAMILY), 10).expect("no fault");
    let expected = Failures { count: 1, last_at: NOW, error: "it broke".to_owned() };
    assert_eq!(Some(expected), failures);
}

#[test]
fn a_run_adds_up_and_a_cursor_only_moves_forward() {
    let mut db = Db::new();
    for n in 0..3 {
        db.accept(&message(FAMILY, &n.to_string(), "@Andy hi"));
    }
    let run = db.start_run(FAMILY);
    for seq in [2, 1] {
        db.store.record(run, &step(Some((FAMILY, Seq(seq))), vec![]), NOW).expect("no fault");
        assert_eq!(Some(Seq(2)), db.store.cursor(&chat(FAMILY)).expect("no fault"));
    }
    let runs = db.store.alive_runs().expect("no fault");
    assert_eq!((1, RunState::Idle, 2), (runs.len(), runs[0].state, runs[0].turn_count));
    assert_eq!((20, 14), (runs[0].usage.input_tokens, runs[0].usage.cost_micro_usd));
    assert_eq!(format!("rust-claw-x-{run}"), runs[0].container_name);
    assert_eq!(1, db.batch(FAMILY).messages.len());
}

#[test]
fn sessions_are_set_kept_and_cleared_by_steps() {
    let mut db = Db::new();
    let run = db.start_run(FAMILY);
    let session = |db: &Db| db.store.session(&folder("family")).expect("no fault");
    for (change, expected) in [
        (Some(Some("a")), Some("a")),
        (None, Some("a")),
        (Some(Some("b")), Some("b")),
        (Some(None), None),
    ] {
        let mut step = step(None, vec![]);
        step.session_id = change.map(|id| id.map(str::to_owned));
        db.store.record(run, &step, NOW).expect("no fault");
        assert_eq!(expected, session(&db).as_deref());
    }
    db.store.unregister_group(&folder("family"), NOW).expect("it is there");
    let mut late = step(None, vec![]);
    late.session_id = Some(Some("c".to_owned()));
    db.store.record(run, &late, NOW).expect("a group that is gone is no fault");
    assert_eq!(None, session(&db));
}

#[test]
fn what_a_runner_reports_stays_within_bounds() {
    for (cost_usd, expected) in
        [(0.012_345, 12_345), (-1.0, 0), (f64::NAN, 0), (f64::INFINITY, 1_000_000_000_000)]
    {
        let reported = rust_claw_protocol::Usage {
            input_tokens: u64::MAX,
            cost_usd,
            ..rust_claw_protocol::Usage::default()
        };
        let usage = Usage::from(reported);
        assert_eq!((1_000_000_000_000, expected), (usage.input_tokens, usage.cost_micro_usd));
    }
}

#[test]
fn giving_up_leaves_a_letter_and_one_notice() {
    let mut db = Db::new();
    db.accept(&message(FAMILY, "0", "context"));
    let give_up = |db: &mut Db, key: &str| {
        let notice = NewOutbox { kind: OutboxKind::Notice, ..answer(FAMILY, "sorry", key) };
        db.store
            .give_up(&chat(FAMILY), &folder("family"), 6, "it broke", Some(&notice), NOW)
            .expect("no fault")
    };
    assert_eq!(None, give_up(&mut db, "a"), "nobody waits");
    db.accept(&message(FAMILY, "1", "@Andy hi"));
    let id = give_up(&mut db, "b").expect("somebody waits");
    assert_eq!(None, give_up(&mut db, "c"), "not twice");
    assert_eq!(vec!["sorry"], db.said(FAMILY));
    assert!(db.pending().is_empty());
    let letters = db.store.dead_letters().expect("no fault");
    assert_eq!((1, id, Seq(1), Seq(2)), {
        (letters.len(), letters[0].id, letters[0].first_seq, letters[0].last_seq)
    });
    assert!(db.store.drop_dead_letter(id).expect("no fault"));
    assert!(!db.store.drop_dead_letter(id).expect("no fault"));
    assert!(db.restart().store.dead_letters().expect("no fault").is_empty());
}

#[test]
fn a_retried_letter_is_pending_again_in_its_order_and_before_what_follows() {
    let mut db = Db::new();
    db.accept(&message("local:main", "other", "another chat's"));
    for (id, text) in [("1", "context"), ("2", "@Andy one"), ("3", "@Andy two")] {
        db.accept(&message(FAMILY, id, text));
        db.accept(&message("local:family", id, "between"));
    }
    let id = db
        .store
        .give_up(&chat(FAMILY), &folder("family"), 6, "it broke", None, NOW)
        .expect("no fault")
        .expect("somebody waits");
    let seen = db.store.newest_seq().expect("no fault");
    let cursor = db.store.cursor(&chat(FAMILY)).expect("no fault");
    assert!(db.store.retry_dead_letter(id).expect("no fault").is_some());
    assert_eq!(None, db.store.retry_dead_letter(id).expect("no fault"));

    assert_eq!(cursor, db.store.cursor(&chat(FAMILY)).expect("no fault"));
    let (woken, _) = db.store.woken_since(seen, 100).expect("no fault");
    assert_eq!(2, woken.len(), "the poller sees them");
    // Still the same messages; a new one comes after them.
    assert_eq!(Accepted::Duplicate, db.accept(&message(FAMILY, "2", "@Andy one")));
    db.accept(&message(FAMILY, "4", "new"));
    let batch = db.batch(FAMILY);
    let texts: Vec<_> = batch.messages.iter().map(|m| m.text.as_str()).collect();
    assert_eq!(vec!["context", "@Andy one", "@Andy two", "new"], texts);
    assert_eq!(4, db.batch("local:family").messages.len() + 1, "others stay where they are");
}
