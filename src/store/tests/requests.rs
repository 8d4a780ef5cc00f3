use super::*;
use crate::ids::OutboxId;

fn tool(jid: &str, text: &str, key: &str) -> ToolMessage {
    ToolMessage {
        jid: chat(jid),
        text: text.to_owned(),
        dedupe_key: key.to_owned(),
        may_echo: false,
    }
}

impl Db {
    fn say(&mut self, message: ToolMessage) -> Queued {
        self.store.enqueue_tool(&folder("family"), &[message], NOW).expect("no fault")[0]
    }

    /// Ends a turn of the run with this answer.
    fn answer(&mut self, run: crate::ids::RunId, text: &str, key: &str) {
        let step = step(None, vec![answer(FAMILY, text, key)]);
        self.store.record(run, &step, NOW).expect("it lives");
    }
}

#[test]
fn h45_what_a_tool_said_in_this_turn_is_not_said_again_at_its_end() {
    let mut db = Db::new();
    let run = db.start_run(FAMILY);
    db.say(tool(FAMILY, "same", "t1"));
    db.answer(run, "same", "a1");
    assert_eq!(vec!["same"], db.said(FAMILY));
    // Each turn for itself: nothing of the last one counts in the next.
    db.answer(run, "same", "a2");
    assert_eq!(vec!["same", "same"], db.said(FAMILY));
    // Another text, another chat, a notice: no echoes.
    db.say(tool(FAMILY, "first", "t2"));
    db.say(tool("local:family", "second", "t3"));
    db.answer(run, "second", "a3");
    assert_eq!(vec!["same", "same", "first", "second"], db.said(FAMILY));
    db.say(tool(FAMILY, "warning", "t4"));
    let notice = NewOutbox { kind: OutboxKind::Notice, ..answer(FAMILY, "warning", "n1") };
    db.store.record(run, &step(None, vec![notice]), NOW).expect("it lives");
    assert_eq!(6, db.said(FAMILY).len());
}

#[test]
fn h45_a_partial_answer_is_an_echo_too_and_another_run_is_not() {
    let mut db = Db::new();
    let run = db.start_run(FAMILY);
    db.say(tool(FAMILY, "same", "t1"));
    let part = RunStep { turns: 0, ..step(None, vec![answer(FAMILY, "same", "a1")]) };
    db.store.record(run, &part, NOW).expect("it lives");
    db.answer(run, "same", "a2");
    assert_eq!(vec!["same"], db.said(FAMILY));
    db.store.end_run(run, RunState::Succeeded, None, NOW).expect("no fault");
    let next = db.start_run(FAMILY);
    db.answer(next, "same", "a3");
    assert_eq!(vec!["same", "same"], db.said(FAMILY));
}

#[test]
fn h45_a_tool_that_does_not_wait_may_come_after_the_answer() {
    let mut db = Db::new();
    let run = db.start_run(FAMILY);
    db.answer(run, "same", "a1");
    let late = ToolMessage { may_echo: true, ..tool(FAMILY, "same", "t1") };
    assert_eq!(Queued::Echo(OutboxId(1)), db.say(late.clone()));
    assert_eq!(vec!["same"], db.said(FAMILY));
    // Long after, it is something new; and so is what waits for its response.
    let later = UnixMs(NOW.0 + 60_000);
    let queued = db.store.enqueue_tool(&folder("family"), &[late], later).expect("no fault");
    assert!(matches!(queued[0], Queued::New(_)), "{queued:?}");
    assert!(matches!(db.say(tool(FAMILY, "same", "t2")), Queued::New(_)));
}

#[test]
fn a_key_is_queued_once_and_its_row_is_told_again() {
    let mut db = Db::new();
    let Queued::New(id) = db.say(tool(FAMILY, "a", "k")) else { panic!("it is new") };
    let mut db = db.restart();
    assert_eq!(Queued::Before(id), db.say(tool(FAMILY, "b", "k")));
    assert_eq!(vec!["a"], db.said(FAMILY));
}

#[test]
fn a_request_is_begun_once() {
    let mut db = Db::new();
    let family = folder("family");
    let begin = |db: &mut Db, key| db.store.begin_request(&family, key, NOW).expect("no fault");
    assert_eq!(Begun::New, begin(&mut db, "id:1"));
    let mut db = db.restart();
    assert_eq!(Begun::CutShort, begin(&mut db, "id:1"));
    db.store.end_request(&family, "id:1", "{}").expect("no fault");
    assert_eq!(Begun::Done("{}".to_owned()), begin(&mut db, "id:1"));
    let main = db.store.begin_request(&GroupFolder::main(), "id:1", NOW);
    assert_eq!(Begun::New, main.expect("no fault"), "ids are each group's own");
    db.store.forget_old_requests(NOW).expect("no fault");
    assert_eq!(Begun::Done("{}".to_owned()), begin(&mut db, "id:1"));
    db.store.forget_old_requests(UnixMs(NOW.0 + 1)).expect("no fault");
    assert_eq!(Begun::New, begin(&mut db, "id:1"));
    db.store.forget_request(&family, "id:1").expect("no fault");
    assert_eq!(Begun::New, begin(&mut db, "id:1"));
}

#[test]
fn messages_become_searchable_in_steps_and_stay_in_their_chats() {
    let mut db = Db::new();
    db.register(&new_group("2@g.us", "work"));
    for n in 0..30 {
        let jid = if n % 2 == 0 { FAMILY } else { "2@g.us" };
        db.accept(&message(jid, &format!("m{n}"), &format!("Crème number{n} brûlée")));
    }
    let found = |db: &Db, query: &str, within: Option<&str>| {
        let within = within.map(folder);
        db.store.search(query, within.as_ref(), 100).expect("no fault").map(|found| found.len())
    };
    assert_eq!(Some(0), found(&db, "creme", None));
    assert_eq!(10, db.store.index_messages(10).expect("no fault"));
    assert_eq!(Some(10), found(&db, "creme", None));
    assert_eq!(20, db.store.index_messages(100).expect("no fault"));
    assert_eq!(0, db.store.index_messages(100).expect("no fault"));
    assert_eq!(Some(30), found(&db, "CREME brul", None));
    assert_eq!(Some(15), found(&db, "creme", Some("family")));
    assert_eq!(Some(1), found(&db, "number4", Some("family")));
    assert_eq!(Some(0), found(&db, "number5", Some("family")));
    assert_eq!(Some(0), found(&db, "creme", Some("nobody")));
    assert_eq!(None, found(&db, " ?! ", None));
    // Of a chat that belongs to nobody any more nothing is found.
    db.store.unregister_group(&folder("work"), NOW).expect("it is there");
    assert_eq!(Some(15), found(&db, "creme", None));
}

proptest::proptest! {
    #[test]
    fn no_query_breaks_the_search_or_leaves_the_group(query in "[a-z\"*():^+ -]{0,30}") {
        let mut db = Db::new();
        db.register(&new_group("2@g.us", "work"));
        db.accept(&message("2@g.us", "m", "a b c d e or and not near text chat"));
        db.store.index_messages(10).expect("no fault");
        let family = folder("family");
        let found = db.store.search(&query, Some(&family), 10).expect("no fault");
        proptest::prop_assert!(found.is_none_or(|found| found.is_empty()));
    }
}

#[test]
fn h45_of_a_long_answer_all_parts_have_to_be_said_before_it_is_an_echo() {
    let mut db = Db::new();
    let run = db.start_run(FAMILY);
    let (summary, more) = ("one ".repeat(800), "two ".repeat(400));
    let (summary, more) = (summary.trim_end(), more.trim_end());
    let whole = format!("{summary}\n\n{more}");
    db.say(tool(FAMILY, summary, "t1"));
    db.answer(run, &whole, "a1");
    assert_eq!(vec![summary, summary, more], db.said(FAMILY), "nothing of it is lost");
    db.say(tool(FAMILY, &whole, "t2"));
    db.answer(run, &whole, "a2");
    assert_eq!(5, db.said(FAMILY).len(), "said once");
    // The other way round.
    let late = |text: &str, key: &str| ToolMessage { may_echo: true, ..tool(FAMILY, text, key) };
    db.answer(run, "three", "a4");
    let longer = format!("three\n\n{}", "four ".repeat(900));
    assert!(matches!(db.say(late(&longer, "t4")), Queued::New(_)));
}
