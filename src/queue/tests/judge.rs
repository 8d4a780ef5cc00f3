//! A second statement of the rules: judges every step by what the queue was told and answered.
//!
//! It scans where the queue keeps indexes, so both are unlikely to be wrong in the same way.

use std::collections::{BTreeMap, BTreeSet};

use super::super::group::PASSED_BY_MAX;
use super::*;

/// What was seen so far.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    limits: Limits,
    now: Uptime,
    step: u64,
    engine_is_ready: bool,
    /// Until then the queue may hold back starts although the engine says that it is there.
    engine_doubt_until: Uptime,
    runs: BTreeMap<RunKey, Seen>,
    newest_run: RunKey,
    /// Could start, by group.
    tasks: BTreeSet<(GroupFolder, Task)>,
    chats: BTreeSet<(GroupFolder, ChatJid)>,
    /// The step in which a group began to wait for a slot.
    in_line: BTreeMap<GroupFolder, u64>,
    streaks: BTreeMap<(GroupFolder, ChatJid), Streak>,
    /// Tasks of a group that were started while a chat of it waited.
    passed_by: BTreeMap<GroupFolder, u32>,
    /// Notices and dead letters of the step in progress.
    said: Vec<Effect>,
    /// When to kill.
    stop: Option<Uptime>,
    pub(super) stopped: bool,
}

#[derive(Clone, Debug)]
struct Seen {
    group: GroupFolder,
    work: Work,
    idle_since: Option<Uptime>,
    heard: bool,
    feeding: bool,
    removed: bool,
    told: Told,
}

/// The strongest that a run was told about its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    Close,
    Kill,
}

#[derive(Clone, Debug, Default)]
struct Streak {
    failures: u32,
    noticed: bool,
    not_before: Uptime,
    pending: bool,
}

impl Judge {
    pub(super) fn new(limits: Limits) -> Judge {
        Judge {
            limits,
            now: Uptime::default(),
            step: 0,
            engine_is_ready: false,
            engine_doubt_until: Uptime::default(),
            runs: BTreeMap::new(),
            newest_run: RunKey(0),
            tasks: BTreeSet::new(),
            chats: BTreeSet::new(),
            in_line: BTreeMap::new(),
            streaks: BTreeMap::new(),
            passed_by: BTreeMap::new(),
            said: Vec::new(),
            stop: None,
            stopped: false,
        }
    }

    pub(super) fn judge(&mut self, now: Uptime, event: &Event, effects: &[Effect], queue: &Queue) {
        (self.now, self.step) = (now, self.step + 1);
        let was_stopped = self.stopped;
        self.take_in(event);
        self.end_pauses();
        self.update_line();
        let is_talk = |e: &&Effect| matches!(e, Effect::GiveUp { .. } | Effect::Notify { .. });
        let said: Vec<Effect> = effects.iter().filter(is_talk).cloned().collect();
        assert_eq!(std::mem::take(&mut self.said), said, "what is said");
        for effect in effects {
            assert!(!was_stopped, "{effect:?} after the end");
            self.see(effect);
        }
        self.update_line();
        if let Some(kill_at) = self.stop {
            assert_eq!(self.runs.is_empty(), self.stopped, "a stop ends with the last run");
            let is_time = kill_at <= self.now;
            assert!(
                self.runs.values().all(|run| (run.told == Told::Kill) == is_time),
                "all are killed in time"
            );
            assert!(self.runs.values().all(|run| run.told > Told::Nothing), "a stop closes all");
            assert!(is_time || self.stopped || queue.due() == self.stop, "the kill is due");
        } else {
            self.check_nothing_is_left_undone(queue);
        }
    }

    fn take_in(&mut self, event: &Event) {
        match event {
            Event::RunEnded { run, outcome, pending } => self.run_ended(*run, outcome, *pending),
            Event::StopNow => {
                self.stop = Some(self.stop.map_or(self.now, |kill_at| kill_at.min(self.now)));
            }
            _ if self.stop.is_some() => {}
            Event::EngineReady => self.engine_is_ready = true,
            Event::EngineDown => self.engine_is_ready = false,
            Event::MessagesPending { group, chat } => self.announced(group, chat),
            Event::TaskDue { group, task } => {
                self.tasks.insert((group.clone(), task.clone()));
            }
            Event::TaskWithdrawn { group, id } => {
                self.tasks.retain(|(owner, task)| owner != group || task.id != *id);
            }
            Event::Fed { run, idle } | Event::TurnEnded { run, idle } => {
                let Some(run) = self.runs.get_mut(run) else { return };
                run.feeding &= !matches!(event, Event::Fed { .. });
                run.idle_since = (*idle && !run.feeding).then_some(self.now);
            }
            Event::GroupRemoved { group } => {
                self.tasks.retain(|(owner, _)| owner != group);
                self.chats.retain(|(owner, _)| owner != group);
                self.passed_by.remove(group);
                self.streaks.retain(|(owner, _), _| owner != group);
                if let Some(run) = self.runs.values_mut().find(|run| run.group == *group) {
                    (run.heard, run.feeding, run.removed) = (false, false, true);
                }
            }
            Event::RetryNow { group } => {
                for (key, streak) in std::mem::take(&mut self.streaks) {
                    if group.as_ref().is_some_and(|group| *group != key.0) {
                        self.streaks.insert(key, streak);
                    } else if streak.pending {
                        self.chats.insert(key);
                    }
                }
            }
            Event::Tick => {}
            Event::Stop => self.stop = Some(self.now.plus(self.limits.stop_grace)),
        }
    }

    fn announced(&mut self, group: &GroupFolder, chat: &ChatJid) {
        let key = (group.clone(), chat.clone());
        let work = Work::Chat(chat.clone());
        let own = self.runs.values_mut().find(|run| run.group == *group && run.work == work);
        let streak = self.streaks.get_mut(&key).filter(|streak| self.now < streak.not_before);
        // A pause that ends in this very step counts as over or not: both lead to a start.
        match (own, streak) {
            (Some(run), _) => run.heard = true,
            (None, Some(streak)) => streak.pending = true,
            (None, None) => {
                self.chats.insert(key);
            }
        }
    }

    fn run_ended(&mut self, key: RunKey, outcome: &Outcome, pending: bool) {
        let Some(run) = self.runs.remove(&key) else { return };
        if self.stop.is_some() {
            return;
        }
        let chat = match run.work {
            Work::Chat(chat) => (run.group, chat),
            Work::Task(task) => {
                if matches!(outcome, Outcome::EngineDown(_)) && !run.removed {
                    self.tasks.insert((run.group, task));
                }
                return;
            }
        };
        let heard = run.heard || run.feeding;
        match outcome {
            _ if run.removed => {
                if run.heard {
                    self.chats.insert(chat);
                }
            }
            Outcome::NothingToDo if pending => self.failed(chat, FailureKind::Other, None),
            Outcome::Failed { progress, kind, error } if pending || heard => {
                if *progress || !pending {
                    self.streaks.remove(&chat);
                }
                self.failed(chat, *kind, Some(error));
            }
            _ => {
                if !matches!(outcome, Outcome::EngineDown(_)) || !(pending || heard) {
                    self.streaks.remove(&chat);
                }
                if pending || heard {
                    self.chats.insert(chat);
                }
            }
        }
    }

    fn failed(&mut self, key: (GroupFolder, ChatJid), kind: FailureKind, error: Option<&String>) {
        let error = error.map_or("messages are pending, but nothing was found to do", |e| e);
        let (group, chat) = key.clone();
        let streak = self.streaks.entry(key).or_default();
        streak.failures += 1;
        let attempts = streak.failures;
        let retry = attempts.min(self.limits.retries_max);
        let until = self.now.plus(self.limits.retry_first * (1 << (retry - 1)));
        if attempts == self.limits.retries_max + 1 {
            let notice = !streak.noticed;
            self.said.push(Effect::GiveUp {
                group,
                chat,
                attempts,
                error: error.to_owned(),
                notice,
            });
            *streak = Streak::default();
        } else {
            let by_person = [FailureKind::Credential, FailureKind::Billing].contains(&kind);
            if by_person && !streak.noticed {
                self.said.push(Effect::Notify { group, chat, kind, error: error.to_owned() });
                streak.noticed = true;
            }
            streak.pending = true;
        }
        streak.not_before = until;
    }

    fn end_pauses(&mut self) {
        for (key, streak) in &mut self.streaks {
            if streak.not_before <= self.now && std::mem::take(&mut streak.pending) {
                self.chats.insert(key.clone());
            }
        }
    }

    fn see(&mut self, effect: &Effect) {
        match effect {
            Effect::Start { run, group, work } => self.started(*run, group, work),
            Effect::Feed { run } => {
                let seen = self.runs.get(run).expect("only known runs are fed");
                assert!(self.stop.is_none() && seen.told == Told::Nothing, "no feed after a close");
                assert!(matches!(seen.work, Work::Chat(_)), "no messages into a task");
                assert!(seen.heard && !seen.feeding, "one feed at a time, and not for nothing");
                let is_lacking = self.is_certain() && self.slots_lacking() > 0;
                assert!(!self.is_waiting(&seen.group) && !is_lacking, "others wait for the slot");
                let seen = self.runs.get_mut(run).expect("it was there");
                (seen.heard, seen.feeding, seen.idle_since) = (false, true, None);
            }
            Effect::Close { run } => self.closed(*run),
            Effect::Kill { run } => {
                assert!(self.stop.is_some_and(|kill_at| kill_at <= self.now), "too early");
                let run = self.runs.get_mut(run).expect("only known runs are killed");
                let told = std::mem::replace(&mut run.told, Told::Kill);
                assert!(told < Told::Kill, "killed once");
            }
            Effect::GiveUp { .. } | Effect::Notify { .. } => {}
            Effect::AskEngine { .. } => {
                assert!(std::mem::take(&mut self.engine_is_ready), "asked once");
                self.engine_doubt_until = self.now.plus(self.limits.engine_retry_max);
            }
            Effect::Stopped => {
                assert!(self.stop.is_some() && self.runs.is_empty());
                self.stopped = true;
            }
        }
    }

    fn started(&mut self, key: RunKey, group: &GroupFolder, work: &Work) {
        assert!(self.engine_is_ready && self.stop.is_none(), "nothing may start");
        assert!(self.newest_run < key, "a name is used once");
        self.newest_run = key;
        assert!(self.runs.len() < self.runs_max(), "too many");
        assert!(self.runs.values().all(|run| run.group != *group), "one per group");
        let since = self.in_line.remove(group).expect("only who waits is started");
        assert!(self.in_line.values().all(|other| since <= *other), "another group was first");
        let passed_by = self.passed_by.remove(group).unwrap_or_default();
        let has_task = self.tasks.iter().any(|(owner, _)| owner == group);
        let has_chat = self.chats.iter().any(|(owner, _)| owner == group);
        match work {
            Work::Chat(chat) => {
                assert!(!has_task || passed_by == PASSED_BY_MAX, "tasks come first");
                let chat = (group.clone(), chat.clone());
                assert!(self.chats.remove(&chat), "nobody asked for it");
                let streak = self.streaks.get(&chat);
                assert!(streak.is_none_or(|streak| streak.not_before <= self.now), "in a pause");
            }
            Work::Task(task) => {
                assert!(passed_by < PASSED_BY_MAX, "enough tasks for now");
                if has_chat {
                    self.passed_by.insert(group.clone(), passed_by + 1);
                }
                assert!(self.tasks.remove(&(group.clone(), task.clone())), "not due");
            }
        }
        let seen = Seen {
            group: group.clone(),
            work: work.clone(),
            idle_since: None,
            heard: false,
            feeding: false,
            removed: false,
            told: Told::Nothing,
        };
        self.runs.insert(key, seen);
    }

    fn closed(&mut self, key: RunKey) {
        let run = self.runs.get(&key).expect("only known runs are closed");
        assert!(run.told == Told::Nothing, "asked once");
        if self.stop.is_none() && !run.removed {
            let since = run.idle_since.expect("a busy run is never closed");
            let over = since.plus(self.limits.idle_timeout) <= self.now;
            let is_task = matches!(run.work, Work::Task(_));
            if !over && !is_task && !self.is_waiting(&run.group) {
                assert!(self.slots_lacking() > 0, "nobody needs the slot");
                let is_older =
                    |other: &Seen| other.told == Told::Nothing && other.idle_since < Some(since);
                let mut idle = self.runs.values().filter(|other| other.idle_since.is_some());
                assert!(!idle.any(is_older), "another one is idle for longer");
            }
        }
        self.runs.get_mut(&key).expect("it was there").told = Told::Close;
    }

    fn is_waiting(&self, group: &GroupFolder) -> bool {
        self.tasks.iter().any(|(owner, _)| owner == group)
            || self.chats.iter().any(|(owner, _)| owner == group)
    }

    fn groups_in_line(&self) -> BTreeSet<&GroupFolder> {
        let tasks = self.tasks.iter().map(|(group, _)| group);
        let waiting = tasks.chain(self.chats.iter().map(|(group, _)| group));
        waiting.filter(|&group| self.runs.values().all(|run| run.group != *group)).collect()
    }

    fn update_line(&mut self) {
        let old = std::mem::take(&mut self.in_line);
        let since = |group: &GroupFolder| old.get(group).copied().unwrap_or(self.step);
        self.in_line =
            self.groups_in_line().into_iter().map(|group| (group.clone(), since(group))).collect();
    }

    /// How many groups and runs could use a sandbox's place that no closing run frees.
    fn slots_lacking(&self) -> usize {
        let closing = self.runs.values().filter(|run| run.told > Told::Nothing).count();
        let ahead = self.runs.len().saturating_sub(self.limits.concurrent_max);
        let waiting = if self.engine_is_ready { self.groups_in_line().len() + ahead } else { 0 };
        waiting.saturating_sub(closing)
    }

    fn runs_max(&self) -> usize {
        self.limits.concurrent_max + self.limits.runs_ahead
    }

    /// Whether the queue has no reason to hold back starts.
    fn is_certain(&self) -> bool {
        self.engine_is_ready && self.engine_doubt_until <= self.now
    }

    fn check_nothing_is_left_undone(&self, queue: &Queue) {
        let waiting = queue.snapshot(self.now).waiting;
        let chats =
            waiting.iter().flat_map(|w| w.chats.iter().map(|c| (w.group.clone(), c.clone())));
        assert_eq!(self.chats, chats.collect(), "who waits");
        let due = queue.due();
        assert!(due.is_none_or(|due| self.now < due), "would spin");
        let wakes_by = |time: Uptime| due.is_some_and(|due| due <= time);
        if self.is_certain() {
            let is_full = self.runs.len() == self.runs_max();
            assert!(is_full || self.in_line.is_empty(), "a slot is free and somebody waits");
        }
        let is_lacking = self.slots_lacking() > 0;
        for run in self.runs.values().filter(|run| run.told == Told::Nothing) {
            let is_blocked = self.is_waiting(&run.group);
            if let Some(since) = run.idle_since {
                let is_in_the_way = is_blocked || (is_lacking && self.is_certain());
                assert!(!is_in_the_way, "somebody waits behind an idle run");
                assert!(matches!(run.work, Work::Chat(_)), "an idle task");
                assert!(wakes_by(since.plus(self.limits.idle_timeout)), "idle for ever");
            }
            let should_eat = run.heard && !run.feeding && !is_blocked && !is_lacking;
            assert!(!should_eat, "a message is kept back for nobody");
        }
        for streak in self.streaks.values().filter(|streak| streak.pending) {
            assert!(wakes_by(streak.not_before), "a retry is forgotten");
        }
    }
}
