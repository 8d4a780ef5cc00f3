//! The store: messages in, looks for new ones, and the start on a full one.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bed::{Bed, Place, chat};
use crate::table::{Row, Times, rate, row};
use crate::{Extent, Outcome};

/// Rows of one look of the poller.
const LOOK_MAX: usize = 1000;
const BATCH: usize = 1000;
const TEXT: &str = "what about lunch tomorrow, twelve at the usual place?";

pub(crate) fn measure(extent: Extent) -> Outcome<()> {
    starts_with_ten(extent)?;
    let mut bed = Bed::new(Place::Memory, 10)?;
    let count = extent.count(20_000);
    let begun = Instant::now();
    fill(&mut bed, count, 10, 1)?;
    let one_each = rate(count, begun.elapsed());

    let mut bed = Bed::new(Place::Memory, 10)?;
    fill(&mut bed, 1000, 10, BATCH)?;
    let mut looks = vec![("1k messages, 10 groups", look(&bed)?)];
    for number in 10..100 {
        bed.add_group(number)?;
    }
    let many = extent.count(1_000_000);
    let begun = Instant::now();
    fill(&mut bed, many - 1000, 100, BATCH)?;
    let in_batches = rate(many - 1000, begun.elapsed());
    looks.push(("1M messages, 100 groups", look(&bed)?));
    row(&Row {
        what: "stored messages, one commit each, tmpfs",
        measured: one_each,
        must: "≥ 15k /s",
        reference: "11.8k /s",
    })?;
    row(&Row {
        what: "stored messages, in batches of 1000, tmpfs",
        measured: in_batches,
        must: "≥ 100k /s",
        reference: "–",
    })?;
    let mut times = Vec::new();
    for _ in 0..extent.count(50) {
        // No sandbox: what nobody answered stays so for the next start.
        let (mut served, ready) = bed.serve_with("/nonexistent/bwrap".as_ref(), 5)?;
        times.push(ready);
        served.stop()?;
    }
    row(&Row {
        what: "start → ready, 1M stored messages, 100 groups never answered, p50 / p95",
        measured: Times::new(times).both(),
        must: "≤ 20 ms",
        reference: "14 s",
    })?;
    for (command, samples, must) in [
        ("status", 50, "≤ 20 ms"),
        ("list-groups", 50, "≤ 20 ms"),
        ("list-tasks", 50, "≤ 20 ms"),
        ("doctor", 10, "≤ 3 s"),
    ] {
        row(&Row {
            what: &format!("`{command}`, 1M stored messages, 100 groups, p50 / p95"),
            measured: commands(&bed, command, extent.count(samples))?.both(),
            must,
            reference: "–",
        })?;
    }
    for number in 100..1000 {
        bed.add_group(number)?;
    }
    fill(&mut bed, extent.count(100_000), 1000, BATCH)?;
    looks.push(("1.1M messages, 1000 groups", look(&bed)?));
    for (what, times) in looks {
        row(&Row {
            what: &format!("a look for new messages that finds one, {what}"),
            measured: format!("{:.1} µs", times.median().as_secs_f64() * 1e6),
            must: "≤ 50 µs",
            reference: "24–314 µs",
        })?;
    }
    Ok(())
}

/// Times of a command from its start to its end, with an engine that answers at once.
fn commands(bed: &Bed, command: &str, count: usize) -> Outcome<Times> {
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let mut process = Command::new(crate::programs().join("rust-claw"));
        process.arg("--home").arg(bed.home.root()).arg(command);
        process.env("CONTAINER_RUNTIME", "bwrap").stdout(Stdio::null()).stderr(Stdio::null());
        // `doctor` may find a fault of this machine's: that is no matter here.
        process.status()?;
        times.push(begun.elapsed());
    }
    Ok(Times::new(times))
}

fn starts_with_ten(extent: Extent) -> Outcome<()> {
    for place in [Place::Memory, Place::Disk] {
        let bed = Bed::new(place, 10)?;
        let mut times = Vec::new();
        for _ in 0..extent.count(50) {
            let (mut served, ready) = bed.serve(5)?;
            times.push(ready);
            served.stop()?;
        }
        row(&Row {
            what: &format!("start → ready, 10 groups, p50 / p95, {}", place.name()),
            measured: Times::new(times).both(),
            must: "≤ 20 ms",
            reference: "414 ms",
        })?;
    }
    Ok(())
}

/// Commits `count` messages, in turn to the chats of `group_count` groups.
fn fill(bed: &mut Bed, count: usize, group_count: usize, batch_max: usize) -> Outcome<()> {
    let chats: Vec<_> = (0..group_count).map(chat).collect();
    let mut batch = Vec::with_capacity(batch_max);
    for number in 0..count {
        let message = bed.message(&chats[number % group_count], TEXT);
        batch.push(message);
        if batch.len() == batch_max || number + 1 == count {
            bed.commit(&batch)?;
            batch.clear();
        }
    }
    Ok(())
}

/// What the poller asks when it is woken by one message.
fn look(bed: &Bed) -> Outcome<Times> {
    let newest = bed.store.newest_seq()?;
    let seen = rust_claw::ids::Seq(newest.0 - 1);
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..1000 {
        let begun = Instant::now();
        let (woken, _) = bed.store.woken_since(seen, LOOK_MAX)?;
        times.push(begun.elapsed());
        if woken.len() != 1 {
            return Err("one message was to be seen".into());
        }
    }
    Ok(Times::new(times))
}
