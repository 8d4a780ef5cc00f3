use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, mpsc};
use std::task::{Context, Waker};
use std::time::Instant;

use super::*;

/// Longer than any of these takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn pool(workers: usize) -> Arc<Pool> {
    Pool::start(workers).expect("threads")
}

/// Tells of its drop.
struct Guard(mpsc::Sender<&'static str>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send("dropped").expect("somebody waits");
    }
}

/// The outcome of a future that runs as a task.
fn run<T: Send + 'static>(pool: &Pool, future: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    pool.spawn_detached(Box::pin(async move {
        sender.send(future.await).expect("somebody waits");
    }));
    receiver.recv_timeout(PATIENCE).expect("in time")
}

#[test]
fn a_wake_up_while_it_is_polled_is_not_lost() {
    for workers in [1, 2] {
        let pool = pool(workers);
        let rounds = run(&pool, async {
            let mut count = 0;
            std::future::poll_fn(move |context| {
                count += 1;
                // From here, and from a thread that does it before this poll is over.
                let waker = context.waker().clone();
                thread::spawn(move || waker.wake()).join().expect("woken");
                context.waker().wake_by_ref();
                if count < 1000 { Poll::Pending } else { Poll::Ready(count) }
            })
            .await
        });
        assert_eq!(1000, rounds);
    }
}

#[test]
fn an_aborted_task_is_dropped_soon_and_polled_no_more() {
    let pool = pool(1);
    let (sender, receiver) = mpsc::channel();
    let guard = Guard(sender.clone());
    let handle = pool.spawn(Box::pin(async move {
        let _guard = guard;
        sender.send("runs").expect("somebody waits");
        std::future::pending::<()>().await;
    }));
    assert_eq!(Ok("runs"), receiver.recv_timeout(PATIENCE));
    drop(handle);
    assert_eq!(Ok("dropped"), receiver.recv_timeout(PATIENCE));
    assert_eq!(Err(mpsc::RecvTimeoutError::Disconnected), receiver.recv_timeout(PATIENCE));
}

#[test]
fn a_task_aborted_while_it_is_polled_is_dropped_after_it() {
    let pool = pool(1);
    let (sender, receiver) = mpsc::channel();
    let (inside, polled) = (Arc::new(Barrier::new(2)), AtomicU32::new(0));
    let (guard, entered) = (Guard(sender), Arc::clone(&inside));
    let handle = pool.spawn(Box::pin(async move {
        let _guard = guard;
        std::future::poll_fn::<(), _>(|_| {
            assert_eq!(0, polled.fetch_add(1, Ordering::Relaxed), "polled again");
            entered.wait();
            entered.wait();
            Poll::Pending
        })
        .await;
    }));
    inside.wait();
    handle.abort();
    inside.wait();
    assert_eq!(Ok("dropped"), receiver.recv_timeout(PATIENCE));
}

#[test]
fn a_detached_task_goes_on() {
    let pool = pool(1);
    let (sender, receiver) = async_channel::bounded::<u8>(1);
    let (told, heard) = mpsc::channel();
    pool.spawn(Box::pin(async move { told.send(receiver.recv().await).expect("waited for") }))
        .detach();
    sender.send_blocking(7).expect("room");
    assert_eq!(Ok(7), heard.recv_timeout(PATIENCE).expect("in time"));
}

#[test]
fn what_panics_takes_no_thread_along() {
    let pool = pool(1);
    for _ in 0..3 {
        pool.spawn_detached(Box::pin(async { panic!("a task") }));
        let ended = pool.spawn_blocking(Box::new(|| panic!("a closure")));
        run(&pool, ended);
    }
    assert_eq!(4, run(&pool, async { 4 }));
}

#[test]
fn sleepers_wake_in_the_order_of_their_times() {
    let pool = pool(2);
    let (sender, receiver) = mpsc::channel();
    let started_at = Instant::now();
    for millis in [60, 20, 40, 0] {
        let sleep = pool.sleep(Duration::from_millis(millis));
        let sender = sender.clone();
        pool.spawn_detached(Box::pin(async move {
            sleep.await;
            assert!(Duration::from_millis(millis) <= started_at.elapsed());
            sender.send(millis).expect("somebody waits");
        }));
    }
    let order: Vec<u64> =
        (0..4).map(|_| receiver.recv_timeout(PATIENCE).expect("in time")).collect();
    assert_eq!([0, 20, 40, 60], order[..]);
    assert_eq!(0, pool.timer.sleeper_count());
}

#[test]
fn dropped_sleeps_leave_nothing_behind() {
    let pool = pool(1);
    let mut context = Context::from_waker(Waker::noop());
    let mut sleeps: Vec<Job> = (0..100).map(|_| pool.sleep(Duration::MAX)).collect();
    assert_eq!(0, pool.timer.sleeper_count());
    for _ in 0..2 {
        for sleep in &mut sleeps {
            assert!(sleep.as_mut().poll(&mut context).is_pending());
        }
    }
    assert_eq!(100, pool.timer.sleeper_count());
    drop(sleeps);
    assert_eq!(0, pool.timer.sleeper_count());
}

#[test]
fn blocking_work_runs_unasked_and_on_few_threads() {
    let pool = pool(1);
    let (sender, receiver) = mpsc::channel();
    let at_work = Arc::new(AtomicU32::new(0));
    for number in 0..20 {
        let (sender, at_work) = (sender.clone(), Arc::clone(&at_work));
        // Never polled.
        drop(pool.spawn_blocking(Box::new(move || {
            let count = at_work.fetch_add(1, Ordering::SeqCst) + 1;
            thread::yield_now();
            at_work.fetch_sub(1, Ordering::SeqCst);
            sender.send((number, count)).expect("somebody waits");
        })));
    }
    let mut done: Vec<(u32, u32)> =
        (0..20).map(|_| receiver.recv_timeout(PATIENCE).expect("in time")).collect();
    done.sort_unstable();
    assert!((0..20).eq(done.iter().map(|(number, _)| *number)));
    let most = done.iter().map(|(_, count)| *count).max();
    let allowed = u32::try_from(crate::limits::WHATSAPP_BLOCKING_THREADS_MAX).expect("few");
    assert!(most <= Some(allowed), "{most:?}");
}

#[test]
fn one_worker_lets_others_through_a_long_loop() {
    let pool = pool(1);
    let (sender, receiver) = mpsc::channel();
    let runtime = Arc::clone(&pool);
    let yields = move || runtime.yield_now().expect("needed");
    let (begun, begins) = mpsc::channel();
    pool.spawn_detached(Box::pin(async move {
        begun.send(()).expect("somebody waits");
        while receiver.try_recv().is_err() {
            yields().await;
        }
    }));
    begins.recv_timeout(PATIENCE).expect("in time");
    run(&pool, async move { sender.send(()).expect("it waits") });
}

#[test]
fn the_last_holder_may_be_a_task() {
    let pool = pool(1);
    let (sender, receiver) = mpsc::channel();
    let guard = Guard(sender);
    let (own, stays) = (Arc::clone(&pool), async_channel::bounded::<()>(1));
    let waits = stays.1;
    pool.spawn_detached(Box::pin(async move {
        let _kept = (own, guard);
        waits.recv().await.unwrap_or_default();
    }));
    drop(pool);
    drop(stays.0);
    assert_eq!(Ok("dropped"), receiver.recv_timeout(PATIENCE));
}

#[test]
fn its_end_drops_what_still_waits_for_its_turn() {
    let pool = pool(1);
    let (sender, receiver) = mpsc::channel();
    let (inside, entered) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (blocks, enters) = (Arc::clone(&inside), Arc::clone(&entered));
    pool.spawn_detached(Box::pin(async move {
        enters.wait();
        blocks.wait();
    }));
    entered.wait();
    let guard = Guard(sender);
    pool.spawn_detached(Box::pin(async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    }));
    pool.tasks.close();
    assert_eq!(Ok("dropped"), receiver.recv_timeout(PATIENCE));
    inside.wait();
    drop(pool);
}

#[test]
fn block_on_waits_for_another_thread() {
    let pool = pool(1);
    block_on(pool.sleep(Duration::from_millis(1)));
    let (sender, receiver) = async_channel::bounded(1);
    thread::spawn(move || sender.send_blocking(3).expect("room"));
    assert_eq!(Ok(3), block_on(receiver.recv()));
    // A permit of another's parking does not end the wait.
    thread::current().unpark();
    assert_eq!(1, block_on(async { 1 }));
}
