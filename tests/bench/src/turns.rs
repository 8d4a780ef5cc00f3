//! From a message to a turn, and from a turn to an answer.

use std::time::{Duration, SystemTime};

use rust_claw::ids::OutboxId;

use crate::bed::{Bed, Place, chat, stamps};
use crate::table::{Row, Times, row};
use crate::{Extent, Outcome};

const GROUPS: usize = 10;
/// Between two samples, so that each finds the program at rest.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) fn measure(extent: Extent) -> Outcome<()> {
    for place in [Place::Memory, Place::Disk] {
        let mut bed = Bed::new(place, GROUPS)?;
        let (mut served, _) = bed.serve(5)?;
        bed.wait_for_engine()?;
        let started = starts(&mut bed, extent.count(100))?;
        let (fed, answered) = follow_ups(&mut bed, extent.count(100))?;
        served.stop()?;
        let name = place.name();
        row(&Row {
            what: &format!("message committed → sandbox process started, p50 / p95, {name}"),
            measured: started.both(),
            must: "≤ 3 / 10 ms",
            reference: "867 / 1952 ms",
        })?;
        row(&Row {
            what: &format!("follow-up committed → input file in place, p50 / p95, {name}"),
            measured: fed.both(),
            must: "≤ 3 ms",
            reference: "1048 ms",
        })?;
        row(&Row {
            what: &format!("answer written → outbox row read by who waits, p50 / p95, {name}"),
            measured: answered.both(),
            must: "≤ 2 ms",
            reference: "–",
        })?;
    }
    Ok(())
}

/// Each message wakes a group whose sandbox has ended.
fn starts(bed: &mut Bed, count: usize) -> Outcome<Times> {
    let mut times = Vec::new();
    for number in 0..count {
        let chat = chat(number % GROUPS);
        let after = bed.store.newest_outbox_id()?;
        let committed = bed.say(&chat, "bench:once")?;
        let answer = bed.wait_for_answer(&chat, after)?;
        let [began, _] = stamps(&answer)?;
        times.push(began.duration_since(committed).unwrap_or_default());
        bed.wait_for_rest()?;
        std::thread::sleep(PAUSE);
    }
    Ok(Times::new(times))
}

/// All messages but the first go into a sandbox that waits for them.
fn follow_ups(bed: &mut Bed, count: usize) -> Outcome<(Times, Times)> {
    let (mut fed, mut answered) = (Vec::new(), Vec::new());
    let chat = chat(0);
    let mut after: OutboxId = bed.store.newest_outbox_id()?;
    for number in 0..=count {
        let committed = bed.say(&chat, "hi")?;
        let answer = bed.wait_for_answer(&chat, after)?;
        let seen = SystemTime::now();
        after = answer.id;
        let [came, written] = stamps(&answer)?;
        if 0 < number {
            fed.push(came.duration_since(committed).unwrap_or_default());
            answered.push(seen.duration_since(written).unwrap_or_default());
        }
        std::thread::sleep(PAUSE);
    }
    Ok((Times::new(fed), Times::new(answered)))
}
