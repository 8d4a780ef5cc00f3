//! The queue at one moment, as its tests look at it. (`status` reads the store.)

use std::time::Duration;

use crate::ids::{ChatJid, GroupFolder};
use crate::queue::decide::Stop;
use crate::queue::{Phase, Queue, RunKey, Uptime, Work};

/// The queue at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Whether sandboxes can be started.
    pub(super) engine_is_ready: bool,
    /// A stop was asked for.
    pub(super) is_stopping: bool,
    /// Groups with waiting work: first those in line for a slot, in the order of their turn, then
    /// those that wait for their own group's run.
    pub(super) waiting: Vec<WaitingGroup>,
    /// In the order of their start.
    pub(super) runs: Vec<RunStatus>,
    /// Pauses after failures, the first to end first.
    pub(super) retries: Vec<RetryStatus>,
}

/// What waits of one group, in the order of its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WaitingGroup {
    /// The group.
    pub(super) group: GroupFolder,
    /// Ids of due tasks.
    pub(super) tasks: Vec<String>,
    /// Chats with pending messages, without those in a pause.
    pub(super) chats: Vec<ChatJid>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunStatus {
    /// Its name.
    pub(super) run: RunKey,
    /// Whose.
    pub(super) group: GroupFolder,
    /// What for.
    pub(super) work: Work,
    /// What it does.
    pub(super) phase: Phase,
    /// How long it does that.
    pub(super) phase_age: Duration,
}

/// A chat in a pause after a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RetryStatus {
    /// The chat's group.
    pub(super) group: GroupFolder,
    /// The chat.
    pub(super) chat: ChatJid,
    /// Failures in a row; 0: given up, and the pause holds back what comes next.
    pub(super) failure_count: u32,
    /// Messages wait for the end of the pause.
    pub(super) is_pending: bool,
    /// From now to the end of the pause.
    pub(super) remaining: Duration,
}

impl Queue {
    /// Everything that waits, runs and failed.
    pub(super) fn snapshot(&self, now: Uptime) -> Snapshot {
        let in_line = self.line.iter().filter_map(|folder| self.groups.get_key_value(folder));
        let behind_own_run =
            self.groups.iter().filter(|(_, group)| group.run.is_some() && group.is_waiting());
        let waiting = in_line
            .chain(behind_own_run)
            .map(|(folder, group)| WaitingGroup {
                group: folder.clone(),
                tasks: group.tasks.iter().map(|task| task.id.clone()).collect(),
                chats: group.chats.iter().cloned().collect(),
            })
            .collect();
        let runs = self.runs.values().filter_map(|folder| {
            let run = self.groups.get(folder)?.run.as_ref()?;
            Some(RunStatus {
                run: run.key,
                group: folder.clone(),
                work: run.work.clone(),
                phase: run.phase,
                phase_age: now.since(run.since),
            })
        });
        let retries = self.pauses.iter().filter_map(|(until, folder, chat)| {
            let retry = self.groups.get(folder)?.retries.get(chat)?;
            Some(RetryStatus {
                group: folder.clone(),
                chat: chat.clone(),
                failure_count: retry.failure_count,
                is_pending: retry.is_pending,
                remaining: until.since(now),
            })
        });
        Snapshot {
            engine_is_ready: self.engine.is_ready,
            is_stopping: self.stop != Stop::No,
            waiting,
            runs: runs.collect(),
            retries: retries.collect(),
        }
    }
}
