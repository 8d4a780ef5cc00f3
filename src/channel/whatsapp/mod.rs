//! `WhatsApp`.

mod content;
mod identity;
mod state;
