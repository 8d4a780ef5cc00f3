//! Any history of arrivals, answers, failures and crashes against what a person expects.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Somebody says something, with or without the trigger.
    Say(bool),
    /// The same message is handed in again.
    SayAgain(usize),
    /// A run answers the first `n` of what is unsettled.
    Answer(usize),
    /// A run's answer fails in the middle.
    Fail,
    GiveUp,
    Retry,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => any::<bool>().prop_map(Op::Say),
        1 => any::<usize>().prop_map(Op::SayAgain),
        2 => (1_usize..4).prop_map(Op::Answer),
        1 => Just(Op::Fail),
        1 => Just(Op::GiveUp),
        1 => Just(Op::Retry),
        1 => Just(Op::Crash),
    ]
}

/// Ids of messages that ask for an answer, by what became of them.
#[derive(Default)]
struct Expected {
    said: Vec<String>,
    waiting: BTreeSet<String>,
    answered: usize,
    dead: Vec<(i64, BTreeSet<String>)>,
}

fn perform(mut db: Db, expected: &mut Expected, op: Op) -> Db {
    match op {
        Op::Say(asks) => {
            let id = format!("{:03}", expected.said.len());
            let text = if asks { "@Andy hi" } else { "hi" };
            let accepted = db.accept(&message(FAMILY, &id, text));
            assert!(matches!(accepted, Accepted::New { wakes, .. } if wakes == asks));
            if asks {
                expected.waiting.insert(id.clone());
            }
            expected.said.push(id);
        }
        Op::SayAgain(n) if !expected.said.is_empty() => {
            let id = &expected.said[n % expected.said.len()];
            assert_eq!(Accepted::Duplicate, db.accept(&message(FAMILY, id, "@Andy hi")));
        }
        Op::Answer(count) => {
            let batch = db.batch(FAMILY);
            let Some(last) = batch.messages.iter().take(count).next_back() else { return db };
            let run = db.start_run(FAMILY);
            let key = format!("run-{run}");
            let settled = step(Some((FAMILY, last.seq)), vec![answer(FAMILY, &key, &key)]);
            db.store.record(run, &settled, NOW).expect("no fault");
            for message in batch.messages.iter().take(count) {
                expected.waiting.remove(&message.id);
            }
            expected.answered += 1;
        }
        Op::Fail => {
            let run = db.start_run(FAMILY);
            db.store.end_run(run, RunState::Failed, None, NOW).expect("no fault");
            let late = step(Some((FAMILY, Seq(i64::MAX))), vec![answer(FAMILY, "late", "late")]);
            db.store.record(run, &late, NOW).expect_err("the run has ended");
        }
        Op::GiveUp => {
            let given_up = db.store.give_up(&chat(FAMILY), &folder("family"), 6, "x", None, NOW);
            let given_up = given_up.expect("no fault");
            assert_eq!(given_up.is_some(), !expected.waiting.is_empty());
            expected.dead.extend(given_up.map(|id| (id, std::mem::take(&mut expected.waiting))));
        }
        Op::Retry if !expected.dead.is_empty() => {
            let (id, ids) = expected.dead.remove(0);
            db.store.retry_dead_letter(id).expect("no fault").expect("it is open");
            expected.waiting.extend(ids);
        }
        Op::Crash => db = db.restart(),
        Op::SayAgain(_) | Op::Retry => (),
    }
    db
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_history_loses_or_repeats_a_message(ops in prop::collection::vec(op(), 0..40)) {
        let mut db = Db::new();
        let mut expected = Expected::default();
        for op in ops {
            let before = (db.store.cursor(&chat(FAMILY)), db.store.newest_seq());
            db = perform(db, &mut expected, op);
            let after = (db.store.cursor(&chat(FAMILY)), db.store.newest_seq());
            prop_assert!(before.0.expect("no fault") <= after.0.expect("no fault"));
            prop_assert!(before.1.expect("no fault") <= after.1.expect("no fault"));

            let batch = db.batch(FAMILY);
            let waiting: BTreeSet<_> =
                batch.messages.iter().filter(|m| m.wakes).map(|m| m.id.clone()).collect();
            prop_assert_eq!(&expected.waiting, &waiting);
            prop_assert_eq!(!waiting.is_empty(), db.pending().contains(&FAMILY.to_owned()));
            prop_assert_eq!(expected.answered, db.said(FAMILY).len());
        }
    }
}
