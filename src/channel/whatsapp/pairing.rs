//! The dialogue with a `pair` command, by way of the database: the command writes what it wants
//! under [`WANTED_KEY`], the link writes under [`PAIRING_KEY`] how far it is.

use serde_json::{Value, json};
use wacore::types::events::Event;

use crate::ids::UnixMs;
use crate::store::{self, Store};

/// Under this key another process says what it wants of the link.
pub(super) const WANTED_KEY: &str = "whatsapp.wanted";
/// Under this key the link shows how far a pairing is. While it lasts, it is a secret.
pub(super) const PAIRING_KEY: &str = "whatsapp.pairing";

/// A pairing that somebody asked for.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    shown: Value,
}

impl Pairing {
    /// What is to be shown, if it is new.
    ///
    /// # Errors
    /// The database.
    pub(super) fn show(&mut self, store: &mut Store, step: Value) -> store::Result<()> {
        store.set_state(PAIRING_KEY, &step.to_string())?;
        self.shown = step;
        Ok(())
    }

    /// What an event of the library means to who is pairing.
    pub(super) fn step(event: &Event, now: UnixMs) -> Option<Value> {
        match event {
            Event::PairingQrCode(code) => Some(json!({
                "step": "qr", "qr": code.code, "valid_until_ms": now.plus(code.timeout).0,
            })),
            Event::PairSuccess(_) => Some(json!({"step": "paired"})),
            Event::PairError(error) => Some(json!({"step": "failed", "error": error.error})),
            Event::QrScannedWithoutMultidevice(_) => Some(json!({
                "step": "failed", "error": "the phone does not allow linked devices: update WhatsApp on it",
            })),
            _ => None,
        }
    }
}
