//! Tasks and the threads that poll them.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use super::Job;

/// Nobody has it; a wake-up queues it.
const IDLE: u8 = 0;
/// In the queue.
const QUEUED: u8 = 1;
/// A worker polls it.
const RUNNING: u8 = 2;
/// As before, and it was woken meanwhile: to be polled again.
const WOKEN: u8 = 3;
/// Its future is gone.
const DONE: u8 = 4;

/// What is ready to be polled. A lock and not a channel: a task is queued by whoever wakes it, and
/// must neither wait nor be lost. A task is in it once at most, so it is bounded by their number.
#[derive(Default)]
pub(super) struct Tasks {
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Arc<Task>>,
    closed: bool,
}

/// A future on its way.
pub(super) struct Task {
    tasks: Arc<Tasks>,
    state: AtomicU8,
    aborted: AtomicBool,
    /// Only a worker that has the task takes the lock, and `state` lets one have it at a time.
    future: Mutex<Option<Job>>,
}

impl Tasks {
    pub(super) fn spawn(self: &Arc<Self>, future: Job) -> Arc<Task> {
        let task = Arc::new(Task {
            tasks: Arc::clone(self),
            state: AtomicU8::new(QUEUED),
            aborted: AtomicBool::new(false),
            future: Mutex::new(Some(future)),
        });
        self.push(Arc::clone(&task));
        task
    }

    /// Polls what is ready until [`Tasks::close`].
    pub(super) fn work(&self) {
        while let Some(task) = self.next() {
            task.run();
        }
    }

    pub(super) fn close(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        let left = std::mem::take(&mut queue.tasks);
        drop(queue);
        self.ready.notify_all();
        // Without the lock: what a future drops may wake others.
        drop(left);
    }

    fn push(&self, task: Arc<Task>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            drop(queue);
            drop(task);
            return;
        }
        queue.tasks.push_back(task);
        drop(queue);
        self.ready.notify_one();
    }

    fn next(&self) -> Option<Arc<Task>> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queue = self
            .ready
            .wait_while(queue, |queue| queue.tasks.is_empty() && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        queue.tasks.pop_front()
    }
}

impl Task {
    /// Has the future dropped by a worker, soon; it is not polled to its end.
    pub(super) fn abort(self: Arc<Self>) {
        self.aborted.store(true, Ordering::Release);
        self.wake();
    }

    fn run(self: Arc<Self>) {
        self.state.store(RUNNING, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self));
        let mut slot = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        // A task that panics is over; the worker and the others are not.
        let polled = panic::catch_unwind(AssertUnwindSafe(|| {
            let is_done = self.aborted.load(Ordering::Acquire)
                || slot.as_mut().is_none_or(|future| {
                    future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
                });
            if is_done {
                *slot = None;
            }
            is_done
        }));
        let is_done = polled.unwrap_or_else(|_| {
            log::error!("a task of the WhatsApp library panicked");
            // What panics while it is dropped is left to leak with what it holds.
            let dropped = panic::catch_unwind(AssertUnwindSafe(|| *slot = None));
            dropped.is_err() || slot.is_none()
        });
        drop(slot);
        if is_done {
            self.state.store(DONE, Ordering::Release);
        } else if self
            .state
            .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            // Woken meanwhile. To the end of the queue: the others come first.
            self.state.store(QUEUED, Ordering::Release);
            let tasks = Arc::clone(&self.tasks);
            tasks.push(self);
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let woken =
            self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
                IDLE => Some(QUEUED),
                RUNNING => Some(WOKEN),
                _ => None,
            });
        if woken == Ok(IDLE) {
            let tasks = Arc::clone(&self.tasks);
            tasks.push(self);
        }
    }
}
