//! Under load and at rest: floods, frames, crowds, memory.

use std::time::{Duration, SystemTime};

use rust_claw::doorbell::{Doorbell, News};
use rust_claw::ids::OutboxId;
use rust_claw::store::Store;

use crate::bed::{Bed, Place, chat, stamps};
use crate::table::{Row, Times, mb, rate, row};
use crate::{Extent, Outcome};

/// Memory and processor of a program that has nothing to do.
pub(crate) fn idle(extent: Extent) -> Outcome<()> {
    let mut bed = Bed::new(Place::Memory, 10)?;
    let (served, _) = bed.serve(5)?;
    bed.wait_for_engine()?;
    let watched = extent.time(Duration::from_mins(1));
    let before = served.cpu()?;
    let fresh_kib = served.status("VmRSS")?;
    std::thread::sleep(watched);
    let used = served.cpu()?.saturating_sub(before);
    for number in 0..10 {
        bed.say(&chat(number), "bench:once")?;
        bed.wait_for_answer(&chat(number), OutboxId(0))?;
    }
    bed.wait_for_rest()?;
    let worked_kib = served.status("VmRSS")?;
    let anonymous_kib = served.status("RssAnon")?;
    row(&Row {
        what: "idle RSS, 10 groups: after the start / after a turn in each (of it anonymous)",
        measured: format!(
            "{:.1} / {:.1} MB ({:.1})",
            mb(fresh_kib),
            mb(worked_kib),
            mb(anonymous_kib)
        ),
        must: "≤ 10 MB",
        reference: "100 MB",
    })?;
    let scaled = used.as_secs_f64() * 600.0 / watched.as_secs_f64();
    row(&Row {
        what: &format!("idle CPU in 10 min (measured {} s, scaled)", watched.as_secs()),
        measured: format!("{scaled:.3} s"),
        must: "≤ 0.1 s",
        reference: "0.57 s",
    })?;
    Ok(())
}

/// A sandbox that writes as fast as it can.
pub(crate) fn output(extent: Extent) -> Outcome<()> {
    let mut bed = Bed::new(Place::Memory, 2)?;
    let (mut served, _) = bed.serve(5)?;
    bed.wait_for_engine()?;
    let mb_written = extent.count(1000);
    let took = one_turn(&mut bed, &format!("bench:once bench:flood={mb_written}"))?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let speed = mb_written as f64 / took.as_secs_f64();
    row(&Row {
        what: &format!("{mb_written} MB of stdout without a frame, then an answer; peak RSS"),
        measured: format!("{speed:.0} MB/s; {:.1} MB", mb(served.status("VmHWM")?)),
        must: "≥ 500 MB/s; ≤ 30 MB",
        reference: "1.9 MB/s; 1.36 GB",
    })?;
    let count = extent.count(500_000);
    let took = one_turn(&mut bed, &format!("bench:once bench:frames={count}"))?;
    row(&Row {
        what: "small frames with a session id in each",
        measured: rate(count, took),
        must: "≥ 100k /s",
        reference: "11k /s",
    })?;
    let count = extent.count(100_000);
    let took = one_turn(&mut bed, &format!("bench:once bench:texts={count}"))?;
    row(&Row {
        what: "small frames with a session id and a text in each, all in the outbox",
        measured: rate(count, took),
        must: "–",
        reference: "–",
    })?;
    served.stop()
}

/// From the start of the process to its last answer. Other answers come before that one.
fn one_turn(bed: &mut Bed, text: &str) -> Outcome<Duration> {
    let chat = chat(0);
    let mut after = bed.store.newest_outbox_id()?;
    bed.say(&chat, text)?;
    let answer = bed.wait(|store| {
        let rows = store.outbox_after(&chat, after, 100_000)?;
        after = rows.last().map_or(after, |row| row.id);
        Ok(rows.into_iter().rfind(|row| !row.text.ends_with("small")))
    })?;
    let [came, _] = stamps(&answer)?;
    let took = SystemTime::now().duration_since(came)?;
    bed.wait_for_rest()?;
    Ok(took)
}

/// Many groups at once: of agents that end when they have answered, as those of the reference did,
/// and of agents that stay until they are asked to go.
pub(crate) fn crowd(extent: Extent) -> Outcome<()> {
    const GROUPS: usize = 200;
    const AGENTS: [(&str, &str); 2] =
        [("bench:once", ""), ("bench:leave", ", agent stays until asked")];
    // They go at the end: the kernel would still be at it while the next ones are measured.
    let mut beds = Vec::new();
    for place in [Place::Memory, Place::Disk] {
        for (limit, must, reference) in [(50, "≤ 0.5 s", "1.25 s"), (5, "≤ 4.1 s", "4.45 s")] {
            for (word, how) in AGENTS {
                let mut times = Vec::new();
                for _ in 0..extent.repeats(5) {
                    let mut bed = Bed::new(place, GROUPS)?;
                    let (mut served, _) = bed.serve(limit)?;
                    bed.wait_for_engine()?;
                    bed.bell = Doorbell::of(&bed.home, &[News::Answer])?;
                    // Likewise what was written to make the groups.
                    rustix::fs::sync();
                    times.push(one_crowd(&mut bed, GROUPS, word)?);
                    served.stop()?;
                    beds.push(bed);
                }
                let what = format!(
                    "200 groups × 1 message, agent 100 ms{how}, limit {limit}: first start → all \
                     answered, {}",
                    place.name()
                );
                let median = Times::new(times).median().as_secs_f64();
                row(&Row { what: &what, measured: format!("{median:.3} s"), must, reference })?;
            }
        }
    }
    Ok(())
}

/// The answers that are looked for one by one.
const LAST_ANSWERS: usize = 10;

fn answer_count(store: &Store) -> rust_claw::store::Result<usize> {
    Ok(usize::try_from(store.newest_outbox_id()?.0).unwrap_or(0))
}

fn one_crowd(bed: &mut Bed, group_count: usize, word: &str) -> Outcome<Duration> {
    let text = format!("{word} bench:sleep=100");
    let batch: Vec<_> = (0..group_count).map(|number| bed.message(&chat(number), &text)).collect();
    bed.commit(&batch)?;
    bed.bell.ring_others();
    // Who measures takes little of the processor while there is much to do.
    while answer_count(&bed.store)? + LAST_ANSWERS < group_count {
        std::thread::sleep(Duration::from_millis(5));
    }
    bed.wait(|store| Ok((group_count <= answer_count(store)?).then_some(())))?;
    let ended = SystemTime::now();
    let mut first = ended;
    for number in 0..group_count {
        let answer = bed.wait_for_answer(&chat(number), OutboxId(0))?;
        first = first.min(stamps(&answer)?[0]);
    }
    Ok(ended.duration_since(first)?)
}
