//! One process at a time serves a home (hazard 28).

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::{FILE_MODE, Home};

/// What a process serves the home for; told to those who must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `run`.
    Daemon,
    /// `chat` or `ask` without a daemon.
    Terminal,
    /// A task run by hand or by cron without a daemon.
    Task,
    /// Something is brought in from elsewhere.
    Import,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Purpose::Daemon => "daemon",
            Purpose::Terminal => "terminal",
            Purpose::Task => "task",
            Purpose::Import => "import",
        }
    }
}

/// The home is ours until this is dropped, or the process ends however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Why the home is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("home `{}` is in use by {holder}", home.display())]
    Held {
        /// The home.
        home: PathBuf,
        /// Its process id; `None` in the instant in which it is not written yet.
        pid: Option<u32>,
        /// What it says it is: `process 12 (daemon)`.
        holder: String,
    },
    /// The lock's file cannot be used.
    #[error("cannot lock `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Home {
    /// Takes the home for this process, without waiting. Needs [`Home::create`] before.
    ///
    /// # Errors
    /// [`LockError::Held`]: the exit code for it is 75.
    pub fn lock(&self, purpose: Purpose) -> Result<Lock, LockError> {
        let path = self.root().join("store/daemon.lock");
        let failed = |source| LockError::File { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(failed)?;
        let deadline = Instant::now() + HOLDER_END_MAX;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) => {
                    let (pid, holder) = holder(&mut file).map_err(failed)?;
                    if pid.is_none_or(is_alive) || deadline <= Instant::now() {
                        return Err(LockError::Held { home: self.root().to_owned(), pid, holder });
                    }
                    // It was killed while it started a child, which has the lock until it runs its
                    // program.
                    thread::sleep(HOLDER_END_PAUSE);
                }
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        let mut lock = Lock { file };
        lock.sign(purpose).map_err(failed)?;
        Ok(lock)
    }
}

impl Home {
    /// The process that has the home, by its id; `None` where nobody has it.
    ///
    /// # Errors
    /// [`LockError::File`].
    pub fn holder(&self) -> Result<Option<u32>, LockError> {
        let path = self.root().join("store/daemon.lock");
        let failed = |source| LockError::File { path: path.clone(), source };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => Ok(holder(&mut file).map_err(failed)?.0),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

impl Lock {
    fn sign(&mut self, purpose: Purpose) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{} {}", std::process::id(), purpose.as_str())
    }
}

/// How long a child of a dead holder may take to run its program.
const HOLDER_END_MAX: Duration = Duration::from_secs(5);
const HOLDER_END_PAUSE: Duration = Duration::from_millis(10);

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

fn holder(file: &mut File) -> std::io::Result<(Option<u32>, String)> {
    let mut text = String::new();
    file.rewind()?;
    file.take(64).read_to_string(&mut text)?;
    let signed = text.trim_end().split_once(' ');
    let known = signed.and_then(|(pid, purpose)| Some((pid.parse::<u32>().ok()?, purpose)));
    Ok(match known {
        Some((pid, purpose)) => (Some(pid), format!("process {pid} ({purpose})")),
        None => (None, "a process that has just started".to_owned()),
    })
}
