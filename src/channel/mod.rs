//! Where answers go. A channel takes one row of the outbox at a time and says whether the other
//! side has it; [`deliver`] keeps the order of each chat, repeats what failed with growing pauses,
//! and holds nothing in memory: what is not delivered is in the store.
//!
//! The terminal is no channel of this kind: `chat` and `ask` read the outbox themselves.

#[cfg(feature = "whatsapp")]
pub mod whatsapp;

use std::time::Duration;

use serde_json::Value;

use crate::doorbell::Doorbell;
use crate::ids::{ChannelKind, OutboxId, UnixMs, shown};
use crate::limits::{
    DELIVERY_NET_INTERVAL, DELIVERY_RETRY_FIRST, DELIVERY_RETRY_MAX, POLL_INTERVAL,
};
use crate::store::{self, OutboxRow, Store};

/// Under this key the store knows, as JSON, where the link to `WhatsApp` stands, in every build.
pub const WHATSAPP_STATE_KEY: &str = "whatsapp";

/// The number with which the link in this state is linked; `None` where a phone has yet to take us
/// in. It is so whether or not somebody serves at the moment.
pub fn linked_number(link: &Value) -> Option<String> {
    let has_to_be_paired = matches!(link["state"].as_str(), Some("unpaired" | "needs-pairing"));
    link["number"].as_str().filter(|_| !has_to_be_paired).map(shown)
}

/// Why a row was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// This row failed; it is tried again after a pause.
    #[error("{why}")]
    Retry {
        /// For the row and the log.
        why: String,
    },
    /// The other side will never take this row.
    #[error("{why}")]
    Refused {
        /// For the row and the log.
        why: String,
    },
    /// Not yet: too much went out lately. The row has not used up an attempt.
    #[error("not before {} ms", pause.as_millis())]
    Later {
        /// How long to wait.
        pause: Duration,
    },
    /// Nothing can be sent at the moment; the row has not used up an attempt.
    #[error("{why}")]
    Down {
        /// For the caller.
        why: String,
    },
}

/// How far a row is that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The other side has it.
    Yes,
    /// Not yet; [`Channel::settled`] will tell. Meanwhile it is handed in again and again.
    Underway,
}

/// A transport for answers.
pub trait Channel {
    /// Which rows are its own.
    fn kind(&self) -> ChannelKind;

    /// Sends one row under its `channel_message_id`. A row may be sent twice, after a crash between
    /// the sending and the note of it; the id tells the other side.
    ///
    /// # Errors
    /// What to do with the row.
    fn send(&mut self, row: &OutboxRow) -> Result<Sent, SendError>;

    /// Of the rows that were underway, what became of those that are not any more.
    fn settled(&mut self) -> Vec<(OutboxRow, Result<(), SendError>)> {
        Vec::new()
    }
}

/// How a delivery ended.
#[derive(Debug)]
pub enum Ended {
    /// Nothing is due any more, or `go_on` said no.
    Done,
    /// The channel is down.
    Down {
        /// What it said.
        why: String,
    },
}

/// Delivers what is due, in order; goes on waiting for more while `follow` is set and `go_on` says
/// so.
///
/// # Errors
/// A database that cannot be read or written.
pub fn deliver(
    store: &mut Store,
    bell: &Doorbell,
    channel: &mut dyn Channel,
    follow: bool,
    go_on: &dyn Fn() -> bool,
) -> Result<Ended, store::Error> {
    let mut on_disk = OutboxId(0);
    while go_on() {
        for (row, outcome) in channel.settled() {
            settle(store, &row, outcome)?;
        }
        let rows = store.next_deliveries(channel.kind(), UnixMs::now(), ROWS_MAX)?;
        if let Some(newest) = rows.iter().map(|row| row.id).max().filter(|id| on_disk < *id) {
            // Else a power cut could undo an answer that somebody has read. Ids are in the order of
            // their commits.
            store.wait_for_disk()?;
            on_disk = newest;
        }
        let (mut is_moving, mut is_underway) = (false, false);
        for row in &rows {
            if !go_on() {
                return Ok(Ended::Done);
            }
            match channel.send(row) {
                Ok(Sent::Underway) => is_underway = true,
                Err(SendError::Down { why }) => return Ok(Ended::Down { why }),
                outcome => {
                    is_moving = true;
                    settle(store, row, outcome.map(drop))?;
                }
            }
        }
        if is_moving {
            continue;
        }
        if !follow {
            break;
        }
        // What is underway is due all the time; its channel rings when it is settled.
        let due = if is_underway {
            None
        } else {
            store.next_attempt_at(channel.kind(), UnixMs::now())?
        };
        let most = if is_underway { POLL_INTERVAL } else { DELIVERY_NET_INTERVAL };
        bell.wait(due.map_or(most, |due| due.since(UnixMs::now()).min(most)));
    }
    Ok(Ended::Done)
}

/// Notes what became of a row.
fn settle(
    store: &mut Store,
    row: &OutboxRow,
    outcome: Result<(), SendError>,
) -> Result<(), store::Error> {
    crate::crash_point("delivery_attempted");
    let now = UnixMs::now();
    match outcome {
        Ok(()) => drop(store.mark_sent(row.id, now)?),
        Err(SendError::Down { why }) => log::debug!("outbox={} not sent: {why}", row.id),
        Err(SendError::Later { pause }) => store.postpone(row.id, now.plus(pause))?,
        Err(SendError::Refused { why }) => {
            log::error!("outbox={} jid={} refused: {why}", row.id, row.jid);
            store.mark_failed_for_good(row.id, &why)?;
        }
        Err(SendError::Retry { why }) => {
            let pause = backoff(row.attempt_count);
            log::warn!(
                "outbox={} jid={} attempt={} retry_ms={}: {why}",
                row.id,
                row.jid,
                row.attempt_count + 1,
                pause.as_millis()
            );
            store.mark_attempt_failed(row.id, &why, now.plus(pause))?;
        }
    }
    Ok(())
}

/// Rows that one look takes; the next look comes at once.
const ROWS_MAX: usize = 64;

/// The pause after a failure that came after `attempt_count` others.
fn backoff(attempt_count: u32) -> Duration {
    DELIVERY_RETRY_FIRST.saturating_mul(1 << attempt_count.min(16)).min(DELIVERY_RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_at_rest_is_linked_and_one_that_was_ended_is_not() {
        let link = |state: &str| serde_json::json!({"state": state, "number": "4915550000001"});
        for state in ["online", "off", "backoff", "connecting", "replaced", "banned", "outdated"] {
            assert_eq!(Some("4915550000001"), linked_number(&link(state)).as_deref(), "{state}");
        }
        for state in [link("unpaired"), link("needs-pairing"), Value::Null] {
            assert_eq!(None, linked_number(&state));
        }
    }

    #[test]
    fn pauses_double_up_to_the_limit() {
        let pauses: Vec<u64> = [0, 1, 2, 8, 9, 4_000_000].map(|n| backoff(n).as_secs()).into();
        assert_eq!(vec![1, 2, 4, 256, 300, 300], pauses);
    }
}
