//! Messages in and out, typed and read on phones.

use rust_claw_fake_whatsapp::wa::message::{FutureProofMessage, ImageMessage, ProtocolMessage};
use rust_claw_fake_whatsapp::{Addressing, Fault, Outcome, wa};

use super::{ADA, OWNER, World};
use crate::support::{Kind, wait_for};

impl World {
    /// What Ada's phone shows, oldest first.
    pub(super) fn ada_sees(&self) -> Vec<String> {
        self.server.journal(|journal| {
            let hers = journal.seen.iter().filter(|seen| seen.phone == ADA);
            hers.filter_map(|seen| seen.text().map(str::to_owned)).collect()
        })
    }

    fn wait_ada(&self, expected: &[&str]) {
        wait_for("what Ada is to see", || self.ada_sees().len() >= expected.len());
        assert_eq!(expected, self.ada_sees());
    }

    fn sent(&self) -> Vec<(String, Outcome)> {
        let device = self.server.companions(OWNER)[0].to_string();
        let device = device.split('@').next().expect("a user").to_owned();
        self.server.journal(|journal| {
            journal.sent_by(&device).map(|sent| (sent.id.clone(), sent.outcome)).collect()
        })
    }
}

fn text(text: &str) -> wa::Message {
    wa::Message { conversation: Some(text.to_owned()), ..wa::Message::default() }
}

fn wrapped(message: wa::Message) -> FutureProofMessage {
    FutureProofMessage { message: message.into() }
}

#[test]
fn h13_history_and_what_is_older_than_the_pairing_is_context_and_what_was_missed_is_answered() {
    let world = World::new(Kind::Fake);
    let ada = world.ada.pn.to_string();
    let old = |n: u64| {
        let key = wa::MessageKey {
            remote_jid: Some(ada.clone()),
            from_me: Some(false),
            id: Some(format!("OLD{n}")),
            ..wa::MessageKey::default()
        };
        let info = wa::WebMessageInfo {
            key: key.into(),
            message: text(&format!("old {n}")).into(),
            message_timestamp: Some(1_700_000_000 + n),
            ..wa::WebMessageInfo::default()
        };
        wa::HistorySyncMsg { message: info.into(), ..wa::HistorySyncMsg::default() }
    };
    let conversation = wa::Conversation {
        id: ada.clone(),
        messages: (0..500).rev().map(old).collect(),
        ..wa::Conversation::default()
    };
    let history = wa::HistorySync {
        sync_type: wa::history_sync::HistorySyncType::INITIAL_BOOTSTRAP,
        conversations: vec![conversation],
        ..wa::HistorySync::default()
    };
    world.server.history(OWNER, history, false);
    world.private(&ada);
    let daemon = world.home.start();
    world.pair();
    wait_for("the history", || {
        world.home.number("SELECT count(*) FROM messages WHERE text LIKE 'old %'") == 500
    });
    assert_eq!(0, world.home.number("SELECT count(*) FROM messages WHERE wakes"));
    assert_eq!(0, world.home.number("SELECT count(*) FROM runs"));
    assert_eq!(Some(0), daemon.stop());
    world.server.say_text(ADA, OWNER, "while you were away");
    let daemon = world.start();
    world.wait_ada(&["Andy: echo: while you were away"]);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h17_h18_h19_h75_each_message_stands_alone_unwrapped_or_named() {
    let world = World::linked(Kind::Fake);
    world.private(&world.ada.pn.to_string());
    let daemon = world.start();
    let say = |message| world.server.say(ADA, OWNER, message);
    // Nothing in it: a word among devices, a blank.
    say(wa::Message { protocol_message: ProtocolMessage::default().into(), ..Default::default() });
    say(text("  "));
    say(wa::Message { ephemeral_message: wrapped(text("gone soon")).into(), ..Default::default() });
    world.wait_ada(&["Andy: echo: gone soon"]);
    let edit = ProtocolMessage { edited_message: text("better").into(), ..Default::default() };
    let edit = wa::Message { protocol_message: edit.into(), ..Default::default() };
    say(wa::Message { edited_message: wrapped(edit).into(), ..Default::default() });
    wait_for("a second answer", || world.ada_sees().len() == 2);
    assert_eq!("Andy: echo: better\n[edited]", world.ada_sees()[1]);
    let image = ImageMessage {
        mimetype: Some("image/png".to_owned()),
        file_length: Some(2048),
        ..Default::default()
    };
    say(wa::Message { image_message: image.into(), ..Default::default() });
    wait_for("a third answer", || world.ada_sees().len() == 3);
    assert_eq!("Andy: echo: [image, image/png, 2 KiB, not shown here]", world.ada_sees()[2]);
    assert_eq!(3, world.home.number("SELECT count(*) FROM messages"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h66_a_mention_by_number_or_hidden_id_calls() {
    let world = World::linked(Kind::Fake);
    let group = world.group(Addressing::Lid);
    let daemon = world.start();
    for (count, me) in [world.owner.pn.to_string(), world.owner.lid.to_string()].iter().enumerate()
    {
        let (user, _) = me.split_once('@').expect("an address");
        let context = wa::ContextInfo { mentioned_jid: vec![me.clone()], ..Default::default() };
        let said = wa::message::ExtendedTextMessage {
            text: Some(format!("what says @{user}?")),
            context_info: context.into(),
            ..Default::default()
        };
        let message = wa::Message { extended_text_message: said.into(), ..Default::default() };
        world.server.say(ADA, &group, message);
        wait_for("an answer", || world.ada_sees().len() == count + 1);
        assert_eq!("Andy: echo: what says @Andy?", world.ada_sees()[count]);
    }
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h67_h70_typing_and_presence_are_shown_while_a_turn_runs_and_not_else() {
    let world = World::linked(Kind::Fake);
    world.private(&world.ada.pn.to_string());
    let daemon = world.start();
    let available =
        || world.server.journal(|journal| journal.presences.last().map(|last| last.available));
    wait_for("that the phone may ring", || available() == Some(false));
    world.server.say_text(ADA, OWNER, "fake:sleep=1500 hello");
    let states = || -> Vec<String> {
        world.server.journal(|journal| {
            journal.chat_states.iter().map(|shown| shown.state.clone()).collect()
        })
    };
    wait_for("typing", || states() == ["composing"]);
    assert_eq!(Some(true), available());
    wait_for("its end", || states() == ["composing", "paused"]);
    wait_for("that the phone may ring again", || available() == Some(false));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h09_a_refused_lost_or_unconfirmed_message_goes_again_under_its_id() {
    let world = World::linked(Kind::Fake);
    world.private(&world.ada.pn.to_string());
    let daemon = world.start();
    let mut before = 0;
    for fault in [Fault::Nack(479), Fault::DropNext(1), Fault::LoseAcks(1)] {
        world.server.fault(fault);
        world.server.say_text(ADA, OWNER, &format!("{fault:?}"));
        wait_for("a second attempt", || world.sent().len() == before + 2);
        let sent = world.sent();
        assert_eq!(sent[before].0, sent[before + 1].0, "{fault:?}");
        assert_ne!(Outcome::Accepted, sent[before].1);
        assert_eq!(Outcome::Accepted, sent[before + 1].1);
        before = sent.len();
        wait_for("that it is known", || {
            world.home.number("SELECT count(*) FROM outbox WHERE state = 'pending'") == 0
        });
    }
    assert_eq!(Some(0), daemon.stop());
}
