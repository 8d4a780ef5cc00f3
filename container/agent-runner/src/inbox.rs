//! Follow-ups: files that the host renames into the input folder, and the file that says no more
//! will come.
//!
//! A file is handed out once in the life of this program, whether or not it can be deleted later,
//! and it is deleted only when its user says that the text was taken. From the moment the close
//! file is seen nothing is handed out: what lies there belongs to the host again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, never};
use rust_claw_protocol::{CLOSE_FILE, FollowUp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, inotify, open};

use crate::limits::{FOLLOW_UP_BYTES_MAX, INBOX_ENTRIES_MAX, INBOX_POLL};
use crate::report::note;
use crate::worker::Worker;

/// A follow-up that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    /// Name of its file, for [`Inbox::taken`] and for the frame.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

/// What a look into the folder found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// New follow-ups, oldest first.
    pub(crate) letters: Vec<Letter>,
    /// Whether the host wants us to finish; then `letters` is empty.
    pub(crate) is_closing: bool,
}

/// The input folder.
pub(crate) struct Inbox {
    folder: PathBuf,
    /// Files that were handed out or found bad: never again, even where they cannot be deleted.
    used: BTreeSet<String>,
    is_closing: bool,
    bell: Receiver<()>,
    _watch: Option<Watch>,
}

impl Inbox {
    /// An inbox from which nothing ever comes, closed from the start: a scheduled task answers its
    /// prompt and ends.
    pub(crate) fn closed() -> Inbox {
        let folder = PathBuf::new();
        let used = BTreeSet::new();
        Inbox { folder, used, is_closing: true, bell: never(), _watch: None }
    }

    /// The inbox in `folder`, which rings its bell when something may have come.
    pub(crate) fn watching(folder: PathBuf) -> Inbox {
        let (bell, watch) = match watch(&folder) {
            Ok((bell, watch)) => (bell, Some(watch)),
            Err(error) => {
                // A run without follow-ups is better than none: the host takes them back.
                note(format_args!("no follow-ups, the input folder cannot be watched: {error}"));
                (never(), None)
            }
        };
        Inbox { folder, used: BTreeSet::new(), is_closing: false, bell, _watch: watch }
    }

    /// Gets a message when a look is worth while.
    pub(crate) fn bell(&self) -> &Receiver<()> {
        &self.bell
    }

    /// Looks for the close file and for at most `count_max` follow-ups.
    pub(crate) fn look(&mut self, count_max: usize) -> Look {
        if self.is_closing {
            return Look { is_closing: true, ..Look::default() };
        }
        let names = match self.names() {
            Ok(names) => names,
            Err(error) => {
                note(format_args!("cannot list the input folder: {error}"));
                return Look::default();
            }
        };
        if names.is_closing {
            self.is_closing = true;
            self.delete(CLOSE_FILE);
            return Look { is_closing: true, ..Look::default() };
        }
        let mut letters = Vec::new();
        for (_, name) in names.letters {
            if letters.len() == count_max {
                break;
            }
            match read(&self.folder.join(&name)) {
                Ok(text) => letters.push(Letter { name: name.clone(), text }),
                Err(why) => {
                    note(format_args!("follow-up `{name}` removed: {why}"));
                    self.delete(&name);
                }
            }
            self.used.insert(name);
        }
        Look { letters, is_closing: false }
    }

    /// Deletes the file of a follow-up whose text is in use.
    pub(crate) fn taken(&mut self, name: &str) {
        if self.delete(name) {
            self.used.remove(name);
        }
    }

    /// Deletes a file; says so where that fails, and whether it is gone.
    fn delete(&self, name: &str) -> bool {
        match std::fs::remove_file(self.folder.join(name)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                note(format_args!("cannot delete `{name}`, it is not used again: {error}"));
                false
            }
        }
    }

    fn names(&self) -> io::Result<Names> {
        let mut names = Names { letters: BTreeSet::new(), is_closing: false };
        for entry in std::fs::read_dir(&self.folder)?.take(INBOX_ENTRIES_MAX) {
            let name = entry?.file_name();
            // Other names are files in the making, or none of ours.
            let Some(name) = name.to_str() else { continue };
            if name == CLOSE_FILE {
                names.is_closing = true;
            } else if let Some(order) = order(name)
                && !self.used.contains(name)
            {
                names.letters.insert((order, name.to_owned()));
            }
        }
        Ok(names)
    }
}

/// The thread that rings. Dropped in this order: hanging up ends it, then it is joined.
struct Watch {
    _hang_up: OwnedFd,
    _thread: Worker,
}

struct Names {
    letters: BTreeSet<((u64, u64), String)>,
    is_closing: bool,
}

/// The place in the order of arrival that a file's name says; `None` for names of other things.
/// Ours are `{seq}-{n}.json`; `NanoClaw` writes `{ms}-{letters}.json`.
fn order(name: &str) -> Option<(u64, u64)> {
    let (first, second) = name.strip_suffix(".json")?.split_once('-')?;
    let is_plain = |text: &str| {
        (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    if !is_plain(first) || !is_plain(second) {
        return None;
    }
    Some((first.parse().ok()?, second.parse().unwrap_or(0)))
}

/// Reads a follow-up; whatever is no small regular file with one is refused.
fn read(path: &Path) -> Result<String, String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty()).map_err(|errno| errno.to_string())?);
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FOLLOW_UP_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if FOLLOW_UP_BYTES_MAX < bytes.len() as u64 {
        return Err(format!("longer than {FOLLOW_UP_BYTES_MAX} bytes"));
    }
    // Only the place of a mistake is said, not the text.
    let FollowUp::Message { text } = serde_json::from_slice(&bytes)
        .map_err(|error| format!("not a follow-up: line {}", error.line()))?;
    Ok(text)
}

/// Starts the thread that rings when something happens in `folder`, and now and then.
fn watch(folder: &Path) -> io::Result<(Receiver<()>, Watch)> {
    let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let wanted = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&events, folder, wanted)?;
    let (hang_up_read, hang_up) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (ring, bell) = bounded(1);
    let thread = Worker::spawn("inbox", move || ring_on(&events, &hang_up_read, &ring))?;
    Ok((bell, Watch { _hang_up: hang_up, _thread: thread }))
}

/// Rings with each event and each tick, until the other end of `hang_up` is closed.
fn ring_on(events: &OwnedFd, hang_up: &OwnedFd, ring: &Sender<()>) {
    let tick = Timespec { tv_sec: 0, tv_nsec: INBOX_POLL.subsec_nanos().into() };
    loop {
        let mut fds = [PollFd::new(events, PollFlags::IN), PollFd::new(hang_up, PollFlags::IN)];
        if let Err(errno) = poll(&mut fds, Some(&tick))
            && errno != rustix::io::Errno::INTR
        {
            note(format_args!("no more follow-ups, the watch on them failed: {errno}"));
            return;
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        // What happened does not matter, only that something did: the folder is listed anyway.
        let mut buffer = [0; 4096];
        while rustix::io::read(events, &mut buffer).is_ok_and(|n| 0 < n) {}
        match ring.try_send(()) {
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => return,
        }
    }
}

#[cfg(test)]
mod tests;
