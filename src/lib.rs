//! rust-claw: a personal Claude assistant in one small program.
//!
//! A message arrives, an agent answers it inside a sandbox that sees only its own group's files,
//! the answer goes back:
//!
//! ```text
//! WhatsApp ─┐                                                                    ┌─> WhatsApp
//! terminal ─┼─> messages ─> poller ─> dispatcher ─> worker ─> sandbox ─> outbox ─┼─> terminal
//! script   ─┘           scheduler ─^   (queue)     (agent)       │      ^        └─> script
//!                                                                └─ ipc ┘
//! ```
//!
//! One direction, one bus: `SQLite`. Whoever accepts something commits it first and rings the
//! [`doorbell`] second; whoever is woken reads what is committed. Other processes of ours use the
//! same tables and the same bell.
//!
//! The one invariant: the rows of an answer in `outbox` and the move of the chat's cursor past the
//! messages that it answers are one transaction ([`store::Store::record`]). A crash before it: asked
//! again. A crash after it: delivered, not asked again. A task is claimed in one transaction before
//! it starts, and its end is recorded with its last answer: it runs once, or was interrupted.
//!
//! | thread | owns | woken by |
//! |---|---|---|
//! | main | start and stop order | a signal, a dead core thread |
//! | poller | a database connection | doorbell, 2 s |
//! | scheduler | a database connection | doorbell, the next slot of a task |
//! | dispatcher | the pure [`queue`] | events from all others |
//! | worker-1 … N+1 | one run at a time, its child; N of them a sandbox | dispatcher, a free place |
//! | run-… | the output or the input of a child | the kernel |
//! | ipc | a database connection | inotify, 10 s |
//! | engine | which sandbox engine answers, leftovers, what is too old | time |
//! | proxy, proxy-conn-… | the secrets | a socket |
//! | whatsapp, delivery-whatsapp, whatsapp-… | see `channel/whatsapp/mod.rs` | doorbell, the network |
//!
//! Towards the dispatcher a send may wait; away from it one only tries. So waits form a tree.

pub mod agent;
pub mod backup;
pub mod boundary;
mod bucket;
pub mod channel;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod daemon;
pub mod dispatcher;
pub mod doctor;
pub mod doorbell;
pub mod home;
pub mod ids;
pub mod import;
pub mod ipc;
pub mod limits;
pub mod moving;
pub mod poller;
pub mod queue;
pub mod retention;
pub mod routing;
pub mod sandbox;
pub mod schedule;
pub mod service;
pub mod store;
mod threads;

/// An error and its causes on one line: `outer: inner: innermost`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// In debug builds, dies here as a `kill -9` would, if the environment variable
/// `RUST_CLAW_CRASH_AT` names this place. The tests of what survives a crash use it; a release
/// build has none of it.
pub fn crash_point(place: &str) {
    if cfg!(debug_assertions)
        && std::env::var_os("RUST_CLAW_CRASH_AT").is_some_and(|at| at == *place)
    {
        std::process::abort();
    }
}
