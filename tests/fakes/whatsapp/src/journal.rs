//! What happened, for tests to assert on and for a person who debugs one.

use std::collections::VecDeque;
use std::time::Instant;

use wacore_binary::{Jid, Node};
use waproto::whatsapp as wa;

use crate::link::LinkId;
use crate::noise::Pattern;
use crate::xml;

/// Lines of the stanza trace that are kept.
const TRACE_LINES_MAX: usize = 20_000;

/// Everything that was recorded, in the order in which it happened.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Journal {
    /// When TCP connections came, those that were refused too.
    pub attempts: Vec<Instant>,
    /// Connections that were let in.
    pub connections: Vec<ConnectionInfo>,
    /// Messages that companions sent (or phones: see `Server::say`).
    pub messages: Vec<SentMessage>,
    /// Receipts from companions.
    pub receipts: Vec<Receipt>,
    /// Typing and the like, from companions.
    pub chat_states: Vec<ChatState>,
    /// Whether companions showed themselves as available.
    pub presences: Vec<Presence>,
    /// What the phones' owners would see.
    pub seen: Vec<Seen>,
    /// Connections that met [`crate::Fault::Hostile`].
    pub harmed: usize,
    trace: VecDeque<String>,
}

/// A connection of a client.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    pub(crate) link: LinkId,
    /// Whose it is, by phone number and with the device; nothing before a login.
    pub device: Option<Jid>,
    /// When it was accepted.
    pub opened: Instant,
    /// When its end was noticed.
    pub closed: Option<Instant>,
    /// With which handshake; nothing if none was finished.
    pub handshake: Option<Pattern>,
    /// Whether it got as far as `success`.
    pub logged_in: bool,
    /// Connections of the same device at the time of its login, itself included.
    pub at_once: usize,
}

/// A message that a device handed to the server.
#[derive(Debug, Clone)]
pub struct SentMessage {
    /// The device, named by phone number.
    pub from: Jid,
    /// The chat as the sender named it.
    pub to: Jid,
    /// Id of the message.
    pub id: String,
    /// When it came.
    pub at: Instant,
    /// What the server did with it.
    pub outcome: Outcome,
}

/// What the server did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Relayed and acknowledged.
    Accepted,
    /// Relayed, but the acknowledgement was lost ([`crate::Fault::LoseAcks`]).
    AckLost,
    /// Refused with this code.
    Nacked(u16),
    /// Lost ([`crate::Fault::DropNext`]).
    Dropped,
}

/// A receipt from a device.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The device, named by phone number.
    pub from: Jid,
    /// To whom.
    pub to: Jid,
    /// `None` means delivered; else `read`, `retry`, `inactive`, `peer_msg` and others.
    pub kind: Option<String>,
    /// The messages it is for.
    pub ids: Vec<String>,
    /// When it came.
    pub at: Instant,
}

/// Somebody types, or stopped.
#[derive(Debug, Clone)]
pub struct ChatState {
    /// The device, named by phone number.
    pub from: Jid,
    /// The chat as the sender named it.
    pub to: Jid,
    /// `composing` or `paused`.
    pub state: String,
    /// When it came.
    pub at: Instant,
}

/// A device shows itself as there, or not.
#[derive(Debug, Clone)]
pub struct Presence {
    /// The device, named by phone number.
    pub from: Jid,
    /// `available` (which silences the phone) or `unavailable`.
    pub available: bool,
    /// When it came.
    pub at: Instant,
}

/// A message on the screen of a phone.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Number of the phone.
    pub phone: String,
    /// The chat it is in, as named by the message.
    pub chat: Jid,
    /// The device that wrote it.
    pub sender: Jid,
    /// Id of the message.
    pub id: String,
    /// The message, or why it cannot be read ("waiting for this message").
    pub message: Result<wa::Message, String>,
    /// When it came.
    pub at: Instant,
}

impl Seen {
    /// Its text, where it has one.
    pub fn text(&self) -> Option<&str> {
        let message = self.message.as_ref().ok()?;
        let extended = message.extended_text_message.as_option();
        message.conversation.as_deref().or_else(|| extended?.text.as_deref())
    }
}

impl Journal {
    /// Messages of one device: `number` or `number:device`.
    pub fn sent_by<'a>(&'a self, device: &str) -> impl Iterator<Item = &'a SentMessage> {
        let device = device.to_owned();
        self.messages.iter().filter(move |message| is_device(&message.from, &device))
    }

    /// The most connections that a device had at the same time, by [`ConnectionInfo::at_once`].
    pub fn max_connections_at_once(&self, device: &str) -> usize {
        let of_device =
            |info: &&ConnectionInfo| info.device.as_ref().is_some_and(|jid| is_device(jid, device));
        self.connections.iter().filter(of_device).map(|info| info.at_once).max().unwrap_or(0)
    }

    /// The stanzas so far, one a line: `S>` from the server, `C>` from a client.
    pub fn trace_lines(&self) -> impl Iterator<Item = &str> {
        self.trace.iter().map(String::as_str)
    }

    pub(crate) fn trace(&mut self, direction: &str, who: &str, node: &Node) {
        self.note(format!("{direction} [{who}] {}", xml::show(node)));
    }

    pub(crate) fn note(&mut self, line: String) {
        if self.trace.len() == TRACE_LINES_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    pub(crate) fn connection(&mut self, link: LinkId) -> Option<&mut ConnectionInfo> {
        self.connections.iter_mut().rev().find(|info| info.link == link)
    }
}

/// Whether `device` (`number`, `number:device`) means this one.
fn is_device(jid: &Jid, device: &str) -> bool {
    match device.split_once(':') {
        Some((number, device)) => jid.user.as_str() == number && device.parse() == Ok(jid.device),
        None => jid.user.as_str() == device,
    }
}
