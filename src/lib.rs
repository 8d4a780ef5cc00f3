//! rust-claw: a personal Claude assistant in one small program.

pub mod agent;
pub mod boundary;
pub mod channel;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod daemon;
pub mod dispatcher;
pub mod home;
pub mod ids;
pub mod ipc;
pub mod limits;
pub mod poller;
pub mod queue;
pub mod routing;
pub mod sandbox;
pub mod schedule;
pub mod store;
