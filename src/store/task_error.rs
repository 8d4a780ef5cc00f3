//! Why a task is refused, or stays as it is.

use super::{Error, TaskState, failed};
use crate::ids::{self, ChatJid, GroupFolder, TaskId};
use crate::limits::{TASKS_PER_GROUP_MAX, TASKS_TEXT_BYTES_MAX};
use crate::schedule;

/// Why tasks stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The schedule cannot be used.
    #[error(transparent)]
    Schedule(#[from] schedule::Invalid),
    /// Not an id at all.
    #[error(transparent)]
    Id(#[from] ids::Invalid),
    /// The zone is none.
    #[error("timezone `{text}`: it is no zone of the IANA database, for example `Europe/Berlin`")]
    Timezone {
        /// What was given, made fit for a line.
        text: String,
    },
    /// Prompt or script cannot be used.
    #[error("{field}: it is {problem}, for example `{example}`")]
    Text {
        /// `prompt` or `script`.
        field: &'static str,
        /// `empty`, or `longer than … bytes`.
        problem: String,
        /// One that can.
        example: &'static str,
    },
    /// No such group.
    #[error("there is no group with folder `{folder}`; `rust-claw list-groups` shows all")]
    NoSuchGroup {
        /// The folder.
        folder: GroupFolder,
    },
    /// The chat belongs to another group, or to none.
    #[error("chat `{chat}` is none of group `{folder}`; `rust-claw list-groups` shows its chats")]
    NotOfGroup {
        /// The chat.
        chat: ChatJid,
        /// The group.
        folder: GroupFolder,
    },
    /// The group has as many as it may.
    #[error("group `{folder}` has {TASKS_PER_GROUP_MAX} tasks already; cancel some")]
    TooMany {
        /// The group.
        folder: GroupFolder,
    },
    /// The group's tasks hold as much text as they may.
    #[error(
        "the tasks of group `{folder}` may hold {TASKS_TEXT_BYTES_MAX} bytes of text together; \
         cancel some, or keep long texts in files of the group"
    )]
    TooMuchText {
        /// The group.
        folder: GroupFolder,
    },
    /// No task begins like this.
    #[error("there is no task `{id}`; `rust-claw list-tasks` shows those that exist")]
    NoSuchTask {
        /// What was given.
        id: TaskId,
    },
    /// Several tasks begin like this.
    #[error("`{prefix}` is the beginning of several tasks: {first}, {second}; write more of it")]
    Ambiguous {
        /// What was given.
        prefix: TaskId,
        /// One of them.
        first: TaskId,
        /// Another.
        second: TaskId,
    },
    /// Nothing can be done with it any more.
    #[error("task {id} is {}", state.as_str())]
    Ended {
        /// Which.
        id: TaskId,
        /// Completed or cancelled.
        state: TaskState,
    },
    /// It is running or about to, and never runs twice at a time.
    #[error("task {id} is running already")]
    Running {
        /// Which.
        id: TaskId,
    },
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<rusqlite::Error> for TaskError {
    fn from(source: rusqlite::Error) -> TaskError {
        TaskError::Store(failed("changing the tasks")(source))
    }
}
