//! What the protocol library tells, on its own threads: taken down and handed on, never waited for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Sender;
use wacore::types::events::{Event, EventHandler, EventInterest, EventKind};

use super::groups;
use super::line::Line;
use super::outbound;
use super::transport;
use crate::doorbell::Waker;

/// News for the link.
pub(super) enum Word {
    /// As the library has it.
    Event(Arc<Event>),
    /// The server says why it ends the connection: `<stream:error code>`.
    Code(u16),
    /// The socket is closed.
    Line(transport::End),
    /// A message is not stored, so it is not acknowledged, and comes again with the next connection.
    NotKept,
    /// What the groups are called, or why that is not to be had.
    Groups(Result<groups::Names, String>),
}

/// A listener for the events of one client.
#[derive(Clone)]
pub(super) struct Ears {
    to_link: Sender<Word>,
    to_delivery: Sender<outbound::Word>,
    bell: Waker,
    line: Arc<Line>,
    /// Words that the server has said after the handshake of this connection. What cannot be read
    /// is none.
    pub(super) words: Arc<AtomicU64>,
}

impl Ears {
    pub(super) fn new(
        to_link: Sender<Word>,
        to_delivery: Sender<outbound::Word>,
        bell: Waker,
        line: Arc<Line>,
    ) -> Ears {
        Ears { to_link, to_delivery, bell, line, words: Arc::default() }
    }

    /// Hands on, if there is room: the library must not wait.
    pub(super) fn tell(&self, word: Word) {
        if self.to_link.try_send(word).is_err() {
            log::warn!("more news of WhatsApp than can be taken: some are dropped");
        }
        self.bell.wake();
    }

    fn hear(&self, event: Arc<Event>) {
        match &*event {
            Event::ServerAck(ack) => {
                if ack.class.as_deref() == Some("message") {
                    let (message_id, nack) = (ack.id.clone(), ack.error.clone());
                    let answered = outbound::Word::Answered { message_id, nack };
                    // Where there is no room, the deadline tells the same later.
                    self.to_delivery.try_send(answered).ok();
                    self.line.wake_delivery();
                }
            }
            Event::RawNode(node) => {
                self.words.fetch_add(1, Ordering::AcqRel);
                if node.tag() == "stream:error" {
                    let code = node.get().attrs().optional_string("code");
                    if let Some(code) = code.and_then(|code| code.parse().ok()) {
                        self.tell(Word::Code(code));
                    }
                }
            }
            _ => self.tell(Word::Event(event)),
        }
    }
}

impl EventHandler for Ears {
    fn handle_event(&self, event: Arc<Event>) {
        // A panic would end the task of the library that tells us.
        if catch_unwind(AssertUnwindSafe(|| self.hear(event))).is_err() {
            log::error!("an event of WhatsApp made us panic; it is left out");
        }
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
            EventKind::Connected,
            EventKind::PairSuccess,
            EventKind::PairError,
            EventKind::LoggedOut,
            EventKind::PairingQrCode,
            EventKind::PairingCode,
            EventKind::PairingCodeRefresh,
            EventKind::PairingCodeError,
            EventKind::PairingQrCodesExhausted,
            EventKind::QrScannedWithoutMultidevice,
            EventKind::ClientOutdated,
            EventKind::GroupUpdate,
            EventKind::HistorySync,
            EventKind::SelfPushNameUpdated,
            EventKind::StreamReplaced,
            EventKind::TemporaryBan,
            EventKind::ConnectFailure,
            EventKind::RawNode,
            EventKind::ServerAck,
        ])
    }
}
