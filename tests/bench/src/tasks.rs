//! Tasks: how late they begin, how fast many of them are done, and what a look at them costs.

use std::time::{Duration, Instant, SystemTime};

use rust_claw::ids::{OutboxId, TaskId, UnixMs};
use rust_claw::limits::TASK_CLAIMS_MAX;
use rust_claw::store::{ContextMode, NewTask, TaskRunStatus};

use crate::bed::{Bed, Place, chat, folder, stamps};
use crate::table::{Row, Times, ms, row};
use crate::{Extent, Outcome};

const GROUPS: usize = 10;
/// Between two tasks, so that each finds the program at rest.
const PAUSE: Duration = Duration::from_millis(150);
/// How far ahead of its time a task is created.
const AHEAD: Duration = Duration::from_millis(1500);
const LOOKS: usize = 100;

pub(crate) fn measure(extent: Extent) -> Outcome<()> {
    for place in [Place::Memory, Place::Disk] {
        let late = lateness(place, extent.count(300))?;
        row(&Row {
            what: &format!("task due → sandbox process started, p50 / p95, {}", place.name()),
            measured: late.both(),
            must: "≤ 10 / 50 ms",
            reference: "37 / 59 s",
        })?;
    }
    let stored = extent.count(100_000);
    let looks = wakes(stored)?;
    row(&Row {
        what: &format!("scheduler wakes and claims one of {stored} stored tasks, p50 / p95, tmpfs"),
        measured: looks.both(),
        must: "≤ 5 ms",
        reference: "–",
    })
}

/// Many at once.
pub(crate) fn rush(extent: Extent) -> Outcome<()> {
    let count = extent.count(1000);
    let (took, once) = crowd(count)?;
    row(&Row {
        what: &format!("{count} tasks due at once, 10 groups, limit 5, until all are done, tmpfs"),
        measured: ms(took),
        must: "≤ 2 s for 1000",
        reference: "8.3 s",
    })?;
    row(&Row {
        what: "– of which were claimed once, and succeeded",
        measured: format!("{once} of {count}"),
        must: "all",
        reference: "–",
    })
}

/// Creates a task that runs once.
fn create(bed: &mut Bed, group: usize, due: UnixMs) -> Outcome<TaskId> {
    let time = chrono::DateTime::from_timestamp_millis(due.0).ok_or("a time")?;
    let new = NewTask {
        folder: folder(group),
        chat: chat(group),
        prompt: "bench:once".to_owned(),
        script: None,
        schedule_kind: "once".to_owned(),
        schedule_value: time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        timezone: None,
        context: ContextMode::Isolated,
        created_by: "cli".to_owned(),
    };
    Ok(bed.store.create_task(&new, "UTC".parse()?, UnixMs::now())?.id)
}

/// One after the other becomes due; each was created [`AHEAD`] of that.
fn lateness(place: Place, count: usize) -> Outcome<Times> {
    let mut bed = Bed::new(place, GROUPS)?;
    let (mut served, _) = bed.serve(5)?;
    bed.wait_for_engine()?;
    let mut due = UnixMs::now().plus(AHEAD);
    let mut planned = Vec::new();
    // On a busy disk one may overtake another, of another group.
    let mut after = [bed.store.newest_outbox_id()?; GROUPS];
    for number in 0..count {
        let group = number % GROUPS;
        create(&mut bed, group, due)?;
        bed.bell.ring_others();
        planned.push((group, due));
        std::thread::sleep(PAUSE);
        // On a busy machine the pauses are longer than they should be.
        due = due.plus(PAUSE).max(UnixMs::now().plus(AHEAD));
    }
    let mut times = Vec::new();
    for (group, due) in planned {
        let answer = bed.wait_for_answer(&chat(group), after[group])?;
        after[group] = answer.id;
        let [began, _] = stamps(&answer)?;
        let due = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(due.0)?);
        times.push(began.duration_since(due).unwrap_or_default());
    }
    served.stop()?;
    Ok(Times::new(times))
}

/// From when they are due until the last is done; and how many were claimed once and succeeded.
fn crowd(count: usize) -> Outcome<(Duration, usize)> {
    let mut bed = Bed::new(Place::Memory, GROUPS)?;
    let (mut served, _) = bed.serve(5)?;
    bed.wait_for_engine()?;
    let last = OutboxId(bed.store.newest_outbox_id()?.0 + i64::try_from(count)?);
    let due = UnixMs::now().plus(2 * AHEAD);
    let mut tasks = Vec::new();
    for number in 0..count {
        tasks.push(create(&mut bed, number % GROUPS, due)?);
    }
    if due <= UnixMs::now() {
        return Err("the tasks were due before all were created".into());
    }
    bed.bell.ring_others();
    bed.wait(|store| Ok((last <= store.newest_outbox_id()?).then_some(())))?;
    bed.wait_for_rest()?;
    served.stop()?;
    let (mut done, mut once) = (due, 0);
    for task in &tasks {
        if let [run] = bed.store.task_history(task, 2)?.as_slice()
            && run.status == TaskRunStatus::Succeeded
        {
            once += 1;
            done = done.max(run.ended_at.unwrap_or(due));
        }
    }
    Ok((done.since(due), once))
}

/// What the scheduler asks when it is woken by a task's time, in this process.
fn wakes(count: usize) -> Outcome<Times> {
    // No group may have them all.
    const TASKS_PER_GROUP: usize = 500;
    let group_count = count.div_ceil(TASKS_PER_GROUP);
    let mut bed = Bed::new(Place::Memory, group_count)?;
    let mut due = UnixMs::now().plus(Duration::from_hours(24));
    for number in 0..count {
        create(&mut bed, number % group_count, due)?;
        due = due.plus(Duration::from_secs(1));
    }
    let mut times = Vec::new();
    for _ in 0..LOOKS {
        let now = bed.store.next_due_at()?.ok_or("a task is due some time")?;
        let begun = Instant::now();
        let is_due = bed.store.next_due_at()?.is_some_and(|due| due <= now);
        let claims = bed.store.claim_due("UTC".parse()?, now, TASK_CLAIMS_MAX)?;
        let next = bed.store.next_due_at()?;
        times.push(begun.elapsed());
        if !is_due || claims.claimed.len() != 1 || next.is_none_or(|next| next <= now) {
            return Err("one task was to be claimed".into());
        }
    }
    Ok(Times::new(times))
}
