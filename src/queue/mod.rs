//! Who runs next: the pure heart of the program.
//!
//! [`Queue::step`] is told what happened and when, and answers what to do; [`Queue::due`] says when
//! it wants to be woken with [`Event::Tick`] if nothing happens before. There is no clock, thread,
//! file, lock or database here, and there must never be: what is pending is in the store, and all
//! that is kept here can be told again after a restart.
//!
//! The rules, in short:
//! - At most `concurrent_max` sandboxes, one per group, none while the engine is down or after a
//!   stop. `runs_ahead` more runs are started, so that one gets ready while another ends; that no
//!   sandbox starts before another is gone is the workers' matter.
//! - Groups are served in turn; within a group tasks come before chats, though not for ever,
//!   chats in turn.
//! - A run that answers a chat is fed that chat's further messages as long as nobody waits for its
//!   slot; a task's run is never fed and closed as soon as it is idle.
//! - An idle run is closed when its time is over, when other work of its group waits, or, the
//!   longest idle one first, when another group waits for a slot. A busy one is never closed for
//!   others.
//! - A failing chat is tried again after doubling pauses, then given up; nothing shortens a pause
//!   but [`Event::RetryNow`].
//!
//! Messages cannot fall between a `Feed` and the end of a run: whatever was announced after the
//! worker was last told to look (or is being told) makes the chat wait again when the run has
//! ended, also where the worker saw nothing pending. The price is a run that finds
//! [nothing to do](Outcome::NothingToDo).

use std::time::Duration;

use crate::ids::{ChatJid, GroupFolder};
use crate::limits;

mod decide;
mod finish;
mod group;
mod line;
mod retry;
#[cfg(test)]
mod tests;

pub use decide::Queue;

/// Monotonic time since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(pub Duration);

impl Uptime {
    /// This time moved on; stays at the end of time rather than wrapping.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Uptime {
        Uptime(self.0.saturating_add(duration))
    }

    /// From `earlier` to this; zero where that is not earlier.
    pub fn since(self, earlier: Uptime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Name of a run between the queue and its workers. Never used twice in the life of a process;
/// the run's row in the store has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey(pub u64);

/// A task that is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Task {
    /// Its key in the store.
    pub id: String,
    /// Where its result goes.
    pub chat: ChatJid,
}

/// What a run is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Answers the pending messages of this chat, and of no other.
    Chat(ChatJid),
    /// Does a task. Takes no messages.
    Task(Task),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Sandboxes can be started. Until this is said once, they cannot.
    EngineReady,
    /// Sandboxes cannot be started; those that run are not affected.
    EngineDown,
    /// Messages that ask for an answer were committed. Saying it twice or for nothing is harmless.
    MessagesPending {
        /// The chat's group.
        group: GroupFolder,
        /// The chat.
        chat: ChatJid,
    },
    /// A task is due. While it waits, saying it again changes nothing.
    TaskDue {
        /// The task's group.
        group: GroupFolder,
        /// The task.
        task: Task,
    },
    /// A task was paused or cancelled: it does not start any more. One that runs goes on.
    TaskWithdrawn {
        /// The task's group.
        group: GroupFolder,
        /// [`Task::id`].
        id: String,
    },
    /// The worker has looked into the store *after* it received [`Effect::Feed`], and has written
    /// what it found into the sandbox.
    Fed {
        /// Which run.
        run: RunKey,
        /// No turn runs and nothing unread is in the sandbox.
        idle: bool,
    },
    /// The runner said that a turn ended, with or without text.
    TurnEnded {
        /// Which run.
        run: RunKey,
        /// No turn runs and nothing unread is in the sandbox.
        idle: bool,
    },
    /// The sandbox is gone and what it left is recorded.
    RunEnded {
        /// Which run; its key is not used again.
        run: RunKey,
        /// How.
        outcome: Outcome,
        /// The store has unsettled messages of the run's chat that ask for an answer. Without
        /// meaning for a task.
        pending: bool,
    },
    /// The group exists no longer: its waiting work is dropped, its run closed.
    GroupRemoved {
        /// Which group.
        group: GroupFolder,
    },
    /// A person says that the cause is mended: pauses end and failures are forgotten.
    RetryNow {
        /// Only of this group; else of all.
        group: Option<GroupFolder>,
    },
    /// The time of [`Queue::due`] has come.
    Tick,
    /// Nothing new starts; runs are closed, and killed after the grace.
    Stop,
    /// Runs are killed at once.
    StopNow,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every message that it took was settled, and at least one was; or the task was done.
    Succeeded,
    /// It ended badly.
    Failed {
        /// At least one message was settled in this run.
        progress: bool,
        /// Who can do something about it.
        kind: FailureKind,
        /// In one line, for the dead letter.
        error: String,
    },
    /// The store held nothing to answer (any more), so no sandbox was started.
    NothingToDo,
    /// No sandbox could be started because the engine does not answer; why, in one line.
    EngineDown(String),
}

/// What a failure means to the person who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The model API refuses the key or token.
    Credential,
    /// The model API wants to be paid.
    Billing,
    /// Too many requests; time helps.
    RateLimit,
    /// Anything else.
    Other,
}

/// What to do. To be performed in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A worker is to run this, as soon as fewer than [`Limits::concurrent_max`] sandboxes live. It
    /// reads the store after it received this, and reports [`Event::RunEnded`] in any case.
    Start {
        /// Its name from now on.
        run: RunKey,
        /// Whose sandbox.
        group: GroupFolder,
        /// What for.
        work: Work,
    },
    /// The worker is to look into the store for further messages of its chat, and to answer with
    /// [`Event::Fed`]. What does not fit into the sandbox it feeds by itself when there is room.
    Feed {
        /// Which run.
        run: RunKey,
    },
    /// The sandbox is to be asked to end (`_close`). When it is killed because it does not, is the
    /// worker's matter.
    Close {
        /// Which run.
        run: RunKey,
    },
    /// The sandbox is to be ended by force, now.
    Kill {
        /// Which run.
        run: RunKey,
    },
    /// The chat's pending messages become a dead letter; with `notice`, the chat is told once.
    GiveUp {
        /// The chat's group.
        group: GroupFolder,
        /// The chat.
        chat: ChatJid,
        /// Runs that failed.
        attempts: u32,
        /// The last one's error.
        error: String,
        /// The chat was not told yet.
        notice: bool,
    },
    /// The chat is told what is wrong, and is tried again all the same.
    Notify {
        /// The chat's group.
        group: GroupFolder,
        /// The chat.
        chat: ChatJid,
        /// What is wrong.
        kind: FailureKind,
        /// In one line.
        error: String,
    },
    /// A run found the engine gone, which so far counted as there: somebody is to ask it, and to
    /// answer with [`Event::EngineReady`] when it is back.
    AskEngine {
        /// What the run said.
        error: String,
    },
    /// After a stop: the last run has ended. Nothing follows.
    Stopped,
}

/// What a run does, as far as the queue knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It starts, or a turn runs, or something unread is in the sandbox.
    Busy,
    /// It waits for messages.
    Idle,
    /// It was asked to end, and gets no more messages.
    Closing,
}

/// What the queue keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sandboxes at a time; at least 1.
    pub concurrent_max: usize,
    /// Runs beyond these that get ready for a sandbox, or whose sandbox is gone already.
    pub runs_ahead: usize,
    /// How long a run may wait for messages.
    pub idle_timeout: Duration,
    /// Pause after a first failure; doubles.
    pub retry_first: Duration,
    /// Retries after the first attempt.
    pub retries_max: u32,
    /// From [`Event::Stop`] to the kill.
    pub stop_grace: Duration,
    /// Pause after a run found the engine gone although it counted as there; doubles.
    pub engine_retry_first: Duration,
    /// Longest such pause.
    pub engine_retry_max: Duration,
}

impl Limits {
    /// The program's own, with what a person can set.
    pub fn new(concurrent_max: usize, idle_timeout: Duration) -> Limits {
        Limits {
            concurrent_max,
            runs_ahead: limits::RUNS_AHEAD,
            idle_timeout,
            retry_first: limits::RETRY_FIRST,
            retries_max: limits::RETRIES_MAX,
            stop_grace: limits::STOP_GRACE,
            engine_retry_first: limits::ENGINE_RETRY_FIRST,
            engine_retry_max: limits::ENGINE_RETRY_MAX,
        }
    }
}
