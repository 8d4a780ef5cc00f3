//! How fast answers leave, and in what pieces.

use std::time::{Duration, Instant};

use rust_claw::doorbell::Doorbell;
use rust_claw::ids::{ChatJid, UnixMs};
use rust_claw::limits::{
    WHATSAPP_ALL_BURST_MAX, WHATSAPP_ALL_PAUSE_SECONDS, WHATSAPP_CHAT_BURST_MAX,
    WHATSAPP_CHAT_PAUSE_SECONDS, WHATSAPP_IN_FLIGHT_MAX, WHATSAPP_TEXT_BYTES_MAX,
};
use rust_claw::store::{NewOutbox, OutboxKind, Store};
use rust_claw_fake_whatsapp::Addressing;

use super::{ADA, OWNER, World};
use crate::support::{Kind, wait_for, wait_longer};

impl World {
    /// Queues `count` answers to a chat.
    fn answer(&self, chat: &str, name: &str, count: usize) {
        let home = rust_claw::home::Home::at(&self.home.at(""));
        let mut store = Store::open(&home.database()).expect("there is a database");
        for number in 0..count {
            let new = NewOutbox {
                jid: ChatJid::new(chat).expect("an address"),
                kind: OutboxKind::Tool,
                text: format!("{name} {number}"),
                dedupe_key: format!("{name}-{number}"),
            };
            store.enqueue(&new, UnixMs::now()).expect("queued");
        }
        Doorbell::ring(&home);
    }

    /// When each message came to the server, and on which chat.
    fn arrivals(&self) -> Vec<(String, Instant)> {
        self.server.journal(|journal| {
            journal.messages.iter().map(|sent| (sent.to.to_string(), sent.at)).collect()
        })
    }
}

/// That in no window came more than `burst` at once and one in `pause` seconds after it. `late`
/// may have left before the window, and come in it.
fn check(times: &[Instant], burst: u32, pause: u32, late: usize) {
    for (first, from) in times.iter().enumerate() {
        for (last, to) in times.iter().enumerate().skip(first) {
            let flow = (*to - *from).as_secs() / u64::from(pause) + 1;
            let most = u64::from(burst) + flow + late as u64;
            assert!((last - first) as u64 <= most, "{first} to {last}: {:?}", *to - *from);
        }
    }
}

#[test]
fn h69_a_burst_leaves_as_the_buckets_allow_and_holds_up_no_other_chat() {
    const MANY: usize = 30;
    let world = World::linked(Kind::Fake);
    let ada = world.ada.pn.to_string();
    world.private(&ada);
    let group = world.group(Addressing::Lid);
    let daemon = world.start();
    let few = WHATSAPP_CHAT_BURST_MAX as usize;
    world.answer(&ada, "one", MANY);
    world.answer(&group, "other", few);
    let flow = WHATSAPP_CHAT_PAUSE_SECONDS * (30 - WHATSAPP_CHAT_BURST_MAX);
    wait_longer(Duration::from_secs(flow.into()), "all of them", || {
        world.arrivals().len() == MANY + few
    });
    let arrivals = world.arrivals();
    let all: Vec<Instant> = arrivals.iter().map(|(_, at)| *at).collect();
    let of = |chat: &str| -> Vec<Instant> {
        arrivals.iter().filter(|(to, _)| to == chat).map(|(_, at)| *at).collect()
    };
    let (one, other) = (of(&ada), of(&group));
    assert_eq!((MANY, few), (one.len(), other.len()));
    // A chat has one message on its way at a time.
    check(&one, WHATSAPP_CHAT_BURST_MAX, WHATSAPP_CHAT_PAUSE_SECONDS, 1);
    check(&other, WHATSAPP_CHAT_BURST_MAX, WHATSAPP_CHAT_PAUSE_SECONDS, 1);
    check(&all, WHATSAPP_ALL_BURST_MAX, WHATSAPP_ALL_PAUSE_SECONDS, WHATSAPP_IN_FLIGHT_MAX);
    assert!(other[few - 1] < one[MANY / 2], "it was not held up");
    for (name, count) in [("one", MANY), ("other", few)] {
        let expected: Vec<String> = (0..count).map(|number| format!("{name} {number}")).collect();
        let seen = || world.ada_sees().into_iter().filter(|text| text.starts_with(name));
        wait_for("what Ada is to see", || seen().count() == count);
        assert_eq!(expected, seen().collect::<Vec<_>>());
    }
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h69_a_burst_to_many_chats_leaves_as_the_bucket_of_all_allows() {
    const CHATS: usize = 5;
    let world = World::linked(Kind::Fake);
    let daemon = world.start();
    let group = |n: usize| world.server.group(&format!("G{n}"), &[OWNER, ADA], Addressing::Lid);
    let groups: Vec<String> = (0..CHATS).map(group).collect();
    let each = WHATSAPP_CHAT_BURST_MAX as usize;
    for (number, group) in groups.iter().enumerate() {
        world.answer(group, &format!("g{number}"), each);
    }
    let all = u32::try_from(CHATS * each).expect("small");
    let flow = WHATSAPP_ALL_PAUSE_SECONDS * (all - WHATSAPP_ALL_BURST_MAX);
    wait_longer(Duration::from_secs(flow.into()), "all of them", || {
        world.arrivals().len() == CHATS * each
    });
    let times: Vec<Instant> = world.arrivals().iter().map(|(_, at)| *at).collect();
    check(&times, WHATSAPP_ALL_BURST_MAX, WHATSAPP_ALL_PAUSE_SECONDS, WHATSAPP_IN_FLIGHT_MAX);
    let first = |group: &String| {
        world.arrivals().iter().position(|(to, _)| to == group).expect("it was written to")
    };
    let latest = groups.iter().map(first).max().expect("there are some");
    assert!(latest < WHATSAPP_ALL_BURST_MAX as usize, "each chat had its turn, {latest}");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h69_a_long_text_reaches_baileys_in_parts_that_end_with_paragraphs() {
    let world = World::linked(Kind::Fake);
    world.private(&world.ada.pn.to_string());
    let mut friend = world.friend();
    let daemon = world.start();
    let paragraphs: Vec<String> =
        (0..9).map(|number| format!("{number} {}.", "word ".repeat(220).trim_end())).collect();
    friend.send(&world.owner.pn.to_string(), &paragraphs.join("\n\n"));
    let mut parts: Vec<String> = Vec::new();
    while !parts.last().is_some_and(|part| part.contains(&paragraphs[8])) {
        let came = friend.next("a part", |event| event["text"].is_string());
        parts.push(came["text"].as_str().expect("a text").to_owned());
    }
    assert!(parts.iter().all(|part| part.len() <= WHATSAPP_TEXT_BYTES_MAX));
    assert!(3 <= parts.len() && parts.len() <= 4, "{}", parts.len());
    assert_eq!(format!("Andy: echo: {}", paragraphs.join("\n\n")), parts.join("\n\n"));
    assert_eq!(Some(0), daemon.stop());
}
