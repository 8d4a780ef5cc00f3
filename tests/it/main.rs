//! The program as a whole: the real binary, a home of its own for each test, real `SQLite`. What a
//! test needs beside that stands in its name (`bwrap`, `docker`, `podman`, `rootless`,
//! `claude_cli`, `baileys`, `release`), and the hazard that it proves begins it (`h05_…`).

mod ask;
mod attacks;
mod chat;
mod claude;
mod containers;
mod crash;
mod engines;
mod groups;
mod ipc;
mod order;
mod privacy;
mod queue;
mod script;
mod settings;
mod stop;
mod support;
mod tasks;
mod tree;
mod walls;
#[cfg(feature = "whatsapp")]
mod whatsapp;
