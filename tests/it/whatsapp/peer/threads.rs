//! What the protocol library asks of an executor, as simply as it can be had: a thread for each
//! task and each sleep. The program's own pool is one of the things that are tried here.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use wacore::runtime::{AbortHandle, Runtime};

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What wakes a task.
#[derive(Default)]
struct Bell {
    is_rung: Mutex<bool>,
    changed: Condvar,
    is_aborted: AtomicBool,
}

impl Bell {
    /// The outcome of `future`; nothing where it was aborted.
    fn finish<F: Future>(self: &Arc<Bell>, future: F) -> Option<F::Output> {
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        while !self.is_aborted.load(Ordering::Acquire) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            let is_rung = self.is_rung.lock().expect("nobody panics while holding it");
            let silent = |is_rung: &mut bool| !*is_rung;
            *self.changed.wait_while(is_rung, silent).expect("nobody panics while holding it") =
                false;
        }
        None
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        *self.is_rung.lock().expect("nobody panics while holding it") = true;
        self.changed.notify_one();
    }
}

/// The outcome of `future`, however long it takes.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    Arc::new(Bell::default()).finish(future).expect("nobody aborts it")
}

/// The executor.
pub(super) struct Threads;

impl Runtime for Threads {
    fn spawn(&self, future: Job) -> AbortHandle {
        let bell = Arc::new(Bell::default());
        let own = Arc::clone(&bell);
        thread::spawn(move || own.finish(future));
        AbortHandle::new(move || {
            bell.is_aborted.store(true, Ordering::Release);
            bell.wake();
        })
    }

    fn sleep(&self, duration: Duration) -> Job {
        let (waiting, hung_up) = mpsc::channel::<()>();
        let (done, slept) = async_channel::bounded(1);
        // Ends at once where the sleep is given up.
        thread::spawn(move || {
            if hung_up.recv_timeout(duration) == Err(RecvTimeoutError::Timeout) {
                done.send_blocking(()).ok();
            }
        });
        Box::pin(async move {
            slept.recv().await.ok();
            drop(waiting);
        })
    }

    fn spawn_blocking(&self, closure: Box<dyn FnOnce() + Send>) -> Job {
        let (done, ended) = async_channel::bounded::<()>(1);
        thread::spawn(move || {
            closure();
            drop(done);
        });
        Box::pin(async move {
            // Hung up: it is over.
            ended.recv().await.ok();
        })
    }

    // Each task has a thread of its own.
    fn yield_now(&self) -> Option<Job> {
        None
    }
}
