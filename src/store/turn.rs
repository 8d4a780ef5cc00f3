//! Who writes next. At `SQLite`'s own lock one waits asleep, in steps that grow to 100 ms, while
//! the lock lies free; with 50 runs at a time that is most of the time. So the writers of this
//! process queue here, where the next one is woken at once; those of other processes, rare, are
//! waited for in short steps.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::Transaction;

use crate::limits::DATABASE_BUSY_MAX;

/// A lock and not a thread that writes for all: who writes needs the outcome before it goes on,
/// and reads what it decides on in the same transaction. It guards no data, so that one that was
/// poisoned is as good as new.
static TURN: Mutex<()> = Mutex::new(());

/// The right to write, among the threads of this process. To be held for one transaction, and
/// never twice by one thread.
pub(super) fn take() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A transaction that writes; rolled back when it is dropped without [`Write::commit`].
pub(super) struct Write<'a> {
    // In this order: the next in turn must find `SQLite`'s lock free.
    tx: Transaction<'a>,
    _turn: MutexGuard<'static, ()>,
}

impl<'a> Write<'a> {
    pub(super) fn new(tx: Transaction<'a>, turn: MutexGuard<'static, ()>) -> Write<'a> {
        Write { tx, _turn: turn }
    }

    pub(super) fn commit(self) -> rusqlite::Result<()> {
        self.tx.commit()
    }
}

impl<'a> Deref for Write<'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Transaction<'a> {
        &self.tx
    }
}

/// Most transactions are over in less than a millisecond.
const STEP: Duration = Duration::from_micros(200);
/// A long one, of another process, is not worth so much looking.
const LONG_STEP: Duration = Duration::from_millis(5);
const STEPS: i32 = 50;
#[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
const LONG_STEPS: i32 = (DATABASE_BUSY_MAX.as_millis() / LONG_STEP.as_millis()) as i32;

/// Waits for another process; says whether to try again. `times` counts how often it was asked.
pub(super) fn wait_for_others(times: i32) -> bool {
    thread::sleep(if times < STEPS { STEP } else { LONG_STEP });
    times < STEPS + LONG_STEPS
}
