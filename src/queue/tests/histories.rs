//! All short histories and many long ones: safe after each step, nothing left over at the end.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::world::{Choice, World};
use super::*;

const BOOM: FailureKind = FailureKind::Other;

/// Plays all histories of up to `length` choices, and drains the world after each of them.
/// Returns how many there were.
fn play_all(world: &World, choices: &[&[Choice]], length: usize) -> usize {
    if length == 0 {
        return 0;
    }
    let mut count = 0;
    for choice in choices {
        let mut next = world.clone();
        // What cannot happen now leads to no history of its own.
        if choice.iter().map(|&part| next.turn(part)).fold(false, |any, did| any | did) {
            next.clone().drain();
            count += 1 + play_all(&next, choices, length - 1);
        }
    }
    count
}

fn started(concurrent_max: usize, runs_ahead: usize) -> World {
    let mut world = World::new(concurrent_max, runs_ahead);
    world.turn(Choice::Engine(true));
    world.turn(Choice::Post);
    world
}

/// Two groups with two chats, where announcements and reports arrive at once.
fn check_all_short_histories(concurrent_max: usize, runs_ahead: usize) {
    use Choice::{Due, Engine, Fail, Message, Post, Remove, Report, Stop, Tick, Work};
    let choices: [&[Choice]; 12] = [
        &[Message(0), Post],
        &[Message(1), Post],
        &[Message(2), Post],
        &[Message(3), Post],
        &[Due(0), Post],
        &[Work(0), Report(0)],
        &[Work(1), Report(1)],
        &[Fail(0, BOOM), Report(0)],
        &[Tick],
        &[Engine(false), Post],
        &[Remove(0), Post],
        &[Stop, Post],
    ];
    let count = play_all(&started(concurrent_max, runs_ahead), &choices, 5);
    assert!(count > 50_000, "only {count} histories");
}

#[test]
fn all_short_histories_with_one_slot() {
    check_all_short_histories(1, 0);
}

#[test]
fn all_short_histories_with_one_slot_and_one_run_ahead() {
    check_all_short_histories(1, 1);
}

#[test]
fn all_short_histories_with_two_slots() {
    check_all_short_histories(2, 0);
}

/// One chat, one run: every order in which commits, announcements, orders and reports can cross.
#[test]
fn h05_all_short_races_of_a_follow_up() {
    use Choice::{Due, Fail, Message, Pass, Post, Report, Tick, Work};
    let mut world = started(1, 0);
    for choice in [Message(0), Post, Work(0), Work(0), Report(0)] {
        assert!(world.turn(choice));
    }
    let choices: [&[Choice]; 8] = [
        &[Message(0)],
        &[Due(0)],
        &[Post],
        &[Work(0)],
        &[Report(0)],
        &[Tick],
        &[Fail(0, BOOM)],
        &[Pass(1800)],
    ];
    let count = play_all(&world, &choices, 6);
    assert!(count > 10_000, "only {count} histories");
}

proptest! {
    #![proptest_config(Config { cases: 1000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn h05_follow_up_racing_close_is_not_lost(choices in prop::collection::vec(race(), 8..24)) {
        let mut world = started(1, 0);
        for choice in choices {
            world.turn(choice);
        }
        world.drain();
    }

    #[test]
    fn any_history_is_safe_and_ends(
        concurrent_max in 1_usize..4,
        runs_ahead in 0_usize..3,
        choices in prop::collection::vec(any_choice(), 0..200),
    ) {
        let mut world = World::new(concurrent_max, runs_ahead);
        for choice in choices {
            world.turn(choice);
        }
        world.drain();
    }

    #[test]
    fn events_in_senseless_order_harm_nothing(
        events in prop::collection::vec((any_gap(), any_event()), 0..60),
    ) {
        let mut queue = Queue::new(limits(2, 1));
        let mut judge = judge::Judge::new(limits(2, 1));
        let mut now = Uptime::default();
        for (seconds, event) in events {
            now = now.plus(Duration::from_secs(seconds));
            let effects = queue.step(now, event.clone());
            judge.judge(now, &event, &effects, &queue);
        }
    }
}

/// What happens around the moment in which a run is closed for being idle.
fn race() -> impl Strategy<Value = Choice> {
    prop_oneof![
        3 => Just(Choice::Message(0)),
        1 => Just(Choice::Due(0)),
        4 => Just(Choice::Post),
        6 => Just(Choice::Work(0)),
        4 => Just(Choice::Report(0)),
        2 => Just(Choice::Tick),
        1 => Just(Choice::Fail(0, BOOM)),
    ]
}

fn any_kind() -> impl Strategy<Value = FailureKind> {
    use FailureKind::{Billing, Credential, Other, RateLimit};
    prop_oneof![Just(Other), Just(Credential), Just(Billing), Just(RateLimit)]
}

fn any_choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        12 => (0..6_usize).prop_map(Choice::Message),
        3 => (0..3_usize).prop_map(Choice::Due),
        1 => (0..3_usize).prop_map(Choice::Withdraw),
        16 => Just(Choice::Post),
        20 => (0..4_usize).prop_map(Choice::Work),
        4 => (0..4_usize, any_kind()).prop_map(|(n, kind)| Choice::Fail(n, kind)),
        1 => (0..4_usize).prop_map(Choice::NoEngine),
        16 => (0..4_usize).prop_map(Choice::Report),
        8 => Just(Choice::Tick),
        4 => (1..3000_u64).prop_map(Choice::Pass),
        2 => any::<bool>().prop_map(Choice::Engine),
        1 => (0..3_usize).prop_map(Choice::Remove),
        1 => Just(Choice::Retry),
        // Rare, because little happens afterwards.
        1 => prop_oneof![9 => Just(Choice::Retry), 1 => Just(Choice::Stop)],
        1 => prop_oneof![9 => Just(Choice::Post), 1 => Just(Choice::StopNow)],
    ]
}

fn any_gap() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0_u64), 4 => 1..20_u64, 1 => Just(1800_u64)]
}

fn any_event() -> impl Strategy<Value = Event> {
    let run = (1..9_u64).prop_map(RunKey);
    let group = prop_oneof![Just("a"), Just("b"), Just("c")];
    let chat = prop_oneof![Just("x"), Just("y")];
    let result = prop_oneof![
        Just("well"),
        Just("badly"),
        Just("badly-later"),
        Just("refused"),
        Just("unpaid"),
        Just("nothing"),
        Just("no-engine"),
    ];
    let quiet = prop_oneof![
        Just(Event::Tick),
        Just(Event::Tick),
        Just(Event::EngineDown),
        Just(Event::RetryNow { group: None }),
        prop_oneof![9 => Just(Event::EngineReady), 1 => Just(Event::Stop)],
        prop_oneof![9 => Just(Event::EngineReady), 1 => Just(Event::StopNow)],
    ];
    let about_group = (group.clone(), 0..4_u8).prop_map(|(group, what)| match what {
        0 => Event::TaskDue { group: folder(group), task: task_of(group, "t") },
        1 => Event::TaskWithdrawn { group: folder(group), id: "t".to_owned() },
        2 => Event::RetryNow { group: Some(folder(group)) },
        _ => Event::GroupRemoved { group: folder(group) },
    });
    prop_oneof![
        2 => quiet,
        2 => about_group,
        4 => (group, chat).prop_map(|(group, chat)| Event::MessagesPending {
            group: folder(group),
            chat: chat_of(group, chat),
        }),
        2 => (run.clone(), any::<bool>()).prop_map(|(run, idle)| Event::Fed { run, idle }),
        2 => (run.clone(), any::<bool>()).prop_map(|(run, idle)| Event::TurnEnded { run, idle }),
        3 => (run, result, any::<bool>()).prop_map(|(run, result, pending)| Event::RunEnded {
            run,
            outcome: outcome(result),
            pending,
        }),
    ]
}
