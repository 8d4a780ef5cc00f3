//! What the other threads may know of the connection: the client, while it is online.

use std::sync::{Arc, Mutex, PoisonError};

use whatsapp_rust::Client;

use super::runtime::Pool;
use crate::doorbell::Waker;

/// A client that is online.
#[derive(Clone)]
pub(super) struct Online {
    /// To send with.
    pub(super) client: Arc<Client>,
    /// Where its tasks run.
    pub(super) pool: Arc<Pool>,
    /// Which connection: what was sent through another one may be lost.
    pub(super) number: u64,
}

/// The place where the link shows its client. A lock and not a message: who is made again after a
/// panic finds it here, and nobody holds it longer than for a copy.
#[derive(Default)]
pub(super) struct Line {
    online: Mutex<Option<Online>>,
    delivery: Mutex<Option<Waker>>,
}

impl Line {
    /// The client, if it is online.
    pub(super) fn online(&self) -> Option<Online> {
        let online = self.online.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // It may have noticed what the link has not been told yet.
        online.filter(|online| online.client.is_logged_in())
    }

    /// Shows a client, or that there is none, and wakes who delivers.
    pub(super) fn show(&self, online: Option<Online>) {
        *self.online.lock().unwrap_or_else(PoisonError::into_inner) = online;
        self.wake_delivery();
    }

    /// Who delivers, and wants to be woken.
    pub(super) fn delivery(&self, waker: Waker) {
        *self.delivery.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// Wakes who delivers.
    pub(super) fn wake_delivery(&self) {
        if let Some(waker) = &*self.delivery.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake();
        }
    }
}
