//! A second opinion: a friend who has the library that the program is built on, without the
//! program. What the one says, the other has to understand as it was meant.

use rust_claw_fake_whatsapp::wa::message::{ExtendedTextMessage, FutureProofMessage};
use rust_claw_fake_whatsapp::{Addressing, wa};
use whatsapp_rust::SendOptions;

use super::peer::{Peer, Said, Told};
use super::{ADA, OWNER, World};
use crate::support::{Kind, wait_for};

/// Has the third account, where one is needed.
const BEN: &str = "4915550000003";
/// The link has long been told of the turn when it ends.
const SLOW: &str = "@Andy fake:sleep=1500 soup";

impl World {
    /// Ada's device.
    fn peer(&self) -> Peer {
        Peer::linked(&self.server, ADA)
    }

    /// What people said, as the program knows it: chat, sender, name, text.
    fn stored(&self) -> Vec<[String; 4]> {
        let database = self.home.database();
        let sql = "SELECT chat_jid, sender, sender_name, text FROM messages
                   WHERE NOT is_from_assistant ORDER BY seq";
        let mut statement = database.prepare(sql).expect("SQL");
        let rows = statement
            .query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))
            .expect("rows");
        rows.map(|row| row.expect("texts")).collect()
    }

    fn ada_in(&self, chat: &str, text: &str) -> [String; 4] {
        [chat, &self.ada.pn.to_string(), "Ada", text].map(str::to_owned)
    }

    fn wait_delivered(&self, count: usize) {
        let sql = "SELECT text FROM outbox WHERE state = 'sent'";
        wait_for("that all is known to have gone out", || self.home.texts(sql).len() == count);
    }
}

/// Says something, and expects that it arrives and is answered, in that chat.
fn check_talk(peer: &Peer, chat: &str, text: &str) -> Said {
    let before = peer.texts().len();
    let id = peer.send(chat, text);
    let answer = peer.text(before + 1);
    assert_eq!((chat, false), (answer.chat.as_str(), answer.waited));
    assert_eq!(format!("Andy: echo: {text}"), answer.text);
    assert_eq!("Olga", answer.name);
    let arrived = |told: &Told| matches!(told, Told::Delivered(ids) if ids.contains(&id));
    peer.wait("that it arrived", |told| told.iter().any(arrived));
    answer
}

/// The same with something that takes its time: typing is seen until it is said.
fn check_typing(peer: &Peer, chat: &str, text: &str) {
    let before = peer.told().len();
    let answer = check_talk(peer, chat, text);
    let typing = |is_typing| Told::Typing { chat: chat.to_owned(), is_typing };
    peer.wait("that it stopped typing", |told| told[before..].contains(&typing(false)));
    let told = peer.told();
    let place = |wanted: &Told| told[before..].iter().position(|told| told == wanted);
    let (typed, answered) = (place(&typing(true)), place(&Told::Text(answer)));
    assert!(typed.is_some() && typed < answered, "{told:#?}");
}

fn check_group(addressing: Addressing) {
    let world = World::linked(Kind::Fake);
    let group = world.group(addressing);
    let peer = world.peer();
    let daemon = world.start();
    // The first sets a session up, the second uses it, and so on both ways.
    for round in 0..3 {
        let answer = check_talk(&peer, &group, &format!("@Andy soup {round}?"));
        let owner = match addressing {
            Addressing::Pn => &world.owner.pn,
            Addressing::Lid => &world.owner.lid,
        };
        assert_eq!(owner.to_string(), answer.sender);
        // Without its name it listens.
        peer.send(&group, &format!("I take soup {round}"));
    }
    check_typing(&peer, &group, SLOW);
    let said = |text: &str| world.ada_in(&group, text);
    let mut all: Vec<[String; 4]> = (0..3)
        .flat_map(|n| [said(&format!("@Andy soup {n}?")), said(&format!("I take soup {n}"))])
        .collect();
    all.push(said(SLOW));
    assert_eq!(all, world.stored());
    world.wait_delivered(4);
    assert_eq!(4, peer.texts().len(), "{:#?}", peer.texts());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn the_librarys_own_client_talks_in_a_group_by_numbers() {
    check_group(Addressing::Pn);
}

#[test]
fn the_librarys_own_client_talks_in_a_group_by_hidden_ids() {
    check_group(Addressing::Lid);
}

#[test]
fn the_librarys_own_client_talks_in_private_by_number_and_by_hidden_id() {
    let world = World::linked(Kind::Fake);
    let chat = world.ada.pn.to_string();
    world.private(&chat);
    let peer = world.peer();
    let daemon = world.start();
    let owner = [&world.owner.pn, &world.owner.lid].map(ToString::to_string);
    for round in 0..2 {
        check_talk(&peer, &owner[0], &format!("soup {round}?"));
    }
    check_typing(&peer, &owner[0], SLOW);
    // The same person in the same chat, whatever the phone calls it.
    peer.send(&owner[1], "bread?");
    let answer = peer.text(4);
    assert_eq!("Andy: echo: bread?", answer.text);
    assert!(owner.contains(&answer.chat), "{answer:?}");
    let said = ["soup 0?", "soup 1?", SLOW, "bread?"].map(|text| world.ada_in(&chat, text));
    assert_eq!(said[..], world.stored());
    world.wait_delivered(4);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn what_the_librarys_own_client_wraps_is_unwrapped() {
    let world = World::linked(Kind::Fake);
    let group = world.group(Addressing::Lid);
    let (chat, owner) = (world.ada.pn.to_string(), world.owner.pn.to_string());
    world.private(&chat);
    let peer = world.peer();
    let daemon = world.start();
    let first = peer.send(&owner, "shall we?");
    peer.text(1);
    let reply = wa::ContextInfo {
        stanza_id: Some(first.clone()),
        participant: Some(chat.clone()),
        quoted_message: text("shall we?").into(),
        ..Default::default()
    };
    peer.send_with(&owner, extended("yes", reply), SendOptions::default());
    peer.text(2);
    let wrapped = FutureProofMessage { message: text("gone soon").into() };
    let ephemeral = wa::Message { ephemeral_message: wrapped.into(), ..Default::default() };
    let for_a_day = SendOptions::default().with_ephemeral_expiration(86_400);
    peer.send_with(&owner, ephemeral, for_a_day.clone());
    peer.text(3);
    peer.send_with(&owner, text("gone as soon"), for_a_day);
    peer.text(4);
    peer.edit(&owner, &first, "shall we go?");
    peer.text(5);
    let me = world.owner.lid.to_string();
    let (user, _) = me.split_once('@').expect("an address");
    let called = wa::ContextInfo { mentioned_jid: vec![me.clone()], ..Default::default() };
    let call = extended(&format!("what says @{user}?"), called);
    peer.send_with(&group, call, SendOptions::default());
    peer.text(6);
    let read = [
        "shall we?",
        "yes\n[in reply to: shall we?]",
        "gone soon",
        "gone as soon",
        "shall we go?\n[edited]",
        "what says @Andy?",
    ];
    let chats = [&chat, &chat, &chat, &chat, &chat, &group];
    let said: Vec<[String; 4]> =
        chats.iter().zip(read).map(|(chat, text)| world.ada_in(chat, text)).collect();
    assert_eq!(said, world.stored());
    let answers: Vec<String> = peer.texts().into_iter().map(|answer| answer.text).collect();
    assert_eq!(read.map(|text| format!("Andy: echo: {text}"))[..], answers);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn what_is_answered_while_the_librarys_own_client_is_away_waits_for_it_and_comes_once() {
    let world = World::linked(Kind::Fake);
    let group = world.group(Addressing::Lid);
    world.private(&world.ada.pn.to_string());
    let mut peer = world.peer();
    let owner = world.owner.pn.to_string();
    peer.send(&owner, "soup?");
    peer.send(&group, "@Andy bread?");
    peer.leave();
    let daemon = world.start();
    world.wait_delivered(2);
    assert_eq!(Vec::<Said>::new(), peer.texts());
    for _ in 0..2 {
        peer.come_back();
        wait_for("what waited", || 2 <= peer.texts().len());
        // What it has confirmed is kept for it no longer.
        wait_for("that it is confirmed", || world.server.unconfirmed(ADA) == 0);
        peer.leave();
    }
    peer.come_back();
    // What comes next would come after what came twice.
    let last = check_talk(&peer, &owner, "cake?");
    let mut texts = peer.texts();
    assert_eq!(Some(last), texts.pop());
    assert!(texts.iter().all(|answer| answer.waited), "{texts:#?}");
    texts.sort_by(|one, other| one.text.cmp(&other.text));
    let of = |answer: &Said| (answer.chat.clone(), answer.text.clone());
    let expected =
        [(group, "Andy: echo: @Andy bread?".to_owned()), (owner, "Andy: echo: soup?".to_owned())];
    assert_eq!(expected[..], texts.iter().map(of).collect::<Vec<_>>());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn a_client_that_has_lost_its_keys_asks_again_and_reads_the_answer() {
    let world = World::linked(Kind::Fake);
    let group = world.group(Addressing::Lid);
    world.private(&world.ada.pn.to_string());
    let mut peer = world.peer();
    let owner = world.owner.pn.to_string();
    for (chat, text, is_away) in [
        (&owner, "soup?", false),
        (&group, "@Andy bread?", false),
        (&owner, "cake?", true),
        (&group, "@Andy cheese?", true),
    ] {
        let daemon = world.start();
        check_talk(&peer, chat, text);
        assert_eq!(Some(0), daemon.stop());
        // Said with keys that it has no more when the answer comes.
        let before = peer.texts().len();
        peer.send(chat, &format!("{text} Please."));
        peer.leave();
        peer.forget();
        if !is_away {
            peer.come_back();
        }
        let daemon = world.start();
        if is_away {
            world.wait_delivered(before + 1);
            peer.come_back();
        }
        let answer = peer.text(before + 1);
        assert_eq!(format!("Andy: echo: {text} Please."), answer.text);
        assert_eq!(*chat, answer.chat);
        let unread = Told::Unreadable(answer.id.clone());
        assert_eq!(1, peer.told().iter().filter(|told| **told == unread).count());
        let retries = world.server.journal(|journal| {
            let retry = Some("retry".to_owned());
            let asked = journal.receipts.iter().filter(|receipt| receipt.kind == retry);
            asked.filter(|receipt| receipt.ids.contains(&answer.id)).count()
        });
        assert!(1 <= retries, "{}", world.server.trace());
        check_talk(&peer, chat, &format!("{text} Thank you."));
        assert_eq!(Some(0), daemon.stop());
    }
}

#[test]
fn baileys_and_the_librarys_own_client_see_the_same_answer() {
    let world = World::linked(Kind::Fake);
    world.server.account(BEN, "Ben");
    let mut ben = world.baileys(BEN);
    let ada = world.peer();
    for (addressing, folder) in [(Addressing::Pn, "dinner"), (Addressing::Lid, "supper")] {
        let group = world.server.group(folder, &[OWNER, ADA, BEN], addressing);
        world.home.run(&["register-group", "--jid", &group, "--folder", folder]).ok();
        let daemon = world.start();
        let before = ada.texts().len();
        ada.send(&group, "@Andy who cooks?");
        assert_eq!("@Andy who cooks?", ben.text_in(&group));
        let answer = ada.text(before + 1);
        assert_eq!("Andy: echo: @Andy who cooks?", answer.text);
        let same = ben.next("the answer", |event| event["id"] == answer.id);
        assert_eq!((&same["text"], &same["chat"]), (&answer.text.into(), &answer.chat.into()));
        ben.send(&group, "@Andy who washes?");
        // Theirs, then ours.
        let answer = ada.text(before + 3);
        assert_eq!("Andy: echo: @Andy who washes?", answer.text);
        assert_eq!("@Andy who washes?", ada.texts()[before + 1].text);
        let same = ben.next("the answer", |event| event["id"] == answer.id);
        assert_eq!((&same["text"], &same["chat"]), (&answer.text.into(), &answer.chat.into()));
        assert_eq!(Some(0), daemon.stop());
    }
    assert_eq!(Vec::<String>::new(), ben.unread());
}

fn text(text: &str) -> wa::Message {
    wa::Message { conversation: Some(text.to_owned()), ..Default::default() }
}

fn extended(text: &str, context: wa::ContextInfo) -> wa::Message {
    let said = ExtendedTextMessage {
        text: Some(text.to_owned()),
        context_info: context.into(),
        ..Default::default()
    };
    wa::Message { extended_text_message: said.into(), ..Default::default() }
}
