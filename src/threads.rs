//! The end of threads.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a thread that is to end is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Waits for the end of `thread`, which was asked to. One that has not ended by `deadline` is left
/// to the end of the program, and named: a program that is told to stop stops.
pub(crate) fn join_by(thread: JoinHandle<()>, deadline: Instant) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    while !thread.is_finished() {
        if deadline <= Instant::now() {
            log::error!("the thread `{name}` does not end; it is left behind");
            return;
        }
        thread::sleep(LOOK);
    }
    if thread.join().is_err() {
        log::error!("the thread `{name}` had panicked");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn who_does_not_end_is_left_behind_and_who_does_is_waited_for() {
        let (word, waiting) = mpsc::channel::<()>();
        let stuck = thread::spawn(move || {
            waiting.recv().ok();
        });
        join_by(stuck, Instant::now());
        word.send(()).expect("it waits still");
        let (word, ended) = mpsc::channel();
        let slow = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            word.send(()).expect("somebody waits");
        });
        join_by(slow, Instant::now() + Duration::from_mins(1));
        assert_eq!(Ok(()), ended.try_recv());
        join_by(thread::spawn(|| panic!("as meant")), Instant::now() + Duration::from_mins(1));
    }
}
