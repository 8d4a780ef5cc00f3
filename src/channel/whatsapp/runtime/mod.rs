//! What the protocol library asks of an executor, on a fixed number of named threads: a [pool]
//! that polls its tasks, one thread for all its sleeps, and a few short-lived ones for what blocks.
//!
//! Nothing of ours may block on a thread of the pool but the stores, whose calls take a
//! millisecond; `block_on` is for our own threads only.

mod block_on;
mod blocking;
mod pool;
mod timer;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wacore::runtime::{AbortHandle, Runtime};

pub(super) use block_on::block_on;

use blocking::Blocking;
use pool::Tasks;
use timer::Timer;

/// A future of the library's.
type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The executor. Its threads end when it is dropped; what was spawned is dropped then.
pub(super) struct Pool {
    tasks: Arc<Tasks>,
    timer: Arc<Timer>,
    blocking: Arc<Blocking>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `workers` threads, and the one that wakes those who sleep.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start(workers: usize) -> io::Result<Arc<Pool>> {
        let mut pool = Pool {
            tasks: Arc::default(),
            timer: Arc::default(),
            blocking: Arc::default(),
            threads: Vec::new(),
        };
        for number in 1..=workers {
            let tasks = Arc::clone(&pool.tasks);
            let named = thread::Builder::new().name(format!("whatsapp-pool-{number}"));
            pool.threads.push(named.spawn(move || tasks.work())?);
        }
        let timer = Arc::clone(&pool.timer);
        let named = thread::Builder::new().name("whatsapp-timer".to_owned());
        pool.threads.push(named.spawn(move || timer.work())?);
        Ok(Arc::new(pool))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.tasks.close();
        self.timer.close();
        for thread in self.threads.drain(..) {
            // The last holder may be a task: a thread cannot wait for its own end.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                log::error!("a thread of the WhatsApp runtime had panicked");
            }
        }
    }
}

impl Runtime for Pool {
    fn spawn(&self, future: Job) -> AbortHandle {
        let task = self.tasks.spawn(future);
        AbortHandle::new(move || task.abort())
    }

    fn spawn_detached(&self, future: Job) {
        drop(self.tasks.spawn(future));
    }

    fn sleep(&self, duration: Duration) -> Job {
        Box::pin(timer::Sleep::new(&self.timer, duration))
    }

    fn spawn_blocking(&self, closure: Box<dyn FnOnce() + Send>) -> Job {
        self.blocking.spawn(closure)
    }

    // One worker is the usual case: a long loop has to let the others through.
    fn yield_now(&self) -> Option<Job> {
        let mut yielded = false;
        Some(Box::pin(std::future::poll_fn(move |context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })))
    }
}

#[cfg(test)]
mod tests;
