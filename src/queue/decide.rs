//! The state of the queue, and what starts, is fed and is closed.

use std::collections::{BTreeMap, BTreeSet};

use super::group::{Group, Run};
use super::line::Line;
use super::retry::doubled;
use super::{Effect, Event, Limits, Phase, RunKey, Task, Uptime, Work};
use crate::ids::{ChatJid, GroupFolder};

/// The queue. Its size follows the work that waits, runs or failed, not the groups that exist.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(super) limits: Limits,
    /// Of the step in progress, else of the last one.
    pub(super) now: Uptime,
    /// Of the step in progress.
    pub(super) effects: Vec<Effect>,
    pub(super) engine: Engine,
    pub(super) stop: Stop,
    /// Those with work, a run, or failures.
    pub(super) groups: BTreeMap<GroupFolder, Group>,
    /// Groups that could start something if there were a slot: with work and without a run.
    pub(super) line: Line<GroupFolder>,
    /// Whose run is whose.
    pub(super) runs: BTreeMap<RunKey, GroupFolder>,
    /// Idle runs, the longest idle one first.
    pub(super) idle: BTreeSet<(Uptime, RunKey)>,
    /// Open runs with announced messages that nothing keeps back but other groups' need of slots.
    pub(super) hungry: BTreeSet<RunKey>,
    /// How many runs are in [`Phase::Closing`].
    pub(super) closing: usize,
    /// Ends of the pauses in [`Group::retries`].
    pub(super) pauses: BTreeSet<(Uptime, GroupFolder, ChatJid)>,
    next_run: u64,
}

/// Whether sandboxes can be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Engine {
    pub(super) is_ready: bool,
    /// How often in a row it was gone although it counted as there.
    pub(super) failure_count: u32,
    /// No start before that: an engine that answers the question, but starts nothing, must not make
    /// us spin.
    pub(super) until: Uptime,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    Asked { kill_at: Uptime },
    Killed,
    Done,
}

impl Queue {
    /// An empty queue that waits for [`Event::EngineReady`].
    ///
    /// # Panics
    /// If `limits.concurrent_max` is 0: nothing would ever start.
    pub fn new(limits: Limits) -> Queue {
        assert!(limits.concurrent_max > 0, "at least one run at a time");
        Queue {
            limits,
            now: Uptime::default(),
            effects: Vec::new(),
            engine: Engine::default(),
            stop: Stop::No,
            groups: BTreeMap::new(),
            line: Line::default(),
            runs: BTreeMap::new(),
            idle: BTreeSet::new(),
            hungry: BTreeSet::new(),
            closing: 0,
            pauses: BTreeSet::new(),
            next_run: 1,
        }
    }

    /// Takes in what happened at `now` and says what to do about it. Events about runs that have
    /// ended are ignored.
    pub fn step(&mut self, now: Uptime, event: Event) -> Vec<Effect> {
        self.now = now;
        if self.stop == Stop::No {
            self.take_in(event);
        } else {
            self.take_in_while_stopping(&event);
        }
        if self.stop == Stop::No {
            self.serve();
        } else {
            self.finish_stop();
        }
        std::mem::take(&mut self.effects)
    }

    /// When to call [`Queue::step`] at the latest, with [`Event::Tick`]; always after the last
    /// step's `now`.
    pub fn due(&self) -> Option<Uptime> {
        match self.stop {
            Stop::Asked { kill_at } => Some(kill_at),
            Stop::Killed | Stop::Done => None,
            Stop::No => {
                let idle = self.idle.first().map(|(since, _)| since.plus(self.limits.idle_timeout));
                let pause = self.pauses.first().map(|(until, ..)| *until);
                let engine =
                    (self.engine.is_ready && self.now < self.engine.until && !self.line.is_empty())
                        .then_some(self.engine.until);
                [idle, pause, engine].into_iter().flatten().min()
            }
        }
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::EngineReady => self.engine.is_ready = true,
            Event::EngineDown => self.engine.is_ready = false,
            Event::MessagesPending { group, chat } => self.messages_pending(&group, chat),
            Event::TaskDue { group, task } => {
                self.groups.entry(group.clone()).or_default().tasks.join(task);
                self.review(&group);
            }
            Event::TaskWithdrawn { group, id } => self.task_withdrawn(&group, &id),
            Event::Fed { run, idle } => self.reported(run, idle, true),
            Event::TurnEnded { run, idle } => self.reported(run, idle, false),
            Event::RunEnded { run, outcome, pending } => self.run_ended(run, outcome, pending),
            Event::GroupRemoved { group } => self.group_removed(&group),
            Event::RetryNow { group: Some(group) } => self.retry_now(&group),
            Event::RetryNow { group: None } => {
                let groups: Vec<GroupFolder> = self.groups.keys().cloned().collect();
                for group in &groups {
                    self.retry_now(group);
                }
            }
            Event::Tick => {}
            Event::Stop => self.begin_stop(),
            Event::StopNow => self.kill_all(),
        }
    }

    fn messages_pending(&mut self, folder: &GroupFolder, chat: ChatJid) {
        let group = self.groups.entry(folder.clone()).or_default();
        let paused = group.retries.get_mut(&chat).filter(|retry| retry.until.is_some());
        if let Some(run) = group.run.as_mut().filter(|run| run.answers(&chat)) {
            run.has_heard = true;
        } else if let Some(retry) = paused {
            retry.is_pending = true;
        } else {
            group.chats.join(chat);
        }
        self.review(folder);
    }

    fn task_withdrawn(&mut self, folder: &GroupFolder, id: &str) {
        let Some(group) = self.groups.get_mut(folder) else { return };
        let withdrawn: Vec<Task> = group.tasks.iter().filter(|t| t.id == id).cloned().collect();
        for task in &withdrawn {
            group.tasks.leave(task);
        }
        self.review(folder);
    }

    /// A worker said what its run does now.
    fn reported(&mut self, key: RunKey, idle: bool, is_fed: bool) {
        let Some(folder) = self.runs.get(&key).cloned() else { return };
        let run = self.run_mut(key);
        if is_fed {
            run.is_feeding = false;
        }
        if run.phase == Phase::Closing {
            return;
        }
        // A report that crossed a `Feed` on its way does not know of it.
        let phase = if idle && !run.is_feeding { Phase::Idle } else { Phase::Busy };
        self.set_phase(key, phase);
        self.review(&folder);
    }

    /// Puts right what depends on one group's state: after every change of it.
    pub(super) fn review(&mut self, folder: &GroupFolder) {
        let Some(group) = self.groups.get(folder) else { return };
        let Some(run) = &group.run else {
            if group.is_waiting() {
                self.line.join(folder.clone());
            } else {
                self.line.leave(folder);
            }
            if group.is_at_rest() {
                self.groups.remove(folder);
            }
            return;
        };
        let key = run.key;
        let is_wanted_away = group.is_waiting() || matches!(run.work, Work::Task(_));
        if run.phase == Phase::Idle && is_wanted_away {
            self.close(key);
        } else if run.has_heard
            && !run.is_feeding
            && run.phase != Phase::Closing
            && !group.is_waiting()
        {
            self.hungry.insert(key);
        } else {
            self.hungry.remove(&key);
        }
    }

    /// Puts right what depends on time and on all groups together: at the end of every step.
    fn serve(&mut self) {
        self.end_pauses();
        let runs_max = self.limits.concurrent_max + self.limits.runs_ahead;
        while self.can_start() && self.runs.len() < runs_max {
            let Some(folder) = self.line.pop() else { break };
            self.start(folder);
        }
        // Room is made before anybody is fed, so that a chatty run cannot keep its slot.
        while self.slots_lacking() > 0
            && let Some((_, key)) = self.idle.first().copied()
        {
            self.close(key);
        }
        if self.slots_lacking() == 0 {
            // Feeding comes before the idle limit: a message that came just in time is served.
            for key in std::mem::take(&mut self.hungry) {
                self.feed(key);
            }
        }
        while let Some((since, key)) = self.idle.first().copied()
            && since.plus(self.limits.idle_timeout) <= self.now
        {
            self.close(key);
        }
    }

    /// Chats whose pause is over wait like any other.
    fn end_pauses(&mut self) {
        while self.pauses.first().is_some_and(|(until, ..)| *until <= self.now) {
            let Some((_, folder, chat)) = self.pauses.pop_first() else { break };
            let group = self.groups.get_mut(&folder).expect("a group with a pause is known");
            let retry = group.retries.get_mut(&chat).expect("a pause belongs to a retry");
            retry.until = None;
            if std::mem::take(&mut retry.is_pending) {
                group.chats.join(chat);
            } else {
                group.retries.remove(&chat);
            }
            self.review(&folder);
        }
    }

    fn can_start(&self) -> bool {
        self.engine.is_ready && self.engine.until <= self.now
    }

    /// How many wait for a sandbox's place that no closing run is about to free: groups in line, and
    /// runs that are started ahead.
    pub fn slots_lacking(&self) -> usize {
        let ahead = self.runs.len().saturating_sub(self.limits.concurrent_max);
        let waiting = self.line.len() + ahead;
        if self.can_start() { waiting.saturating_sub(self.closing) } else { 0 }
    }

    fn start(&mut self, folder: GroupFolder) {
        let group = self.groups.get_mut(&folder).expect("a group in line is known");
        let work = group.take_work().expect("a group in line has work");
        let key = RunKey(self.next_run);
        self.next_run += 1;
        group.run = Some(Run::new(key, work.clone(), self.now));
        self.runs.insert(key, folder.clone());
        self.effects.push(Effect::Start { run: key, group: folder, work });
    }

    fn feed(&mut self, key: RunKey) {
        let run = self.run_mut(key);
        run.has_heard = false;
        run.is_feeding = true;
        self.set_phase(key, Phase::Busy);
        self.effects.push(Effect::Feed { run: key });
    }

    pub(super) fn close(&mut self, key: RunKey) {
        self.hungry.remove(&key);
        self.set_phase(key, Phase::Closing);
        self.effects.push(Effect::Close { run: key });
    }

    /// Keeps `idle` and `closing` true to the runs. A further idle report is a further turn that
    /// ended, so idle time starts anew; the other phases keep their beginning.
    fn set_phase(&mut self, key: RunKey, phase: Phase) {
        let now = self.now;
        let run = self.run_mut(key);
        let (old, since) = (run.phase, run.since);
        if old != phase || phase == Phase::Idle {
            (run.phase, run.since) = (phase, now);
        }
        if old == Phase::Idle {
            self.idle.remove(&(since, key));
        }
        match phase {
            Phase::Idle => {
                self.idle.insert((now, key));
            }
            Phase::Closing if old != Phase::Closing => self.closing += 1,
            Phase::Busy | Phase::Closing => {}
        }
    }

    fn run_mut(&mut self, key: RunKey) -> &mut Run {
        let folder = self.runs.get(&key).expect("callers have a known run");
        let group = self.groups.get_mut(folder).expect("a group with a run is known");
        group.run.as_mut().expect("a known run is its group's run")
    }

    /// A run found the engine gone.
    pub(super) fn engine_gone(&mut self, error: String) {
        if !self.engine.is_ready {
            return;
        }
        let nth = self.engine.failure_count.saturating_add(1);
        let pause = doubled(self.limits.engine_retry_first, nth).min(self.limits.engine_retry_max);
        self.engine = Engine { is_ready: false, failure_count: nth, until: self.now.plus(pause) };
        self.effects.push(Effect::AskEngine { error });
    }
}
