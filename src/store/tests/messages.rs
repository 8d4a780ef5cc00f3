use rusqlite::StatementStatus;

use super::*;
use crate::limits::{MESSAGE_BYTES_MAX, PROMPT_BYTES_MAX, PROMPT_MESSAGES_MAX};

fn texts(batch: &Batch) -> Vec<&str> {
    batch.messages.iter().map(|message| message.text.as_str()).collect()
}

#[test]
fn h02_a_second_message_in_the_same_instant_is_seen() {
    let mut db = Db::new();
    db.accept(&message(FAMILY, "1", "@Andy one"));
    let first = db.batch(FAMILY);
    let run = db.start_run(FAMILY);
    let settled = step(Some((FAMILY, first.last_seq)), vec![]);
    db.store.record(run, &settled, NOW).expect("no fault");
    db.accept(&message(FAMILY, "2", "@Andy two"));
    assert_eq!(vec!["@Andy two"], texts(&db.batch(FAMILY)));
    assert_eq!(vec![FAMILY], db.pending());
}

#[test]
fn h03_a_late_message_with_an_older_time_is_answered_once() {
    let mut db = Db::new();
    let run = db.start_run(FAMILY);
    for (id, sent_at) in [("100", 100), ("95", 95)] {
        let mut late = message(FAMILY, id, &format!("@Andy {id}"));
        late.sent_at = UnixMs(sent_at);
        db.accept(&late);
        let batch = db.batch(FAMILY);
        assert_eq!(vec![late.text.as_str()], texts(&batch));
        let said = vec![answer(FAMILY, id, id)];
        db.store.record(run, &step(Some((FAMILY, batch.last_seq)), said), NOW).expect("no fault");
    }
    assert_eq!(vec!["100", "95"], db.said(FAMILY));
    assert!(db.pending().is_empty());
}

#[test]
fn h13_history_is_context_and_never_work() {
    let mut db = Db::new();
    let history: Vec<_> = (0..500)
        .map(|n| NewMessage { history: true, ..message(FAMILY, &n.to_string(), "@Andy do it") })
        .collect();
    let accepted = db.store.accept(&history, "Andy", NOW).expect("no fault");
    assert!(accepted.iter().all(|a| matches!(a, Accepted::New { wakes: false, .. })));
    assert!(db.pending().is_empty());
    assert!(db.store.woken_since(Seq(0), 1000).expect("no fault").0.is_empty());
    // Handed in once more it wakes nobody either.
    assert_eq!(Accepted::Duplicate, db.accept(&message(FAMILY, "7", "@Andy do it")));
    // What was missed while offline is no history.
    db.accept(&message(FAMILY, "missed", "@Andy are you there?"));
    assert_eq!(vec![FAMILY], db.pending());
}

#[test]
fn h14_the_newest_messages_with_the_trigger_always_among_them() {
    let mut db = Db::new();
    db.accept(&message(FAMILY, "old", "much older"));
    db.accept(&message(FAMILY, "trigger", "@Andy please"));
    let context: Vec<_> =
        (0..300).map(|n| message(FAMILY, &n.to_string(), &format!("context {n}"))).collect();
    db.store.accept(&context, "Andy", NOW).expect("no fault");
    let batch = db.batch(FAMILY);
    assert_eq!(PROMPT_MESSAGES_MAX + 1, batch.messages.len());
    assert_eq!("@Andy please", batch.messages[0].text);
    assert_eq!("context 100", batch.messages[1].text);
    assert_eq!(Some("context 299"), batch.messages.last().map(|m| m.text.as_str()));
    assert_eq!(302 - PROMPT_MESSAGES_MAX - 1, batch.left_out);
    assert_eq!(db.store.newest_seq().expect("no fault"), batch.last_seq);
}

#[test]
fn h14_long_messages_end_the_batch_early() {
    let mut db = Db::new();
    let long = "x".repeat(MESSAGE_BYTES_MAX);
    let messages: Vec<_> = (0..10).map(|n| message(FAMILY, &n.to_string(), &long)).collect();
    db.store.accept(&messages, "Andy", NOW).expect("no fault");
    let batch = db.batch(FAMILY);
    assert_eq!(PROMPT_BYTES_MAX / MESSAGE_BYTES_MAX + 1, batch.messages.len());
    assert_eq!(10, batch.messages.len() + batch.left_out);
}

#[test]
fn a_too_long_text_is_cut_between_characters() {
    let mut db = Db::new();
    db.accept(&message(FAMILY, "1", &format!("x{}", "é".repeat(MESSAGE_BYTES_MAX))));
    assert_eq!(MESSAGE_BYTES_MAX - 1, db.batch(FAMILY).messages[0].text.len());
}

#[test]
fn h15_own_messages_are_known_by_flag_and_id_never_by_text() {
    let mut db = Db::new();
    // A user who writes like the assistant is a user.
    assert!(!db.wakes(|m| m.text = "Andy: hello".into()));
    assert!(db.wakes(|m| m.text = "@Andy: hello".into()));
    assert!(!db.wakes(|m| m.is_from_assistant = true));
    // The echo of what is in the outbox, whatever the channel says about it.
    db.store.enqueue(&answer(FAMILY, "@Andy hi", "k"), NOW).expect("no fault");
    let rows = db.store.outbox_after(&chat(FAMILY), crate::ids::OutboxId(0), 1).expect("no fault");
    let echo = rows[0].channel_message_id.clone();
    assert!(!db.wakes(|m| m.id = echo));
    assert!(db.wakes(|m| m.id = "3EB0000000000000000000".into()), "another's id of that form");
    // Own messages are no context either: the session knows them.
    let batch = db.batch(FAMILY);
    assert_eq!(vec!["Andy: hello", "@Andy: hello", "@Andy hi"], texts(&batch));
    // Neither `_` nor `%` stands for anything else.
    for (n, name) in ["A_dy", "A%", "%", "_"].into_iter().enumerate() {
        let jid = format!("script:{n}");
        let group = new_group(&jid, &format!("g{n}"));
        db.register(&NewGroup { trigger_name: Some(name.to_owned()), ..group });
        assert!(!db.wakes(|m| m.chat = chat(&jid)), "{name}");
    }
}

#[test]
fn h17_empty_messages_are_no_work() {
    let mut db = Db::new();
    for text in ["", " ", "\n\t\u{a0}\u{2003}"] {
        assert_eq!(Accepted::Empty, db.accept(&message("local:main", text, text)));
    }
    assert_eq!(Seq(0), db.store.newest_seq().expect("no fault"));
    assert!(db.pending().is_empty());
}

#[test]
fn h19_each_message_of_a_batch_stands_alone() {
    let mut db = Db::new();
    let long = "x".repeat(256);
    let ids = ["a", "", "b", &long, "\0c", "a", "d"];
    let batch: Vec<_> = ids.iter().map(|id| message(FAMILY, id, "@Andy hi")).collect();
    let accepted = db.store.accept(&batch, "Andy", NOW).expect("no fault");
    let seqs: Vec<_> = accepted
        .iter()
        .map(|accepted| match accepted {
            Accepted::New { seq, wakes: true } => Ok(*seq),
            other => Err(*other),
        })
        .collect();
    let new: Vec<_> = seqs.iter().flatten().collect();
    assert!(new.is_sorted() && new.len() == 3, "{seqs:?}");
    let refused: Vec<_> = seqs.iter().filter_map(|seq| seq.err()).collect();
    let malformed = Accepted::Malformed;
    assert_eq!(vec![malformed, malformed, malformed, Accepted::Duplicate], refused);
    assert_eq!(3, db.batch(FAMILY).messages.len());
}

#[test]
fn chats_of_no_group_leave_no_text() {
    let mut db = Db::new();
    let mut stranger = message("5@s.whatsapp.net", "1", "@Andy secret");
    stranger.chat_name = Some("Stranger".to_owned());
    assert_eq!(Accepted::NotRegistered, db.accept(&stranger));
    assert_eq!(Seq(0), db.store.newest_seq().expect("no fault"));
    let chats = db.store.all_chats().expect("no fault");
    assert_eq!(Some("Stranger"), chats[0].name.as_deref());
    assert_eq!((Some(NOW), None), (chats[0].last_message_at, chats[0].folder.clone()));
}

#[test]
fn a_chats_name_and_activity_follow() {
    let mut db = Db::new();
    for (id, name, at, expected) in [
        ("1", Some("a"), 0, (Some("a"), 0)),
        ("2", None, 59_999, (Some("a"), 0)),
        ("3", Some("b"), 59_999, (Some("b"), 59_999)),
        ("4", None, 200_000, (Some("b"), 200_000)),
        ("5", None, 1, (Some("b"), 200_000)),
    ] {
        let mut message = message("9@lid", id, "x");
        message.chat_name = name.map(str::to_owned);
        message.sent_at = UnixMs(at);
        db.accept(&message);
        let chats = db.store.all_chats().expect("no fault");
        let found = chats.iter().find(|c| c.jid.as_str() == "9@lid").expect("noted");
        let at = found.last_message_at.map(|at| at.0);
        assert_eq!((expected.0, Some(expected.1)), (found.name.as_deref(), at), "{id}");
    }
}

#[test]
fn who_wakes_the_assistant() {
    let mut db = Db::new();
    assert!(db.wakes(|_| ()));
    assert!(!db.wakes(|m| m.text = "hi".into()));
    assert!(db.wakes(|m| {
        m.text = "hi".into();
        m.mentions_assistant = true;
    }));
    assert!(db.wakes(|m| {
        m.text = "hi".into();
        m.chat = chat("local:main");
    }));
    // At the terminal no trigger is needed.
    assert!(db.wakes(|m| {
        m.text = "hi".into();
        m.chat = chat("local:family");
    }));
}

#[test]
fn h71_a_groups_own_trigger_counts_in_any_script() {
    let mut db = Db::new();
    for (n, trigger) in ["José", "小助手", "@Bob"].into_iter().enumerate() {
        let jid = format!("script:{n}");
        let mut group = new_group(&jid, &format!("g{n}"));
        group.trigger_name = Some(trigger.to_owned());
        db.register(&group);
        let name = trigger.trim_start_matches('@');
        for (text, expected) in
            [(format!("@{name} hi"), true), ("@Andy hi".to_owned(), false), (name.into(), false)]
        {
            let wakes = db.wakes(|m| {
                m.chat = chat(&jid);
                m.text.clone_from(&text);
            });
            assert_eq!(expected, wakes, "{trigger}: {text}");
        }
    }
}

#[test]
fn h59_only_allowed_senders_trigger() {
    let mut db = Db::new();
    for (others, expected) in [
        (OtherSenders::Context, Accepted::New { seq: Seq(2), wakes: false }),
        (OtherSenders::Drop, Accepted::SenderDropped),
    ] {
        let senders = Senders { allow: vec!["49".to_owned()], others };
        let config = ContainerConfig { senders: Some(senders), ..ContainerConfig::default() };
        db.store.set_group_config(&folder("family"), &config).expect("it is there");
        assert!(db.wakes(|_| ()));
        let mut stranger = message(FAMILY, &format!("{others:?}"), "@Andy hi");
        stranger.sender = "50@s.whatsapp.net".to_owned();
        assert_eq!(expected, db.accept(&stranger));
        // By either of a person's addresses.
        let mut known = message(FAMILY, &format!("alt {others:?}"), "@Andy hi");
        known.sender = "77@lid".to_owned();
        known.sender_alt = Some("49@s.whatsapp.net".to_owned());
        assert!(matches!(db.accept(&known), Accepted::New { wakes: true, .. }));
        // Whoever sits at the host's terminal rules over the list.
        let mut local = message("local:family", &format!("{others:?}"), "@Andy hi");
        local.sender = "root".to_owned();
        assert!(matches!(db.accept(&local), Accepted::New { wakes: true, .. }));
    }
}

#[test]
fn news_come_in_pages_and_only_what_waits() {
    let mut db = Db::new();
    for n in 0..10 {
        let text = if n % 3 == 0 { "@Andy" } else { "-" };
        db.accept(&message(FAMILY, &n.to_string(), text));
    }
    let mut seen = Seq(0);
    let mut found = Vec::new();
    loop {
        let (woken, scanned) = db.store.woken_since(seen, 4).expect("no fault");
        if scanned == seen {
            break;
        }
        found.extend(woken.iter().map(|(seq, _, _)| seq.0));
        seen = scanned;
    }
    assert_eq!((vec![1, 4, 7, 10], Seq(10)), (found, seen));
    assert!(db.store.has_waking_after(&chat(FAMILY), Seq(9)).expect("no fault"));
    assert!(!db.store.has_waking_after(&chat(FAMILY), Seq(10)).expect("no fault"));

    assert!(db.store.withdraw(&chat(FAMILY), Seq(10)).expect("no fault"));
    assert!(!db.store.withdraw(&chat(FAMILY), Seq(10)).expect("no fault"));
    let run = db.start_run(FAMILY);
    db.store.record(run, &step(Some((FAMILY, Seq(4))), vec![]), NOW).expect("no fault");
    let (woken, _) = db.store.woken_since(Seq(0), 100).expect("no fault");
    assert_eq!(vec![7], woken.iter().map(|(seq, _, _)| seq.0).collect::<Vec<_>>());
}

#[test]
fn longest_waiting_chat_comes_first() {
    let mut db = Db::new();
    db.accept(&message(FAMILY, "1", "@Andy"));
    db.accept(&message("local:main", "1", "hi"));
    db.accept(&message(FAMILY, "2", "@Andy"));
    assert_eq!(vec![FAMILY, "local:main"], db.pending());
}

#[test]
fn another_connections_commit_shows_in_the_data_version() {
    let mut db = Db::new();
    let other = db.other();
    let before = other.data_version().expect("no fault");
    assert_eq!(before, other.data_version().expect("no fault"));
    db.accept(&message(FAMILY, "1", "hi"));
    assert_ne!(before, other.data_version().expect("no fault"));
}

#[test]
fn state_outlives_the_program() {
    let mut db = Db::new();
    assert_eq!(None, db.store.get_state("k").expect("no fault"));
    db.store.set_state("k", "1").expect("no fault");
    db.store.set_state("k", "2").expect("no fault");
    assert_eq!(Some("2"), db.restart().store.get_state("k").expect("no fault").as_deref());
}

/// A plan made anew for each message halves the rate.
#[test]
fn statements_are_planned_once() {
    let mut db = Db::new();
    for n in 0..10 {
        db.accept(&message(if n % 2 == 0 { FAMILY } else { "local:main" }, &n.to_string(), "hi"));
        db.batch(FAMILY);
        db.pending();
    }
    for sql in [
        include_str!("../../../sql/query/chat_policy.sql"),
        include_str!("../../../sql/query/insert_message.sql"),
        include_str!("../../../sql/query/pending_chats.sql"),
        include_str!("../../../sql/query/unsettled.sql"),
    ] {
        let statement = db.store.conn.prepare_cached(sql).expect("no fault");
        assert!(0 < statement.get_status(StatementStatus::Run), "it was cached: {sql}");
        assert_eq!(0, statement.get_status(StatementStatus::RePrepare), "{sql}");
    }
}
