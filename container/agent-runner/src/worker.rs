//! Threads that end with their owner, and the signal that asks the whole program to end.

use std::io;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// A named thread, joined on drop. Whatever it waits for must be gone by then: declare the worker
/// before that.
pub(crate) struct Worker(Option<JoinHandle<()>>);

impl Worker {
    /// Starts `work`.
    ///
    /// # Errors
    /// The sandbox allows no further thread.
    pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Worker> {
        Ok(Worker(Some(std::thread::Builder::new().name(name.to_owned()).spawn(work)?)))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take()
            && thread.join().is_err()
        {
            // It has said its panic on stderr; ours would end the program without a last frame.
        }
    }
}

/// SIGTERM or SIGINT, as a message.
pub(crate) struct Stop {
    // Dropped in this order: the handle ends the thread, which is then joined.
    _handle: CloseOnDrop,
    _worker: Worker,
    /// Gets one message with the first signal; further ones change nothing.
    pub(crate) receiver: Receiver<()>,
}

struct CloseOnDrop(Handle);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Listens for the signals that ask the program to end.
///
/// # Errors
/// The handlers or the thread cannot be set up.
pub(crate) fn stop_signal() -> io::Result<Stop> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let handle = CloseOnDrop(signals.handle());
    let (sender, receiver) = bounded(1);
    let worker = Worker::spawn("signals", move || {
        for _ in signals.forever() {
            if sender.try_send(()).is_err() {
                // Asked before: one request is enough.
            }
        }
    })?;
    Ok(Stop { _handle: handle, _worker: worker, receiver })
}
