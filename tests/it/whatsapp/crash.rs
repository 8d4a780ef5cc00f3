//! Hazard 1 on the phone: whenever the program dies, the friend sees one answer, and can read it.

use std::time::Duration;

use rust_claw_fake_whatsapp::Addressing;

use super::World;
use crate::support::{Kind, wait_for};

/// Serves one message with a program that dies at `place`, and then starts it again.
fn check(place: &str, addressing: Addressing) {
    let mut world = World::linked(Kind::Fake);
    let group = world.group(addressing);
    let mut friend = world.friend();
    // Both have spoken before, so there are keys to lose.
    let daemon = world.start();
    friend.send(&group, "@Andy one");
    assert_eq!("Andy: echo: @Andy one", friend.text_in(&group), "{place}");
    assert_eq!(Some(0), daemon.stop());
    world.home.wait_no_runs();

    world.home.set("RUST_CLAW_CRASH_AT", place);
    let daemon = world.start();
    friend.send(&group, "@Andy two");
    assert_eq!(None, daemon.end(), "it died of a signal at {place}");
    world.home.unset("RUST_CLAW_CRASH_AT");
    let daemon = world.start();
    wait_for("the answer", || friend.texts().len() == 2);
    friend.send(&group, "@Andy three");
    wait_for("the next answer", || friend.texts().len() >= 3);
    // All has come before what is sent now.
    wait_for("an empty outbox", || {
        world.home.number("SELECT count(*) FROM outbox WHERE state <> 'sent'") == 0
    });
    let expected = ["one", "two", "three"].map(|word| format!("Andy: echo: @Andy {word}"));
    assert_eq!(expected, *friend.texts(), "{place}");
    assert_eq!(Vec::<String>::new(), friend.unread(), "{place}");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h01_baileys_sees_one_answer_if_killed_when_the_message_came() {
    check("message_received", Addressing::Lid);
}

#[test]
fn h01_baileys_sees_one_answer_if_killed_when_the_message_was_committed() {
    check("message_committed", Addressing::Pn);
}

#[test]
fn h01_baileys_sees_one_answer_if_killed_when_the_answer_was_committed() {
    check("outbox_committed", Addressing::Lid);
}

#[test]
fn h01_baileys_sees_one_answer_if_killed_when_it_was_sent() {
    check("delivery_written", Addressing::Pn);
}

#[test]
fn h01_baileys_sees_one_answer_if_killed_when_it_was_acknowledged() {
    check("delivery_attempted", Addressing::Lid);
}

/// The next of a row of numbers that look random and are the same each time.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn h01_baileys_sees_each_answer_once_after_ten_kills_at_random() {
    let world = World::linked(Kind::Fake);
    let group = world.group(Addressing::Lid);
    let mut friend = world.friend();
    let mut state = 0x2545_f491_4f6c_dd1d;
    for round in 0..10 {
        let daemon = world.start();
        friend.send(&group, &format!("@Andy m{round} fake:all"));
        // The time of the blow is what is tried here, so this sleep waits for nothing.
        std::thread::sleep(Duration::from_millis(next(&mut state) % 400));
        daemon.kill();
    }
    let daemon = world.start();
    let count = |friend: &rust_claw_fake_whatsapp::friend::Friend, round: usize| {
        let name = format!("m{round} ");
        let texts = friend.texts();
        texts.iter().map(|text| text.matches(&name).count()).sum::<usize>()
    };
    wait_for("all answers", || (0..10).all(|round| 0 < count(&friend, round)));
    friend.send(&group, "@Andy the end");
    friend.next("the end", |event| {
        event["text"].as_str().is_some_and(|text| text.contains("the end"))
    });
    for round in 0..10 {
        assert_eq!(1, count(&friend, round), "m{round}: {:#?}", friend.texts());
    }
    assert_eq!(Vec::<String>::new(), friend.unread());
    assert_eq!(Some(0), daemon.stop());
}
