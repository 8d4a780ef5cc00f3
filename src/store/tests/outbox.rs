use std::time::Duration;

use super::*;
use crate::ids::{ChannelKind, OutboxId};

fn heads(db: &Db, now: UnixMs) -> Vec<OutboxRow> {
    db.store.next_deliveries(ChannelKind::Whatsapp, now, 10).expect("no fault")
}

#[test]
fn h09_the_third_of_five_fails_and_all_arrive_in_order_once() {
    let mut db = Db::new();
    for n in 1..=5 {
        let text = n.to_string();
        db.store.enqueue(&answer(FAMILY, &text, &text), NOW).expect("no fault");
    }
    let (mut delivered, mut now, mut has_failed) = (Vec::new(), NOW, false);
    while let Some(due) = db.store.next_attempt_at(ChannelKind::Whatsapp, now).expect("no fault") {
        now = now.max(due);
        for row in heads(&db, now) {
            if row.text == "3" && !has_failed {
                has_failed = true;
                let later = now.plus(Duration::from_secs(1));
                db.store.mark_attempt_failed(row.id, "offline", later).expect("no fault");
                assert!(heads(&db, now).is_empty(), "what stands behind it waits");
                db = db.restart();
            } else {
                delivered.push(row.text);
                assert!(db.store.mark_sent(row.id, now).expect("no fault"));
                assert!(!db.store.mark_sent(row.id, now).expect("no fault"));
            }
        }
    }
    assert_eq!(vec!["1", "2", "3", "4", "5"], delivered);
    assert_eq!(Vec::<(String, i64)>::new(), db.store.outbox_depth().expect("no fault"));
    let rows = db.store.outbox_after(&chat(FAMILY), OutboxId(2), 10).expect("no fault");
    assert_eq!((1, None), (rows[0].attempt_count, rows[0].error.as_deref()));
}

#[test]
fn a_chat_that_waits_holds_up_itself_alone() {
    let mut db = Db::new();
    for (jid, key) in [(FAMILY, "a"), (FAMILY, "b"), ("2@g.us", "c"), ("local:main", "d")] {
        db.store.enqueue(&answer(jid, key, key), NOW).expect("no fault");
    }
    let later = NOW.plus(Duration::from_secs(5));
    db.store.mark_attempt_failed(heads(&db, NOW)[0].id, "no", later).expect("no fault");
    let due: Vec<_> = heads(&db, NOW).into_iter().map(|row| row.text).collect();
    assert_eq!(vec!["c"], due, "another channel's rows are not ours");
    db.store.mark_failed_for_good(heads(&db, later)[0].id, "no such chat").expect("no fault");
    let due: Vec<_> = heads(&db, NOW).into_iter().map(|row| row.text).collect();
    assert_eq!(vec!["b", "c"], due);
    let depth: i64 = db.store.outbox_depth().expect("no fault").iter().map(|(_, n)| n).sum();
    assert_eq!(3, depth);
}

#[test]
fn ids_on_the_channel_look_like_whatsapps_and_differ() {
    let mut db = Db::new();
    let mut ids = std::collections::BTreeSet::new();
    for n in 0..100 {
        let key = n.to_string();
        db.store.enqueue(&answer(FAMILY, "x", &key), NOW).expect("no fault");
    }
    for row in db.store.outbox_after(&chat(FAMILY), OutboxId(0), 100).expect("no fault") {
        let digits = row.channel_message_id.strip_prefix("3EB0").expect("the prefix").to_owned();
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
        assert!(digits.len() == 18 && digits.bytes().all(is_digit), "{digits}");
        ids.insert(digits);
    }
    assert_eq!(100, ids.len());
    assert_eq!(OutboxId(100), db.store.newest_outbox_id().expect("no fault"));
}

#[test]
fn h69_a_long_text_is_several_messages_of_one_chat_in_order() {
    let mut db = Db::new();
    let text = ["one ".repeat(900), "two ".repeat(900), "three".to_owned()].join("\n\n");
    let first = db.store.enqueue(&answer(FAMILY, &text, "k"), NOW).expect("no fault");
    let rows = db.store.unsent_of_chat(&chat(FAMILY), 10).expect("no fault");
    assert_eq!(first, rows.first().map(|row| row.id));
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    assert_eq!([text.split("\n\n").next().expect("one").trim_end()], texts[..1]);
    assert_eq!(2, texts.len(), "what fits together stays together");
    assert!(texts[1].starts_with("two") && texts[1].ends_with("three"));
    assert_ne!(rows[0].channel_message_id, rows[1].channel_message_id);
    assert_eq!(None, db.store.enqueue(&answer(FAMILY, &text, "k"), NOW).expect("no fault"));
    assert_eq!(2, db.store.unsent_of_chat(&chat(FAMILY), 10).expect("no fault").len());
    db.store.enqueue(&answer("local:main", &text, "l"), NOW).expect("no fault");
    let local = db.store.unsent_of_chat(&chat("local:main"), 10).expect("no fault");
    assert_eq!(vec![text], local.into_iter().map(|row| row.text).collect::<Vec<_>>());
}

#[test]
fn h09_what_a_wrong_clock_put_off_goes_when_the_clock_is_right() {
    let mut db = Db::new();
    let ahead = NOW.plus(Duration::from_hours(8));
    db.store.enqueue(&answer(FAMILY, "one", "a"), ahead).expect("no fault");
    db.store.enqueue(&answer(FAMILY, "two", "b"), NOW).expect("no fault");
    let next = db.store.next_attempt_at(ChannelKind::Whatsapp, NOW).expect("no fault");
    assert_eq!(Some(NOW), next);
    let head = heads(&db, NOW).pop().expect("it is due");
    assert_eq!("one", head.text, "in order");
    // A pause is not longer than it may be.
    let later = NOW.plus(crate::limits::DELIVERY_RETRY_MAX);
    db.store.mark_attempt_failed(head.id, "no", later).expect("no fault");
    assert!(heads(&db, NOW).is_empty());
    let next = db.store.next_attempt_at(ChannelKind::Whatsapp, NOW).expect("no fault");
    assert_eq!(Some(later), next);
    assert_eq!(1, heads(&db, later).len());
}
