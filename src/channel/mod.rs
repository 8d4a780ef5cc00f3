//! Where answers go. A channel takes one row of the outbox at a time and says whether the other
//! side has it; [`deliver`] keeps the order of each chat, repeats what failed with growing pauses,
//! and holds nothing in memory: what is not delivered is in the store.
//!
//! The terminal is no channel of this kind: `chat` and `ask` read the outbox themselves.

#[cfg(feature = "whatsapp")]
pub mod whatsapp;

use std::time::Duration;

use crate::doorbell::Doorbell;
use crate::ids::{ChannelKind, UnixMs};
use crate::limits::{DELIVERY_RETRY_FIRST, DELIVERY_RETRY_MAX, POLL_INTERVAL};
use crate::store::{self, OutboxRow, Store};

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
    /// Nothing can be sent at the moment; the row has not used up an attempt.
    #[error("{why}")]
    Down {
        /// For the caller.
        why: String,
    },
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
    fn send(&mut self, row: &OutboxRow) -> Result<(), SendError>;
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
    while go_on() {
        let rows = store.next_deliveries(channel.kind(), UnixMs::now(), ROWS_MAX)?;
        for row in &rows {
            if !go_on() {
                return Ok(Ended::Done);
            }
            let sent = channel.send(row);
            crate::crash_point("delivery_attempted");
            let now = UnixMs::now();
            match sent {
                Ok(()) => drop(store.mark_sent(row.id, now)?),
                Err(SendError::Down { why }) => return Ok(Ended::Down { why }),
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
        }
        if !rows.is_empty() {
            continue;
        }
        if !follow {
            break;
        }
        let due = store.next_attempt_at(channel.kind())?;
        let pause = due.map_or(POLL_INTERVAL, |due| due.since(UnixMs::now()).min(POLL_INTERVAL));
        bell.wait(pause);
    }
    Ok(Ended::Done)
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
    fn pauses_double_up_to_the_limit() {
        let pauses: Vec<u64> = [0, 1, 2, 8, 9, 4_000_000].map(|n| backoff(n).as_secs()).into();
        assert_eq!(vec![1, 2, 4, 256, 300, 300], pauses);
    }
}
