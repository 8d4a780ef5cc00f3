//! WhatsApp's servers and the phones of its users, in the process of a test.
//!
//! Speaks the real multi-device protocol on loopback, so that unmodified clients can be tested
//! end to end: they pair, log in, send, receive and are thrown out as they would be. The phone of
//! each account is played too (`phone`): it scans codes, types messages and reads what comes,
//! with a Signal session for each linked device.
//!
//! One file is one part of the protocol, from the wire upwards:
//!
//! - `wire`, `noise`: WebSocket, frames, encryption, handshakes and certificates
//! - `link`: a connection from its first byte to its end
//! - `pairing`, `pair_code`, `login`: how a device becomes one of an account, and is let in
//! - `iq`, `prekeys`, `usync`, `group`: questions and answers
//! - `relay`, `offline`, `receipt`: messages on their way, receipts, typing, presence
//! - `phone`: the virtual phones; `http`: media and history
//! - `fault`, `hostile`: what can be made to go wrong; `journal`: what happened
//! - [`friend`]: another phone, played by a client that is not ours
//!
//! It is no model of WhatsApp's limits: nobody is banned, and nothing is checked that a client
//! cannot see.

mod fault;
pub mod friend;
mod group;
mod hostile;
mod http;
mod iq;
mod journal;
mod link;
mod login;
mod noise;
mod offline;
mod pair_code;
mod pairing;
mod phone;
mod prekeys;
mod receipt;
mod relay;
mod server;
mod state;
mod usync;
mod wire;
mod xml;

pub use fault::Fault;
pub use hostile::Hostile;
pub use journal::{
    ChatState, ConnectionInfo, Journal, Outcome, Presence, Receipt, Seen, SentMessage,
};
pub use noise::Pattern;
pub use server::Server;
pub use state::Addressing;
pub use wacore_binary::Jid;
pub use waproto::whatsapp as wa;

/// An account, by both of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `15550001@s.whatsapp.net`
    pub pn: Jid,
    /// `100000000000001@lid`
    pub lid: Jid,
}
