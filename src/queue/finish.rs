//! What ends: runs, streaks of failures, groups, and the queue itself.

use super::decide::{Engine, Queue, Stop};
use super::group::Group;
use super::retry::Verdict;
use super::{Effect, Event, FailureKind, Outcome, Phase, RunKey, Work};
use crate::ids::{ChatJid, GroupFolder};

impl Queue {
    pub(super) fn run_ended(&mut self, key: RunKey, outcome: Outcome, pending: bool) {
        let Some(folder) = self.runs.remove(&key) else { return };
        let group = self.groups.get_mut(&folder).expect("a group with a run is known");
        let run = group.run.take().expect("a known run is its group's run");
        self.hungry.remove(&key);
        match run.phase {
            Phase::Busy => {}
            Phase::Idle => {
                self.idle.remove(&(run.since, key));
            }
            Phase::Closing => self.closing -= 1,
        }
        if let Outcome::Succeeded | Outcome::Failed { .. } = outcome {
            // It had a sandbox, so the engine works.
            self.engine = Engine { failure_count: 0, ..self.engine };
        }
        if let Outcome::EngineDown(error) = &outcome {
            self.engine_gone(error.clone());
        }
        match run.work {
            Work::Task(task) => {
                // Its result is the scheduler's matter; but this one was not begun.
                if matches!(outcome, Outcome::EngineDown(_)) && !run.is_orphan {
                    self.group(&folder).tasks.join(task);
                }
            }
            Work::Chat(chat) if run.is_orphan => {
                // The group was removed and made anew since.
                if run.has_heard {
                    self.group(&folder).chats.join(chat);
                }
            }
            Work::Chat(chat) => {
                // The worker may have looked before the last messages were committed, and a `Feed`
                // on its way to it was not heeded.
                let has_heard = run.has_heard || run.is_feeding;
                self.chat_run_ended(&folder, chat, outcome, pending, has_heard);
            }
        }
        self.review(&folder);
    }

    fn chat_run_ended(
        &mut self,
        folder: &GroupFolder,
        chat: ChatJid,
        outcome: Outcome,
        pending: bool,
        has_heard: bool,
    ) {
        let again = pending || has_heard;
        match outcome {
            Outcome::NothingToDo if pending => {
                // Would otherwise start again at once, for ever.
                let error = "messages are pending, but nothing was found to do".to_owned();
                self.chat_failed(folder, chat, FailureKind::Other, error);
            }
            Outcome::Failed { progress, kind, error } if again => {
                // What waits now is not what failed before.
                if progress || !pending {
                    self.group(folder).retries.remove(&chat);
                }
                self.chat_failed(folder, chat, kind, error);
            }
            Outcome::EngineDown(_) if again => self.group(folder).chats.join(chat),
            Outcome::Succeeded
            | Outcome::NothingToDo
            | Outcome::Failed { .. }
            | Outcome::EngineDown(_) => {
                let group = self.group(folder);
                group.retries.remove(&chat);
                if again {
                    group.chats.join(chat);
                }
            }
        }
    }

    fn chat_failed(
        &mut self,
        folder: &GroupFolder,
        chat: ChatJid,
        kind: FailureKind,
        error: String,
    ) {
        let group = self.groups.get_mut(folder).expect("the group of a run is known");
        let retry = group.retries.entry(chat.clone()).or_default();
        let verdict = retry.count(self.now, kind, &self.limits);
        if let Some(until) = retry.until {
            self.pauses.insert((until, folder.clone(), chat.clone()));
        }
        let group = folder.clone();
        match verdict {
            Verdict::Again { notice: false } => {}
            Verdict::Again { notice: true } => {
                self.effects.push(Effect::Notify { group, chat, kind, error });
            }
            Verdict::GiveUp { attempts, notice } => {
                self.effects.push(Effect::GiveUp { group, chat, attempts, error, notice });
            }
        }
    }

    pub(super) fn group_removed(&mut self, folder: &GroupFolder) {
        let Some(group) = self.groups.get_mut(folder) else { return };
        let Group { retries, run, .. } = std::mem::take(group);
        for (chat, retry) in retries {
            if let Some(until) = retry.until {
                self.pauses.remove(&(until, folder.clone(), chat));
            }
        }
        if let Some(mut run) = run {
            (run.has_heard, run.is_orphan) = (false, true);
            let (key, phase) = (run.key, run.phase);
            self.group(folder).run = Some(run);
            if phase != Phase::Closing {
                self.close(key);
            }
        }
        self.review(folder);
    }

    pub(super) fn retry_now(&mut self, folder: &GroupFolder) {
        let Some(group) = self.groups.get_mut(folder) else { return };
        for (chat, retry) in std::mem::take(&mut group.retries) {
            if let Some(until) = retry.until {
                self.pauses.remove(&(until, folder.clone(), chat.clone()));
            }
            if retry.is_pending {
                group.chats.join(chat);
            }
        }
        self.review(folder);
    }

    /// What waits is in the store, so the next start of the process finds it.
    pub(super) fn begin_stop(&mut self) {
        self.stop = Stop::Asked { kill_at: self.now.plus(self.limits.stop_grace) };
        for key in self.runs.keys().copied().collect::<Vec<_>>() {
            if self.phase(key) != Phase::Closing {
                self.close(key);
            }
        }
    }

    pub(super) fn kill_all(&mut self) {
        self.stop = Stop::Killed;
        self.effects.extend(self.runs.keys().map(|&run| Effect::Kill { run }));
    }

    /// Failures are not counted any more: nothing is tried again in this process.
    pub(super) fn take_in_while_stopping(&mut self, event: &Event) {
        match event {
            Event::RunEnded { run, .. } => {
                if let Some(folder) = self.runs.remove(run) {
                    self.group(&folder).run = None;
                }
            }
            Event::StopNow if matches!(self.stop, Stop::Asked { .. }) => self.kill_all(),
            _ => {}
        }
    }

    pub(super) fn finish_stop(&mut self) {
        if self.stop == Stop::Done {
            return;
        }
        if self.runs.is_empty() {
            self.stop = Stop::Done;
            self.effects.push(Effect::Stopped);
        } else if matches!(self.stop, Stop::Asked { kill_at } if kill_at <= self.now) {
            self.kill_all();
        }
    }

    fn group(&mut self, folder: &GroupFolder) -> &mut Group {
        self.groups.get_mut(folder).expect("the group of a run is known")
    }

    fn phase(&self, key: RunKey) -> Phase {
        let run = self.runs.get(&key).and_then(|folder| self.groups.get(folder)?.run.as_ref());
        run.expect("callers have a known run").phase
    }
}
