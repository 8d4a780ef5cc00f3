//! Threads for what blocks: a connect, the making of many keys. They live as long as there is work
//! and are few; what does not find one waits its turn.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::Job;
use crate::limits::WHATSAPP_BLOCKING_THREADS_MAX;

type Closure = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Blocking {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Closure>,
    thread_count: usize,
}

impl Blocking {
    /// Runs `closure`, whether or not the future that tells of its end is polled.
    pub(super) fn spawn(self: &Arc<Self>, closure: Closure) -> Job {
        let (done, ended) = async_channel::bounded::<()>(1);
        let closure: Closure = Box::new(move || {
            // Dropped at the end, also in a panic: that is the news.
            let _done = done;
            closure();
        });
        if self.wants_thread(closure) {
            let threads = Arc::clone(self);
            let named = thread::Builder::new().name("whatsapp-block".to_owned());
            if let Err(error) = named.spawn(move || threads.work()) {
                log::warn!("no thread for what blocks: {error}");
                self.work();
            }
        }
        Box::pin(async move { ended.recv().await.unwrap_or_default() })
    }

    fn wants_thread(&self, closure: Closure) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push_back(closure);
        let wants = state.thread_count < WHATSAPP_BLOCKING_THREADS_MAX;
        state.thread_count += usize::from(wants);
        wants
    }

    fn work(&self) {
        while let Some(closure) = self.next() {
            if panic::catch_unwind(AssertUnwindSafe(closure)).is_err() {
                log::error!("blocking work of the WhatsApp library panicked");
            }
        }
    }

    fn next(&self) -> Option<Closure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front();
        state.thread_count -= usize::from(next.is_none());
        next
    }
}
