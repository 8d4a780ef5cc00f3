//! What somebody who comes from `NanoClaw` of February 2026 finds again, row by row, with a stand-in
//! for its own runner in the sandboxes: what it speaks is understood, and what one saw there one
//! sees here.
//!
//! Where it differs, it does so on purpose:
//!
//! | there | here |
//! |---|---|
//! | a cursor is a time, moved before the agent runs and moved back when that fails | a place in the order of arrival, moved with the answer in one transaction |
//! | a message of the same second as the last answered one is lost | it is answered |
//! | a group's own trigger is stored and ignored | it counts |
//! | `Name: …` in a text makes it the assistant's | only its own messages are |
//! | messages without text wake the agent | they do not |
//! | after five retries silence | a notice, and a dead letter to retry or drop |
//! | a chat's follow-ups go into a task's container too | a task's container takes none |
//! | a task's container lives on for half an hour | it ends with its result |
//! | an idle container keeps its slot | it gives way when another chat waits |
//! | a resumed task that was due fires at once | at its next slot |
//! | an interval counts from the end of a run | it keeps its grid |
//! | a cancelled task is deleted | it stays, cancelled, with its history |
//! | tasks without `context_mode`: `isolated`, by the tool `group` | `isolated` by both |
//! | main may write to any chat | to registered ones |
//! | main sees and writes the whole program, its keys included | the groups' folders, read-only |
//! | main's own folder has no `/workspace/global` | it has, and may write there |
//! | secrets are handed to the container | they stay outside, unless `CREDENTIALS=stdin` |
//! | at a stop containers are left running | they are asked to finish, then stopped |
//! | at a start all `nanoclaw-…` containers are stopped | only this home's |
//! | unusable request files go to `errors/` without a word | with the reason beside them |

mod catch_up;
mod close;
mod credentials;
mod cursor;
mod frames;
mod ipc_permissions;
mod message_loop;
mod migration;
mod mounts;
mod orphans;
mod piping;
mod queue_limits;
mod sessions;
mod snapshots;
mod task_life;
mod time_outs;
mod trigger;

use crate::support::{Home, program};

/// A home in whose sandboxes `NanoClaw`'s runner sits.
fn home() -> Home {
    let agent = program("nanoclaw-agent").display().to_string();
    Home::new().env("FAKE_AGENT", &agent)
}
