//! A world around the queue: a store, workers with sandboxes, a scheduler, an engine, and time.
//!
//! Everybody here is honest but slow: what was committed, announced, ordered and reported may lie
//! on its way for as long as the history likes, and sandboxes end when they like.

use std::collections::{BTreeMap, VecDeque};

use super::judge::Judge;
use super::*;

/// One thing that may happen next. Numbers choose among what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// A message is committed; its announcement sets out.
    Message(usize),
    /// A task of this group is due.
    Due(usize),
    /// The newest task of this group is withdrawn.
    Withdraw(usize),
    /// The next announcement arrives.
    Post,
    /// A worker does its next thing, well.
    Work(usize),
    /// A worker's sandbox fails.
    Fail(usize, FailureKind),
    /// A worker that was about to start finds no engine.
    NoEngine(usize),
    /// A worker's next report arrives.
    Report(usize),
    /// The time for which the queue asked comes.
    Tick,
    /// Seconds pass unnoticed.
    Pass(u64),
    /// The engine comes or goes.
    Engine(bool),
    Remove(usize),
    Retry,
    Stop,
    StopNow,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) queue: Queue,
    judge: Judge,
    concurrent_max: usize,
    now: Uptime,
    chats: Vec<Stored>,
    tasks_made: usize,
    post: VecDeque<Event>,
    workers: BTreeMap<RunKey, Worker>,
}

/// A chat in the store: how many messages it got, and how many of them are settled.
#[derive(Clone, Debug)]
struct Stored {
    group: GroupFolder,
    chat: ChatJid,
    arrived: u64,
    settled: u64,
}

#[derive(Clone, Debug)]
struct Worker {
    work: Work,
    state: State,
    orders: VecDeque<Effect>,
    reports: VecDeque<Event>,
    /// Messages up to this are in the sandbox.
    taken: u64,
    /// Messages up to this are in the turn.
    in_turn: u64,
    has_settled: bool,
    is_closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Turn,
    Idle,
    Over,
}

pub(super) const GROUPS: [&str; 3] = ["a", "b", "c"];

impl World {
    /// Three groups with two chats each.
    pub(super) fn new(concurrent_max: usize, runs_ahead: usize) -> World {
        let limits = limits(concurrent_max, runs_ahead);
        let stored = |group: &str, chat| Stored {
            group: folder(group),
            chat: chat_of(group, chat),
            arrived: 0,
            settled: 0,
        };
        World {
            queue: Queue::new(limits.clone()),
            judge: Judge::new(limits),
            concurrent_max,
            now: Uptime::default(),
            chats: GROUPS.iter().flat_map(|group| ["x", "y"].map(|c| stored(group, c))).collect(),
            tasks_made: 0,
            post: VecDeque::new(),
            workers: BTreeMap::new(),
        }
    }

    /// Lets it happen; false if it cannot happen now.
    pub(super) fn turn(&mut self, choice: Choice) -> bool {
        let group = |n: usize| folder(GROUPS[n % GROUPS.len()]);
        match choice {
            Choice::Message(n) => {
                let count = self.chats.len();
                let stored = &mut self.chats[n % count];
                stored.arrived += 1;
                let (group, chat) = (stored.group.clone(), stored.chat.clone());
                self.post.push_back(Event::MessagesPending { group, chat });
            }
            Choice::Due(n) => {
                self.tasks_made += 1;
                let task = task_of(GROUPS[n % GROUPS.len()], &format!("t{}", self.tasks_made));
                self.post.push_back(Event::TaskDue { group: group(n), task });
            }
            Choice::Withdraw(n) => {
                let id = format!("t{}", self.tasks_made);
                self.post.push_back(Event::TaskWithdrawn { group: group(n), id });
            }
            Choice::Post => {
                let Some(event) = self.post.pop_front() else { return false };
                self.step(&event);
            }
            Choice::Report(n) => return self.report(n),
            Choice::Work(n) => return self.nth_worker(n).is_some_and(|key| self.work(key)),
            Choice::Fail(n, kind) => return self.nth_worker(n).is_some_and(|k| self.fail(k, kind)),
            Choice::NoEngine(n) => {
                let Some(key) = self.nth_worker(n) else { return false };
                if self.workers[&key].state != State::Starting {
                    return false;
                }
                self.end(key, Outcome::EngineDown("gone".to_owned()));
            }
            Choice::Tick => {
                let Some(due) = self.queue.due() else { return false };
                self.now = self.now.max(due);
                self.step(&Event::Tick);
            }
            Choice::Pass(seconds) => self.now = self.now.plus(Duration::from_secs(seconds)),
            Choice::Engine(true) => self.post.push_back(Event::EngineReady),
            Choice::Engine(false) => self.post.push_back(Event::EngineDown),
            Choice::Remove(n) => {
                for stored in self.chats.iter_mut().filter(|stored| stored.group == group(n)) {
                    stored.settled = stored.arrived;
                }
                self.post.push_back(Event::GroupRemoved { group: group(n) });
            }
            Choice::Retry => self.post.push_back(Event::RetryNow { group: None }),
            Choice::Stop => self.post.push_back(Event::Stop),
            Choice::StopNow => self.post.push_back(Event::StopNow),
        }
        true
    }

    /// Everything goes well from here on: at the end nothing may be left over.
    pub(super) fn drain(mut self) {
        self.post.push_back(Event::EngineReady);
        for _ in 0..10_000 {
            let busy = self.turn(Choice::Post)
                || (0..self.workers.len()).any(|n| self.turn(Choice::Report(n)))
                || (0..self.workers.len()).any(|n| self.turn(Choice::Work(n)))
                || self.turn(Choice::Tick);
            if !busy {
                break;
            }
        }
        assert!(self.workers.is_empty(), "a run is left over: {:?}", self.workers);
        if self.judge.stopped {
            return;
        }
        for chat in &self.chats {
            assert_eq!(chat.arrived, chat.settled, "lost in {}", chat.chat);
        }
        let queue = &self.queue;
        assert!(queue.groups.is_empty() && queue.line.is_empty(), "remembers: {queue:?}");
        assert!(queue.runs.is_empty() && queue.pauses.is_empty(), "remembers: {queue:?}");
        assert!(queue.idle.is_empty() && queue.hungry.is_empty(), "remembers: {queue:?}");
        assert_eq!(0, queue.closing);
    }

    fn step(&mut self, event: &Event) {
        let effects = self.queue.step(self.now, event.clone());
        self.judge.judge(self.now, event, &effects, &self.queue);
        for effect in effects {
            match &effect {
                Effect::Start { run, work, .. } => {
                    self.workers.insert(*run, Worker::new(work.clone()));
                }
                Effect::Feed { run } | Effect::Close { run } | Effect::Kill { run } => {
                    // Orders for a worker whose end is on its way are not heeded.
                    if let Some(worker) = self.workers.get_mut(run) {
                        worker.orders.push_back(effect);
                    }
                }
                Effect::GiveUp { chat, .. } => {
                    let stored = self.stored(chat);
                    stored.settled = stored.arrived;
                }
                Effect::AskEngine { .. } => self.post.push_back(Event::EngineReady),
                Effect::Notify { .. } | Effect::Stopped => {}
            }
        }
    }

    fn nth_worker(&self, n: usize) -> Option<RunKey> {
        self.workers.keys().nth(n % self.workers.len().max(1)).copied()
    }

    fn stored(&mut self, chat: &ChatJid) -> &mut Stored {
        self.chats.iter_mut().find(|stored| stored.chat == *chat).expect("all chats are stored")
    }

    fn report(&mut self, n: usize) -> bool {
        let Some(key) = self.nth_worker(n) else { return false };
        let worker = self.workers.get_mut(&key).expect("it is there");
        let Some(report) = worker.reports.pop_front() else { return false };
        if worker.state == State::Over && worker.reports.is_empty() {
            self.workers.remove(&key);
        }
        self.step(&report);
        true
    }

    fn work(&mut self, key: RunKey) -> bool {
        let worker = self.workers[&key].clone();
        let newest = match &worker.work {
            Work::Chat(chat) => self.stored(chat).arrived,
            Work::Task(_) => 1,
        };
        let settled = match &worker.work {
            Work::Chat(chat) => self.stored(chat).settled,
            Work::Task(_) => 0,
        };
        match (worker.state, worker.orders.front()) {
            (State::Idle, None) if worker.is_closing => self.end(key, Outcome::Succeeded),
            (State::Over, _) | (State::Idle, None) => return false,
            (State::Starting, order) if self.sandboxes() == self.concurrent_max => match order {
                None => return false,
                Some(Effect::Feed { .. }) => {
                    self.order_done(key);
                    self.worker(key).reports.push_back(Event::Fed { run: key, idle: false });
                }
                Some(_) => self.end_with(key, Outcome::NothingToDo, false),
            },
            (State::Starting, _) if newest == settled => self.end(key, Outcome::NothingToDo),
            (State::Starting, _) => self.begin_turn(key, newest),
            (_, Some(Effect::Kill { .. })) => return self.fail(key, FailureKind::Other),
            (state, Some(Effect::Feed { .. })) => {
                self.order_done(key);
                let is_new = worker.taken < newest && !worker.is_closing;
                if is_new {
                    self.worker(key).taken = newest;
                }
                if state == State::Idle && is_new {
                    self.begin_turn(key, newest);
                }
                let idle = state == State::Idle && !is_new;
                self.worker(key).reports.push_back(Event::Fed { run: key, idle });
            }
            (state, Some(_)) => {
                self.order_done(key);
                self.worker(key).is_closing = true;
                if state == State::Idle {
                    self.end(key, Outcome::Succeeded);
                }
            }
            (State::Turn, None) => self.end_turn(key),
        }
        true
    }

    fn begin_turn(&mut self, key: RunKey, newest: u64) {
        let worker = self.worker(key);
        (worker.state, worker.taken, worker.in_turn) = (State::Turn, newest, newest);
    }

    fn end_turn(&mut self, key: RunKey) {
        let worker = self.worker(key);
        worker.has_settled = true;
        let (work, in_turn, is_unread) =
            (worker.work.clone(), worker.in_turn, worker.in_turn < worker.taken);
        if let Work::Chat(chat) = &work {
            let stored = self.stored(chat);
            stored.settled = stored.settled.max(in_turn);
        }
        let is_task = matches!(work, Work::Task(_));
        let is_lacking = 0 < self.queue.slots_lacking();
        let worker = self.worker(key);
        if worker.is_closing {
            // What is unread is taken back.
            return self.end(key, Outcome::Succeeded);
        }
        worker.in_turn = worker.taken;
        worker.state = if is_unread { State::Turn } else { State::Idle };
        // Need not be told when it is clear.
        worker.is_closing = !is_unread && (is_task || is_lacking);
        worker.reports.push_back(Event::TurnEnded { run: key, idle: !is_unread });
    }

    fn fail(&mut self, key: RunKey, kind: FailureKind) -> bool {
        let worker = &self.workers[&key];
        if worker.state == State::Over {
            return false;
        }
        let progress = worker.has_settled;
        self.end(key, Outcome::Failed { progress, kind, error: "boom".to_owned() });
        true
    }

    fn end(&mut self, key: RunKey, outcome: Outcome) {
        let pending = match self.workers[&key].work.clone() {
            Work::Chat(chat) => self.stored(&chat).settled < self.stored(&chat).arrived,
            Work::Task(_) => false,
        };
        self.end_with(key, outcome, pending);
    }

    fn end_with(&mut self, key: RunKey, outcome: Outcome, pending: bool) {
        let worker = self.worker(key);
        worker.state = State::Over;
        worker.reports.push_back(Event::RunEnded { run: key, outcome, pending });
    }

    /// How many live.
    fn sandboxes(&self) -> usize {
        let lives = |worker: &&Worker| matches!(worker.state, State::Turn | State::Idle);
        self.workers.values().filter(lives).count()
    }

    fn order_done(&mut self, key: RunKey) {
        self.worker(key).orders.pop_front();
    }

    fn worker(&mut self, key: RunKey) -> &mut Worker {
        self.workers.get_mut(&key).expect("callers have a known worker")
    }
}

impl Worker {
    fn new(work: Work) -> Worker {
        Worker {
            work,
            state: State::Starting,
            orders: VecDeque::new(),
            reports: VecDeque::new(),
            taken: 0,
            in_turn: 0,
            has_settled: false,
            is_closing: false,
        }
    }
}
