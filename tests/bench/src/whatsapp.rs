//! WhatsApp as a person meets it: how long a message takes in and out, and what being online costs.

use std::time::{Duration, Instant, SystemTime};

use rust_claw::ids::{ChatJid, UnixMs};
use rust_claw::store::{NewOutbox, OutboxKind};

use crate::bed::{Bed, Place, Served, folder};
use crate::phone::{self, Phones, is_online};
use crate::table::{Row, Times, mb, note, row};
use crate::{Extent, Outcome};

const GROUPS: usize = 10;
/// Between two samples, so that each finds the program at rest and no pace is held back.
const PAUSE: Duration = Duration::from_millis(1500);

pub(crate) fn measure(extent: Extent) -> Outcome<()> {
    if std::env::var_os("CLAW_TEST_BAILEYS").is_none() {
        return note("WhatsApp is not measured: run tests/setup.sh, which gets Baileys");
    }
    let mut phones = Phones::new()?;
    let mut bed = Bed::new(Place::Disk, 0)?;
    bed.env = phone::settings(&phones.server).into();
    phones.link(&bed)?;
    let mut chats = Vec::new();
    for number in 0..GROUPS {
        chats.push(phones.group(&mut bed.store, folder(number))?);
    }
    let (mut served, _) = bed.serve(5)?;
    bed.wait_for_engine()?;
    bed.wait(is_online)?;
    at_rest(&served, extent)?;
    inbound(&bed, &mut phones, &chats, extent.count(100))?;
    outbound(&mut bed, &mut phones, &chats, extent.count(40))?;
    flood(&bed, &mut phones, &chats, &served, extent.count(10_000))?;
    served.stop()
}

/// Memory, threads and processor of a program that is online and has nothing to do.
fn at_rest(served: &Served, extent: Extent) -> Outcome<()> {
    // After a connection begins, names are asked for and keys are made.
    std::thread::sleep(extent.time(Duration::from_secs(20)));
    let watched = extent.time(Duration::from_mins(2));
    let before = served.cpu()?;
    std::thread::sleep(watched);
    let used = served.cpu()?.saturating_sub(before);
    row(&Row {
        what: "WhatsApp online, 10 groups, idle: RSS (of it anonymous)",
        measured: format!(
            "{:.1} MB ({:.1})",
            mb(served.status("VmRSS")?),
            mb(served.status("RssAnon")?)
        ),
        must: "≤ 18 MB",
        reference: "–",
    })?;
    let scaled = used.as_secs_f64() * 600.0 / watched.as_secs_f64();
    row(&Row {
        what: &format!("the same: CPU in 10 min (measured {} s, scaled)", watched.as_secs()),
        measured: format!("{scaled:.3} s"),
        must: "≤ 0.1 s",
        reference: "–",
    })?;
    row(&Row {
        what: "the same: threads",
        measured: served.status("Threads")?.to_string(),
        must: "≤ 20",
        reference: "–",
    })
}

/// From the order to the friend's phone to the row, through two Signal clients and the server; and
/// from the server to the row, which is ours.
fn inbound(bed: &Bed, phones: &mut Phones, chats: &[ChatJid], count: usize) -> Outcome<()> {
    let (mut whole, mut ours) = (Vec::new(), Vec::new());
    for number in 0..count + GROUPS {
        let chat = &chats[number % chats.len()];
        let newest = bed.store.newest_seq()?;
        let begun = Instant::now();
        phones.friend.send(chat.as_str(), "nothing to do");
        bed.wait(|store| Ok((newest < store.newest_seq()?).then_some(())))?;
        let committed = Instant::now();
        let relayed = phones.server.journal(|journal| journal.messages.last().map(|it| it.at));
        whole.push(committed - begun);
        ours.push(committed - relayed.ok_or("the server has no message")?);
        std::thread::sleep(Duration::from_millis(20));
    }
    // The first in each group hands out keys.
    row(&Row {
        what: "friend's phone sends → row committed, p50 / p95, disk",
        measured: Times::new(whole.split_off(GROUPS)).both(),
        must: "≤ 20 ms (p50)",
        reference: "–",
    })?;
    row(&Row {
        what: "of it: WhatsApp's server has it → row committed, p50 / p95, disk",
        measured: Times::new(ours.split_off(GROUPS)).both(),
        must: "–",
        reference: "–",
    })
}

/// From the row of an answer to the friend's screen.
fn outbound(bed: &mut Bed, phones: &mut Phones, chats: &[ChatJid], count: usize) -> Outcome<()> {
    let mut times = Vec::new();
    for number in 0..count + GROUPS {
        let text = format!("answer {number}");
        let new = NewOutbox {
            jid: chats[number % chats.len()].clone(),
            kind: OutboxKind::Notice,
            text: text.clone(),
            dedupe_key: format!("bench-{number}"),
        };
        let begun = SystemTime::now();
        bed.store.enqueue(&new, UnixMs::now())?;
        bed.bell.ring_others();
        let came = phones.friend.next("the answer", |event| {
            event["event"] == "message"
                && event["text"].as_str().is_some_and(|shown| shown.ends_with(&text))
        });
        let at = came["at"].as_f64().ok_or("an event without a time")? / 1000.0;
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(at);
        times.push(at.duration_since(begun).unwrap_or_default());
        std::thread::sleep(PAUSE);
    }
    let times = Times::new(times.split_off(GROUPS));
    row(&Row {
        what: "answer's row in the outbox → on the friend's phone, p50 / p95, disk",
        measured: times.both(),
        must: "≤ 50 ms (p50)",
        reference: "–",
    })
}

/// Many messages, and what stays of them in memory.
fn flood(
    bed: &Bed,
    phones: &mut Phones,
    chats: &[ChatJid],
    served: &Served,
    count: usize,
) -> Outcome<()> {
    let before = served.status("VmRSS")?;
    let first = bed.store.newest_seq()?;
    let begun = SystemTime::now();
    let in_each = count / chats.len();
    for chat in chats {
        phones.friend.burst(chat.as_str(), (0..in_each).map(|number| format!("flood {number}")));
    }
    let all = i64::try_from(in_each * chats.len())?;
    bed.wait(|store| Ok((first.0 + all <= store.newest_seq()?.0).then_some(())))?;
    let took = SystemTime::now().duration_since(begun)?;
    let after = served.status("VmRSS")?;
    row(&Row {
        what: &format!("{all} messages in {:.0} s: RSS before / after", took.as_secs_f64()),
        measured: format!("{:.1} / {:.1} MB", mb(before), mb(after)),
        must: "≤ +2 MB",
        reference: "–",
    })
}
