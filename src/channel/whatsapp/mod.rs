//! `WhatsApp`: the link to its server, and what the protocol library needs of the world, over plain
//! threads.

mod certificate;
mod content;
mod http;
mod identity;
mod keys;
mod runtime;
mod state;
mod tls;
mod transport;
