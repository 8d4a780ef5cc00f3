//! Messages on their way out. A row is sent when the server has acknowledged it: the library is
//! content with having written it to the socket. Each chat has one message on its way at a time, so
//! that its order holds; several chats have theirs side by side, so that one that waits holds up
//! no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use wacore::runtime::Runtime;
use wacore_binary::Jid;
use waproto::whatsapp as wa;
use whatsapp_rust::{ClientError, IqError, SendOptions};

use super::line::{Line, Online};
use super::pace::Pace;
use crate::channel::{Channel, SendError, Sent};
use crate::ids::{ChannelKind, OutboxId};
use crate::limits::{
    WHATSAPP_ACK_MAX, WHATSAPP_IN_FLIGHT_MAX, WHATSAPP_NACKS_MAX, WHATSAPP_SEND_MAX,
};
use crate::store::OutboxRow;

/// News of messages on their way.
pub(super) enum Word {
    /// It is written to the socket, or could not be.
    Written {
        /// Which row.
        row: OutboxId,
        /// Through which connection.
        number: u64,
        /// What kept it.
        outcome: Result<(), SendError>,
    },
    /// The server has answered.
    Answered {
        /// Id of the message.
        message_id: String,
        /// Why it refuses it.
        nack: Option<String>,
    },
}

struct Flight {
    row: OutboxRow,
    number: u64,
    until: Instant,
}

/// The channel.
pub(super) struct Outbound {
    line: Arc<Line>,
    words: Receiver<Word>,
    to_words: Sender<Word>,
    pace: Pace,
    flights: BTreeMap<OutboxId, Flight>,
}

impl Outbound {
    /// `to_words` is the other end of `words`.
    pub(super) fn new(line: Arc<Line>, words: Receiver<Word>, to_words: Sender<Word>) -> Outbound {
        let pace = Pace::new(Instant::now());
        Outbound { line, words, to_words, pace, flights: BTreeMap::new() }
    }

    fn begin(&mut self, row: &OutboxRow, to: Jid, online: Online) {
        let number = online.number;
        let until = Instant::now() + WHATSAPP_SEND_MAX;
        self.flights.insert(row.id, Flight { row: row.clone(), number, until });
        let (id, words, line) = (row.id, self.to_words.clone(), Arc::clone(&self.line));
        let message = wa::Message { conversation: Some(row.text.clone()), ..Default::default() };
        let options = SendOptions::default().with_message_id(row.channel_message_id.clone());
        let client = online.client;
        online.pool.spawn_detached(Box::pin(async move {
            // Else a crash after the answer could leave us without the keys of what comes next.
            if let Err(error) = client.flush_pending_signal_state().await {
                log::warn!("WhatsApp's sessions are not on the disk yet: {error}");
            }
            let sent = client.send_message_with_options(to, message, options).await;
            crate::crash_point("delivery_written");
            let outcome = sent.map(drop).map_err(|error| judged(&error));
            // Where there is no room, the deadline tells the same later.
            words.try_send(Word::Written { row: id, number, outcome }).ok();
            line.wake_delivery();
        }));
    }

    fn hear(&mut self, word: Word, settled: &mut Vec<(OutboxRow, Result<(), SendError>)>) {
        match word {
            Word::Written { row, number, outcome } => {
                let Some(flight) = self.flights.get_mut(&row) else { return };
                if flight.number != number {
                    return;
                }
                flight.until = Instant::now() + WHATSAPP_ACK_MAX;
                if let Err(error) = outcome
                    && let Some(flight) = self.flights.remove(&row)
                {
                    settled.push((flight.row, Err(error)));
                }
            }
            Word::Answered { message_id, nack } => {
                let mut all = self.flights.values();
                let Some(id) = all
                    .find(|flight| flight.row.channel_message_id == message_id)
                    .map(|flight| flight.row.id)
                else {
                    return;
                };
                let Some(flight) = self.flights.remove(&id) else { return };
                let outcome = match nack {
                    None => Ok(()),
                    Some(code) if WHATSAPP_NACKS_MAX <= flight.row.attempt_count => {
                        let why = format!("the server refuses it again and again, with {code}");
                        Err(SendError::Refused { why })
                    }
                    Some(code) => {
                        Err(SendError::Retry { why: format!("the server refuses it with {code}") })
                    }
                };
                settled.push((flight.row, outcome));
            }
        }
    }
}

impl Channel for Outbound {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Whatsapp
    }

    fn send(&mut self, row: &OutboxRow) -> Result<Sent, SendError> {
        let down = || SendError::Down { why: "WhatsApp is not connected".to_owned() };
        let online = self.line.online().ok_or_else(down)?;
        if self.flights.contains_key(&row.id) || WHATSAPP_IN_FLIGHT_MAX <= self.flights.len() {
            return Ok(Sent::Underway);
        }
        let to: Jid = row.jid.as_str().parse().map_err(|error| SendError::Refused {
            why: format!("`{}` is no address of WhatsApp: {error}", row.jid),
        })?;
        self.pace.take(&row.jid, Instant::now()).map_err(|pause| SendError::Later { pause })?;
        self.begin(row, to, online);
        Ok(Sent::Underway)
    }

    fn settled(&mut self) -> Vec<(OutboxRow, Result<(), SendError>)> {
        let mut settled = Vec::new();
        let words = self.words.clone();
        for word in words.try_iter() {
            self.hear(word, &mut settled);
        }
        // What went through a connection that is gone goes again, through the next.
        let number = self.line.online().map(|online| online.number);
        self.flights.retain(|_, flight| Some(flight.number) == number);
        let now = Instant::now();
        let late: Vec<OutboxId> = self
            .flights
            .values()
            .filter(|flight| flight.until <= now)
            .map(|flight| flight.row.id)
            .collect();
        for flight in late.iter().filter_map(|id| self.flights.remove(id)) {
            let why = "the server has not acknowledged it in time".to_owned();
            settled.push((flight.row, Err(SendError::Retry { why })));
        }
        settled
    }
}

/// What an error of the library means for the row.
fn judged(error: &whatsapp_rust::SendError) -> SendError {
    let why = crate::chain(error);
    match error {
        // No such group; not a member; not allowed to write there.
        whatsapp_rust::SendError::Iq(IqError::ServerError { code: 401 | 403 | 404, .. })
        | whatsapp_rust::SendError::Client(ClientError::Iq(IqError::ServerError {
            code: 401 | 403 | 404,
            ..
        }))
        | whatsapp_rust::SendError::InvalidRequest(_) => SendError::Refused { why },
        _ => SendError::Retry { why },
    }
}
