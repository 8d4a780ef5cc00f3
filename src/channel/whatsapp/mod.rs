//! `WhatsApp`: what the protocol library needs of the world, over plain threads.

mod certificate;
mod http;
mod keys;
mod runtime;
mod tls;
mod transport;
