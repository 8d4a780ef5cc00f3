//! One thread that wakes all who sleep.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Stands for "never": what is added to a clock must not overflow it.
const FAR: Duration = Duration::from_hours(24 * 365);

/// Who sleeps until when. A lock and not a channel: most sleeps are dropped unfinished, and must
/// leave nothing behind.
#[derive(Default)]
pub(super) struct Timer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    sleepers: BTreeMap<Key, Waker>,
    last_number: u64,
    closed: bool,
}

/// When, and which of those due then.
type Key = (Instant, u64);

impl Timer {
    /// Wakes who is due, until [`Timer::close`].
    pub(super) fn work(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.closed {
            let now = Instant::now();
            let due = state.sleepers.first_key_value().map(|((due, _), _)| *due);
            state = match due {
                Some(due) if due <= now => {
                    let sleeper = state.sleepers.pop_first();
                    drop(state);
                    // Without the lock: who is woken may sleep again at once.
                    if let Some((_, waker)) = sleeper {
                        waker.wake();
                    }
                    self.state.lock().unwrap_or_else(PoisonError::into_inner)
                }
                Some(due) => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        let left = std::mem::take(&mut state.sleepers);
        drop(state);
        self.changed.notify_all();
        drop(left);
    }

    fn put(&self, due: Instant, key: Option<Key>, waker: &Waker) -> Key {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key.unwrap_or_else(|| {
            state.last_number += 1;
            (due, state.last_number)
        });
        let replaced = state.sleepers.insert(key, waker.clone());
        let is_first = state.sleepers.first_key_value().is_some_and(|(first, _)| *first == key);
        drop(state);
        if is_first && replaced.is_none() {
            self.changed.notify_one();
        }
        drop(replaced);
        key
    }

    fn remove(&self, key: Key) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = state.sleepers.remove(&key);
        drop(state);
        drop(removed);
    }

    #[cfg(test)]
    pub(super) fn sleeper_count(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).sleepers.len()
    }
}

/// Ends at its time, counted from its making; has a slot in the timer from the first poll on.
pub(super) struct Sleep {
    timer: Arc<Timer>,
    due: Instant,
    key: Option<Key>,
}

impl Sleep {
    pub(super) fn new(timer: &Arc<Timer>, duration: Duration) -> Sleep {
        let due = Instant::now() + duration.min(FAR);
        Sleep { timer: Arc::clone(timer), due, key: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.due <= Instant::now() {
            return Poll::Ready(());
        }
        self.key = Some(self.timer.put(self.due, self.key, context.waker()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timer.remove(key);
        }
    }
}
