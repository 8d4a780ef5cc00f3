//! The channel `whatsapp`, against a server on this machine that speaks the real protocol. Where
//! `baileys` is in a test's name, the other side is a client that is not ours.

mod camera;
mod crash;
mod e2e;
mod flood;
mod friend;
mod hostile;
mod link;
mod messages;
mod pace;
mod pairing;
mod peer;
mod release;
mod second;
mod world;

pub(crate) use world::{ADA, OWNER, World};
