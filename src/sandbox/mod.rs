//! Where agents run: one description of a sandbox, four programs that can make one.
//!
//! [`SandboxSpec`] says what a sandbox is to be; [`Engine`] turns it into an argument vector for
//! docker, podman, Apple's `container` or bubblewrap, and nothing more differs between them but how
//! a sandbox is stopped and listed. [`Running`] is one sandbox while it lives: its output as
//! events, and its end.
//!
//! Nothing here may ever start an agent outside of a sandbox, go through a shell, or end a
//! container that does not carry this home's label. What a sandbox writes is hostile: it is
//! bounded before it is kept, and never logged as text (stderr of the runner excepted).

pub mod allowlist;
mod command;
mod engine;
mod frames;
pub mod keeper;
pub mod mounts;
mod run_log;
mod running;
mod runtime;
mod spec;
mod supervise;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;

pub(crate) use command::ask;
pub use engine::{Engine, EngineError, Finding, find_program};
pub use frames::{BadFrame, Flaw, Found, Frames};
pub use run_log::RunLog;
pub use running::{Ended, Held, Running, SandboxEvent, SpawnError, Stopped};
pub use runtime::write_identity;
pub use spec::{Limits, Mount, Network, RuntimeChoice, RuntimeKind, SandboxSpec, UnsafeSpec};
pub use supervise::EndedBy;
