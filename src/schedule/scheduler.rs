//! The thread that starts tasks when their time has come. It sleeps until the next slot or a ring
//! of the doorbell; every five seconds it looks at the clock again, which may have been set, or
//! have gone on while the machine slept. It decides nothing: when a slot is, and what becomes of
//! one that was missed, is pure; that it is claimed once is the store's.

use std::time::{Duration, Instant};

use chrono_tz::Tz;
use crossbeam_channel::Sender;

use crate::agent::notice;
use crate::dispatcher::Word;
use crate::doorbell::Doorbell;
use crate::ids::{TaskRunId, UnixMs};
use crate::limits::{CLOCK_LOOK_INTERVAL, TASK_CLAIMS_MAX, TASKS_LOOK_INTERVAL};
use crate::queue::{Event, Task};
use crate::store::{Claim, Error, Store, TaskRunStatus};

/// What the thread owns.
pub struct Scheduler {
    store: Store,
    bell: Doorbell,
    words: Sender<Word>,
    /// Zone of tasks that have none, and whose group has none.
    zone: Tz,
    /// Claim what is due, rather than just start what others claim.
    claims_due: bool,
    /// Claims up to here were handed over, or are left to others.
    seen: TaskRunId,
    looked_at: UnixMs,
}

/// Nobody listens any more.
struct Gone;

impl Scheduler {
    /// One that claims what is due, and takes up what an earlier life of the program has claimed
    /// and not begun.
    pub fn new(store: Store, bell: Doorbell, words: Sender<Word>, zone: Tz) -> Scheduler {
        let (seen, looked_at) = (TaskRunId(0), UnixMs::now());
        Scheduler { store, bell, words, zone, claims_due: true, seen, looked_at }
    }

    /// One for a program that is soon gone: it starts what others claim from now on, no more.
    ///
    /// # Errors
    /// A database that cannot be read.
    pub fn for_claims(
        store: Store,
        bell: Doorbell,
        words: Sender<Word>,
        zone: Tz,
    ) -> Result<Scheduler, Error> {
        let seen = store.newest_task_run()?;
        let all = Scheduler::new(store, bell, words, zone);
        Ok(Scheduler { claims_due: false, seen, ..all })
    }

    /// Looks until the dispatcher is gone or `stopped` says so.
    ///
    /// # Errors
    /// A database that cannot be used.
    pub fn run(mut self, stopped: impl Fn() -> bool) -> Result<(), Error> {
        while !stopped() {
            let now = UnixMs::now();
            if self.claims_due {
                claim_due(&mut self.store, &self.bell, self.zone, now)?;
            }
            if let Err(Gone) = self.hand_over(now)? {
                return Ok(());
            }
            let due = if self.claims_due { self.store.next_due_at()? } else { None };
            self.wait(due, &stopped);
        }
        Ok(())
    }

    /// Until the bell rings or a slot at `due` has come. Most looks are at the clock alone.
    fn wait(&self, due: Option<UnixMs>, stopped: impl Fn() -> bool) {
        let waiting_since = Instant::now();
        while !stopped()
            && let Some(pause) = pause(due, UnixMs::now(), waiting_since.elapsed())
            && !self.bell.wait(pause)
        {}
    }

    /// Tells the dispatcher what waits, whoever claimed it, and what does not wait any more.
    fn hand_over(&mut self, now: UnixMs) -> Result<Result<(), Gone>, Error> {
        for (group, id) in self.store.withdrawn_since(self.looked_at)? {
            let event = Event::TaskWithdrawn { group, id: id.to_string() };
            if self.words.send(event.into()).is_err() {
                return Ok(Err(Gone));
            }
        }
        self.looked_at = now;
        loop {
            let claims = self.store.waiting_task_runs(self.seen, TASK_CLAIMS_MAX)?;
            let is_last = claims.len() < TASK_CLAIMS_MAX;
            for claim in claims {
                self.seen = claim.id;
                let task = Task { id: claim.task.to_string(), chat: claim.chat };
                let event = Event::TaskDue { group: claim.folder, task };
                if self.words.send(event.into()).is_err() {
                    return Ok(Err(Gone));
                }
            }
            if is_last {
                return Ok(Ok(()));
            }
        }
    }
}

/// Up to the next look at the clock; `None` where it is time to look at the tasks.
fn pause(due: Option<UnixMs>, now: UnixMs, waited: Duration) -> Option<Duration> {
    let until_look = TASKS_LOOK_INTERVAL.saturating_sub(waited);
    let pause =
        due.map_or(until_look, |due| due.since(now).min(CLOCK_LOOK_INTERVAL).min(until_look));
    (!pause.is_zero()).then_some(pause)
}

/// Claims all that is due; whoever serves the home starts it. Says what was missed for good.
///
/// # Errors
/// A database that cannot be used.
pub fn claim_due(
    store: &mut Store,
    bell: &Doorbell,
    zone: Tz,
    now: UnixMs,
) -> Result<Vec<Claim>, Error> {
    let mut claimed = Vec::new();
    // Asked first, since it takes no lock.
    while store.next_due_at()?.is_some_and(|due| due <= now) {
        let claims = store.claim_due(zone, now, TASK_CLAIMS_MAX)?;
        crate::crash_point("task_claimed");
        for claim in &claims.claimed {
            log::info!("task={} group={} task_run={} claimed", claim.task, claim.folder, claim.id);
        }
        for (task, why) in &claims.paused {
            log::warn!("task={task} paused: {why}");
        }
        for task in &claims.missed {
            log::warn!("task={task} was missed for too long");
            if let Ok(task) = store.task(task.as_str(), None)
                && let Some(notice) =
                    notice::task_left_over(&task, TaskRunStatus::Skipped, now, zone)
            {
                store.enqueue(&notice, now)?;
                bell.ring_others();
            }
        }
        claimed.extend(claims.claimed);
    }
    Ok(claimed)
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, unbounded};

    use super::*;
    use crate::home::Home;
    use crate::ids::{ChatJid, GroupFolder, TaskId};
    use crate::store::{ContextMode, NewTask};

    const ZONE: Tz = Tz::UTC;

    struct World {
        home: Home,
        words: Sender<Word>,
        heard: Receiver<Word>,
        _dir: tempfile::TempDir,
    }

    impl World {
        fn new() -> World {
            let dir = tempfile::tempdir().expect("a directory");
            let home = Home::at(dir.path());
            std::fs::create_dir_all(home.bells()).expect("a directory");
            let (words, heard) = unbounded();
            let world = World { home, words, heard, _dir: dir };
            world.store().ensure_main_group(UnixMs::now()).expect("it is new");
            world
        }

        fn store(&self) -> Store {
            Store::open(&self.home.database()).expect("a database")
        }

        fn scheduler(&self) -> Scheduler {
            let bell = Doorbell::new(&self.home).expect("a bell");
            Scheduler::new(self.store(), bell, self.words.clone(), ZONE)
        }

        fn claims(&self) -> Scheduler {
            let bell = Doorbell::new(&self.home).expect("a bell");
            Scheduler::for_claims(self.store(), bell, self.words.clone(), ZONE).expect("no fault")
        }

        /// A task every hour from `since` on.
        fn task(&self, since: UnixMs) -> TaskId {
            let folder = GroupFolder::main();
            let new = NewTask {
                chat: ChatJid::local(&folder),
                folder,
                prompt: "hello".to_owned(),
                script: None,
                schedule_kind: "interval".to_owned(),
                schedule_value: "1h".to_owned(),
                timezone: None,
                context: ContextMode::Isolated,
                created_by: "cli".to_owned(),
            };
            self.store().create_task(&new, ZONE, since).expect("it is one").id
        }

        /// What the dispatcher was told, by task.
        fn told(&self) -> Vec<(&'static str, String)> {
            self.heard
                .try_iter()
                .map(|word| match word {
                    Word::Event(Event::TaskDue { task, .. }) => ("due", task.id),
                    Word::Event(Event::TaskWithdrawn { id, .. }) => ("withdrawn", id),
                    other => panic!("{other:?}"),
                })
                .collect()
        }
    }

    /// One look, as [`Scheduler::run`] does it again and again.
    fn look(scheduler: Scheduler) {
        let has_looked = std::cell::Cell::new(false);
        scheduler.bell.waker().wake();
        scheduler.run(|| has_looked.replace(true)).expect("no fault");
    }

    fn hours_ago(hours: u32) -> UnixMs {
        UnixMs(UnixMs::now().0 - i64::from(hours) * 3_600_000)
    }

    #[test]
    fn h38_what_is_due_is_told_once_and_taken_up_after_a_restart() {
        let world = World::new();
        let (due, _later) = (world.task(hours_ago(2)), world.task(UnixMs::now()));
        look(world.scheduler());
        assert_eq!(vec![("due", due.to_string())], world.told());
        // Not begun, so the next life of the program begins it.
        look(world.scheduler());
        assert_eq!(vec![("due", due.to_string())], world.told());
    }

    #[test]
    fn a_program_that_is_soon_gone_starts_what_is_claimed_meanwhile_and_nothing_else() {
        let world = World::new();
        let (old, new, _due) = {
            let now = UnixMs::now();
            (world.task(now), world.task(now), world.task(hours_ago(2)))
        };
        world.store().claim_now(&old, UnixMs::now()).expect("nothing runs");
        let scheduler = world.claims();
        world.store().claim_now(&new, UnixMs::now()).expect("nothing runs");
        look(scheduler);
        assert_eq!(vec![("due", new.to_string())], world.told());
    }

    #[test]
    fn h42_a_withdrawal_is_told() {
        let world = World::new();
        let task = world.task(hours_ago(2));
        let scheduler = world.scheduler();
        let now = UnixMs::now();
        let mut store = world.store();
        let bell = Doorbell::new(&world.home).expect("a bell");
        assert_eq!(1, claim_due(&mut store, &bell, ZONE, now).expect("no fault").len());
        store.pause_task(&task, UnixMs::now()).expect("it is there");
        look(scheduler);
        assert_eq!(vec![("withdrawn", task.to_string())], world.told());
    }

    #[test]
    fn it_looks_at_the_clock_every_few_seconds_however_far_the_next_slot_is() {
        let now = UnixMs(1_000_000);
        let due_in = |ms| Some(UnixMs(now.0 + ms));
        let at_once = Duration::ZERO;
        assert_eq!(Some(CLOCK_LOOK_INTERVAL), pause(due_in(3_600_000), now, at_once));
        assert_eq!(Some(Duration::from_millis(7)), pause(due_in(7), now, at_once));
        assert_eq!(None, pause(due_in(0), now, at_once));
        assert_eq!(None, pause(due_in(-1), now, at_once));
        // The clock means nothing where there is no slot.
        assert_eq!(Some(TASKS_LOOK_INTERVAL), pause(None, now, at_once));
        for due in [None, due_in(3_600_000)] {
            assert_eq!(None, pause(due, now, TASKS_LOOK_INTERVAL));
        }
    }
}
