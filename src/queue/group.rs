//! What the queue knows of one group: its waiting work and its run.

use std::collections::BTreeMap;

use super::line::Line;
use super::retry::Retry;
use super::{Phase, RunKey, Task, Uptime, Work};
use crate::ids::ChatJid;

/// So many tasks of a group go before a chat of it that waits: tasks that are always due must not
/// keep people waiting for ever.
pub(super) const PASSED_BY_MAX: u32 = 3;

/// One group. A chat is at any time at most one of: answered by `run`, in `chats`, or in a pause of
/// `retries`.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) tasks: Line<Task>,
    pub(super) chats: Line<ChatJid>,
    pub(super) retries: BTreeMap<ChatJid, Retry>,
    pub(super) run: Option<Run>,
    /// Tasks that were started while a chat waited, since a chat was.
    passed_by: u32,
}

impl Group {
    /// Whether something could start if there were a slot and no other run of the group.
    pub(super) fn is_waiting(&self) -> bool {
        !self.tasks.is_empty() || !self.chats.is_empty()
    }

    /// Whether nothing is lost by forgetting it.
    pub(super) fn is_at_rest(&self) -> bool {
        self.run.is_none() && !self.is_waiting() && self.retries.is_empty()
    }

    /// Takes what starts next: tasks before chats, but not for ever.
    pub(super) fn take_work(&mut self) -> Option<Work> {
        let task = if self.passed_by < PASSED_BY_MAX { self.tasks.pop() } else { None };
        let is_passed_by = task.is_some() && !self.chats.is_empty();
        self.passed_by = if is_passed_by { self.passed_by + 1 } else { 0 };
        task.map(Work::Task).or_else(|| self.chats.pop().map(Work::Chat))
    }
}

/// A run from its start to its reported end.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) key: RunKey,
    pub(super) work: Work,
    pub(super) phase: Phase,
    /// When the phase began.
    pub(super) since: Uptime,
    /// Messages of its chat were announced after the worker was last told to look.
    pub(super) has_heard: bool,
    /// A `Feed` is on its way and not answered yet.
    pub(super) is_feeding: bool,
    /// Its group was removed: what it leaves behind counts for nothing.
    pub(super) is_orphan: bool,
}

impl Run {
    pub(super) fn new(key: RunKey, work: Work, now: Uptime) -> Run {
        Run {
            key,
            work,
            phase: Phase::Busy,
            since: now,
            has_heard: false,
            is_feeding: false,
            is_orphan: false,
        }
    }

    /// Whether it answers this chat, rather than doing a task or answering another one.
    pub(super) fn answers(&self, chat: &ChatJid) -> bool {
        matches!(&self.work, Work::Chat(answered) if answered == chat)
    }
}
