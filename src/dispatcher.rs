//! The thread around [`crate::queue`]: it owns who runs next and does nothing else. Events come
//! in from the poller, the scheduler, the engine and the workers; effects go out as jobs to the
//! pool of workers and as words to the runs that live. It never waits for anybody: towards a run
//! or the pool it only tries.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, at, bounded, never, select_biased};

use crate::agent::notice;
use crate::agent::{Control, Job, Shared};
use crate::doorbell::Doorbell;
use crate::ids::UnixMs;
use crate::queue::{Effect, Event, Limits, Queue, RunKey, Uptime};
use crate::sandbox::Engine;
use crate::store;

/// What the dispatcher is told.
#[derive(Debug)]
pub enum Word {
    /// Something happened that the queue decides on.
    Event(Event),
    /// The sandbox engine answers; runs start in it from now on.
    Engine(Box<Engine>),
}

impl From<Event> for Word {
    fn from(event: Event) -> Word {
        Word::Event(event)
    }
}

/// What the dispatcher owns.
pub struct Dispatcher {
    queue: Queue,
    engine: Option<Engine>,
    /// The ears of the runs that live.
    runs: BTreeMap<RunKey, Sender<Control>>,
    jobs: Sender<Job>,
    shared: Arc<Shared>,
    ask_engine: Sender<()>,
    started_at: Instant,
}

impl Dispatcher {
    /// A dispatcher with an empty queue. `jobs` must have room for as many as `limits` lets run.
    pub fn new(
        limits: Limits,
        jobs: Sender<Job>,
        shared: Arc<Shared>,
        ask_engine: Sender<()>,
    ) -> Dispatcher {
        Dispatcher {
            queue: Queue::new(limits),
            engine: None,
            runs: BTreeMap::new(),
            jobs,
            shared,
            ask_engine,
            started_at: Instant::now(),
        }
    }

    /// Serves until the queue has stopped or everybody who could speak is gone.
    pub fn run(mut self, words: &Receiver<Word>) {
        loop {
            let timer = self.queue.due().map_or_else(never, |due| at(self.started_at + due.0));
            let event = select_biased! {
                recv(timer) -> _ => Event::Tick,
                recv(words) -> word => match word {
                    Ok(Word::Event(event)) => event,
                    Ok(Word::Engine(engine)) => {
                        self.engine = Some(*engine);
                        Event::EngineReady
                    }
                    Err(_) => return,
                },
            };
            log::debug!("event={event:?}");
            if let Event::RunEnded { run, .. } = &event {
                self.runs.remove(run);
            }
            let now = self.now();
            for effect in self.queue.step(now, event) {
                log::debug!("effect={effect:?}");
                if self.perform(effect).is_break() {
                    return;
                }
            }
            self.shared.places.set_lacking(self.queue.slots_lacking());
        }
    }

    fn now(&self) -> Uptime {
        Uptime(self.started_at.elapsed())
    }

    fn perform(&mut self, effect: Effect) -> ControlFlow<()> {
        match effect {
            Effect::Start { run, group, work } => {
                let (to, control) = bounded(CONTROLS_MAX);
                let engine =
                    self.engine.clone().expect("the queue starts nothing before EngineReady");
                self.runs.insert(run, to);
                self.jobs
                    .try_send(Job { run, group, work, engine, control })
                    .expect("there is room for as many jobs as runs, and workers outlive us");
            }
            Effect::Feed { run } => self.tell(run, Control::Feed),
            Effect::Close { run } => self.tell(run, Control::Close),
            Effect::Kill { run } => self.tell(run, Control::Kill),
            Effect::GiveUp { group, chat, attempts, error, notice: with_notice } => {
                log::error!("gave up chat={chat} group={group} attempts={attempts} error={error}");
                let notice = with_notice.then(|| notice::gave_up(&chat, attempts, &error));
                let now = UnixMs::now();
                let done = self.shared.store.durably(|store| {
                    store.give_up(&chat, &group, attempts, &error, notice.as_ref(), now)
                });
                self.said("give up", done.map(drop));
            }
            Effect::Notify { group, chat, kind, error } => {
                log::error!("cannot answer chat={chat} group={group} kind={kind:?} error={error}");
                let notice = notice::cannot(&chat, kind, &error);
                let done = self.shared.store.durably(|store| store.enqueue(&notice, UnixMs::now()));
                self.said("give notice", done.map(drop));
            }
            Effect::AskEngine { error } => {
                log::warn!("the sandbox engine seems to be gone: {error}");
                // One question that waits is enough.
                self.ask_engine.try_send(()).ok();
            }
            Effect::Stopped => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// A run that does not listen any more is about to say that it ended.
    fn tell(&self, run: RunKey, control: Control) {
        if let Some(Err(refused)) = self.runs.get(&run).map(|to| to.try_send(control)) {
            log::debug!("run={run:?} does not listen: {refused}");
        }
    }

    fn said(&self, doing: &str, done: Result<(), store::Error>) {
        match done {
            Ok(()) => Doorbell::ring(&self.shared.home),
            // The messages stay pending; the next start finds them.
            Err(error) => log::error!("cannot {doing}: {error}"),
        }
    }
}

/// Words to one run that may wait: the queue has one feed under way at most, closes once and
/// kills once, and a stop may repeat the last two.
const CONTROLS_MAX: usize = 8;
