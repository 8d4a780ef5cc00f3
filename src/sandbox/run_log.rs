//! The log of one run: `groups/{folder}/logs/container-….log`.
//!
//! Start, end, sizes, durations, and what the runner wrote to stderr. Never a prompt, an answer or
//! a frame; never more than [`limits::RUN_LOG_BYTES_MAX`]; and never a reason for a run to fail.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use chrono::DateTime;

use crate::boundary::Dir;
use crate::ids::UnixMs;
use crate::limits;

/// Makes names differ that fall into the same millisecond.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A log, shared by the threads of its run. Each line is one write, so they cannot mix.
#[derive(Clone, Debug)]
pub struct RunLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    name: String,
    /// `None`: it could not be had.
    file: OnceLock<Option<File>>,
    started_at: Instant,
    bytes: AtomicU64,
}

impl RunLog {
    /// A log in `folder` of a run that starts now. The first line makes the file.
    pub fn new(folder: PathBuf) -> RunLog {
        let log = Inner {
            folder,
            name: file_name(UnixMs::now()),
            file: OnceLock::new(),
            started_at: Instant::now(),
            bytes: AtomicU64::new(0),
        };
        RunLog(Arc::new(log))
    }

    /// Adds a line. Its text must not be of a message.
    pub fn line(&self, text: impl fmt::Display) {
        let log = &self.0;
        let Some(mut file) = log.file.get_or_init(|| log.open()).as_ref() else { return };
        let line = format!("at_ms={} {text}\n", log.started_at.elapsed().as_millis());
        let size = line.len() as u64;
        let before = log.bytes.fetch_add(size, Ordering::Relaxed);
        let written = if before + size <= limits::RUN_LOG_BYTES_MAX {
            file.write_all(line.as_bytes())
        } else if before <= limits::RUN_LOG_BYTES_MAX {
            file.write_all(b"log is full\n")
        } else {
            return;
        };
        if let Err(error) = written {
            // Once is enough: pretends to be full.
            log.bytes.store(limits::RUN_LOG_BYTES_MAX + 1, Ordering::Relaxed);
            log::warn!("the log of a run cannot be written: {error}");
        }
    }
}

impl Inner {
    fn open(&self) -> Option<File> {
        let file = Dir::open(&self.folder).and_then(|folder| folder.create_new(&self.name, 0o600));
        file.inspect_err(|error| log::warn!("a run has no log: {}", crate::chain(error))).ok()
    }
}

/// Name of the log of a run that starts `now`: sorted by name is sorted by time.
fn file_name(now: UnixMs) -> String {
    let at = DateTime::from_timestamp_millis(now.0).unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("container-{}-{count:03}.log", at.format("%Y-%m-%dT%H-%M-%S-%3fZ"))
}

/// Makes a program's output fit for a log: one line of text, without control characters.
pub(super) fn clean(bytes: &[u8], chars_max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(chars_max).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn stays_within_its_size_and_says_so() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = RunLog::new(folder.path().to_owned());
        log.line("first");
        for _ in 0..300 {
            log.line("x".repeat(8192));
        }
        let text = fs::read_to_string(folder.path().join(&log.0.name)).expect("the log");
        assert!(text.len() as u64 <= limits::RUN_LOG_BYTES_MAX + 12, "{}", text.len());
        assert!(text.starts_with("at_ms=") && text.contains(" first\n"));
        assert_eq!(1, text.matches("log is full\n").count());
        assert!(text.ends_with("log is full\n"));
    }

    #[test]
    fn names_of_the_same_moment_differ_and_sort_by_time() {
        let first = file_name(UnixMs(1_771_496_430_123));
        assert!(first.starts_with("container-2026-02-19T10-20-30-123Z-"), "{first}");
        assert_eq!(Some("log"), first.rsplit('.').next());
        assert!(first < file_name(UnixMs(1_771_496_430_123)));
        assert!(first < file_name(UnixMs(1_771_496_430_124)));
    }

    #[test]
    fn terminal_sequences_do_not_reach_the_log() {
        assert_eq!("\u{fffd}[31mred\u{fffd}", clean(b"\x1b[31mred\xff", 99));
        assert_eq!("ab", clean(b"abc", 2));
    }
}
