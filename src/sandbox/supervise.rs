//! A child process and everything it started: it ends when we say so, and all of it does.
//!
//! The child leads a process group of its own. Its end is only *looked at*, by `waitid(EXITED |
//! NOWAIT)`, so that the dead leader still pins the group's id while what is left of the group is
//! killed; reaping comes last. So no signal can ever hit a process that reuses an id, and neither a
//! zombie nor a member of the group survives a [`Leader`].

use std::fmt;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open};

use crate::limits;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// The kernel would not say.
    Unknown,
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndedBy::Code(code) => write!(f, "exit status {code}"),
            EndedBy::Signal(signal) => write!(f, "signal {signal}"),
            EndedBy::Unknown => f.write_str("unknown end"),
        }
    }
}

/// A thread that is joined when this is dropped.
pub(super) struct Joined(Option<JoinHandle<()>>);

impl Joined {
    /// Starts `run` on a thread of that name.
    pub(super) fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<Joined> {
        Ok(Joined(Some(thread::Builder::new().name(name).spawn(run)?)))
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                log::error!("thread `{name}` panicked");
            }
        }
    }
}

/// The end of a process, for anyone who waits for it.
#[derive(Clone)]
pub(super) struct Exit {
    group: Pid,
    /// Held while its end is looked at, while its group is signalled because of that, and while it
    /// is reaped.
    by: Arc<Mutex<Option<EndedBy>>>,
    /// Can be read, or hangs up, at the end.
    seen: Arc<OwnedFd>,
}

impl Exit {
    fn of(group: Pid) -> io::Result<Exit> {
        Ok(Exit { group, by: Arc::default(), seen: Arc::new(seen_fd(group)?) })
    }

    /// How it ended, if it has; then what is left of its group has ended too.
    pub(super) fn by(&self) -> Option<EndedBy> {
        let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        if by.is_none() {
            *by = ended_by(self.group);
            if by.is_some() && kill_process_group(self.group, Signal::KILL).is_err() {
                // The leader was alone, the usual case on some systems.
            }
        }
        *by
    }

    /// Ready at the end.
    pub(super) fn seen_fd(&self) -> BorrowedFd<'_> {
        self.seen.as_fd()
    }

    /// Waits for the end.
    pub(super) fn wait(&self, at_most: Duration) -> Option<EndedBy> {
        // A failing poll shows as a time-out, on which every caller acts.
        let deadline = Instant::now() + at_most;
        loop {
            let by = self.by();
            if by.is_some() || deadline <= Instant::now() {
                return by;
            }
            wait_some([Some(self.seen.as_fd())], PollFlags::IN, Some(deadline));
        }
    }
}

/// How the leader of `group` ended, if it has; it is not reaped.
fn ended_by(group: Pid) -> Option<EndedBy> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    match waitid(WaitId::Pid(group), options) {
        Ok(Some(status)) => Some(
            status
                .exit_status()
                .map(EndedBy::Code)
                .or(status.terminating_signal().map(EndedBy::Signal))
                .unwrap_or(EndedBy::Unknown),
        ),
        Ok(None) | Err(Errno::INTR) => None,
        Err(_) => Some(EndedBy::Unknown),
    }
}

/// Something to wait for the end of our child with.
fn seen_fd(child: Pid) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    if let Ok(fd) = pidfd_open(child, PidfdFlags::empty()) {
        return Ok(fd);
    }
    // Elsewhere, and under an old Linux, a thread waits and hangs up.
    let (seen, unseen) = io::pipe()?;
    thread::Builder::new().name(format!("exit-{child}")).spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(child), options).is_err_and(|errno| errno == Errno::INTR) {}
        drop(unseen);
    })?;
    Ok(seen.into())
}

/// What a child says.
pub(super) struct Pipes {
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

/// A running child, leader of its process group.
///
/// Dropping it kills the group and reaps the leader.
pub(super) struct Leader {
    child: Child,
    exit: Exit,
}

impl Leader {
    /// Starts `command`, which reads `stdin`.
    pub(super) fn spawn(mut command: Command, stdin: Stdio) -> io::Result<(Leader, Pipes)> {
        command.process_group(0);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let exit = Exit::of(Pid::from_child(&child)).inspect_err(|_| {
            // One whose end nobody would see must not live.
            child.kill().and_then(|()| child.wait()).ok();
        })?;
        let pipes = Pipes {
            stdout: child.stdout.take().expect("stdout is piped"),
            stderr: child.stderr.take().expect("stderr is piped"),
        };
        Ok((Leader { child, exit }, pipes))
    }

    /// Its end, to wait for.
    pub(super) fn exit(&self) -> &Exit {
        &self.exit
    }

    /// The process.
    pub(super) fn pid(&self) -> Pid {
        self.exit.group
    }

    /// Signals the whole group. The leader is not reaped while `self` lives, so the id is ours.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(errno) = kill_process_group(self.pid(), signal) {
            // Nothing is left of it: what was wanted.
            log::debug!("group={} signal={signal:?} errno={errno}", self.pid());
        }
    }

    /// Kills the group and waits for its end.
    pub(super) fn kill(&self) -> Option<EndedBy> {
        self.signal(Signal::KILL);
        self.exit.wait(limits::KILL_GRACE)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.exit.by().is_none() && self.kill().is_none() {
            log::error!("process={} does not end after SIGKILL; left behind", self.pid());
            return;
        }
        // Who looks at its end meanwhile must not signal what may have its id next.
        let _by = self.exit.by.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.child.wait() {
            log::error!("process={} cannot be reaped: {error}", self.pid());
        }
    }
}

/// Why a [`Pump`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PumpEnd {
    /// Everybody who could write has closed both pipes.
    Closed,
    /// The process ended, and something that it started held a pipe for too long.
    Leaked,
    /// The reader was told to stop: by `abandoned`, by its deadline, or because nobody takes what
    /// it reads.
    Abandoned,
}

/// Which pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Stdout,
    Stderr,
}

/// Reads what a process says to its end, both pipes in turn.
pub(super) struct Pump {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    exit: Exit,
    /// Its hang-up ends the reading.
    abandoned: Option<PipeReader>,
}

impl Pump {
    pub(super) fn new(
        stdout: ChildStdout,
        stderr: ChildStderr,
        exit: &Exit,
        abandoned: Option<PipeReader>,
    ) -> Pump {
        Pump { stdout: Some(stdout), stderr: Some(stderr), exit: exit.clone(), abandoned }
    }

    /// Hands everything that is read to `take`, until `take` says no or the deadline is reached.
    pub(super) fn run(
        &mut self,
        deadline: Option<Instant>,
        mut take: impl FnMut(Source, &[u8]) -> bool,
    ) -> PumpEnd {
        let mut buffer = vec![0; limits::READ_BYTES];
        let mut drained_at: Option<Instant> = None;
        while self.stdout.is_some() || self.stderr.is_some() {
            if drained_at.is_none() && self.exit.by().is_some() {
                drained_at = Some(Instant::now() + limits::DRAIN_MAX);
            }
            let until = [drained_at, deadline].into_iter().flatten().min();
            // The exit wakes once; afterwards its hang-up would always be ready.
            let exit = drained_at.is_none().then(|| self.exit.seen_fd());
            let fds = [
                self.stdout.as_ref().map(AsFd::as_fd),
                self.stderr.as_ref().map(AsFd::as_fd),
                self.abandoned.as_ref().map(AsFd::as_fd),
                exit,
            ];
            let ready = wait_some(fds, PollFlags::IN, until);
            if ready[2] {
                return PumpEnd::Abandoned;
            }
            let now = until.map(|_| Instant::now());
            if drained_at.is_some() && drained_at <= now {
                return PumpEnd::Leaked;
            }
            if deadline.is_some() && deadline <= now {
                return PumpEnd::Abandoned;
            }
            let is_taken = (!ready[0]
                || read(&mut self.stdout, &mut buffer, |bytes| take(Source::Stdout, bytes)))
                && (!ready[1]
                    || read(&mut self.stderr, &mut buffer, |bytes| take(Source::Stderr, bytes)));
            if !is_taken {
                return PumpEnd::Abandoned;
            }
        }
        PumpEnd::Closed
    }

    /// Waits for the exit, also of a process that has closed its pipes long before; `None` when it
    /// is told to stop.
    pub(super) fn wait_exit(&self) -> Option<EndedBy> {
        loop {
            let by = self.exit.by();
            if by.is_some() {
                return by;
            }
            let abandoned = self.abandoned.as_ref().map(AsFd::as_fd);
            let ready = wait_some([abandoned, Some(self.exit.seen_fd())], PollFlags::IN, None);
            if ready[0] {
                return self.exit.by();
            }
        }
    }
}

/// Reads once; a pipe at its end goes. Says what `take` says.
fn read(pipe: &mut Option<impl Read>, buffer: &mut [u8], take: impl FnOnce(&[u8]) -> bool) -> bool {
    match pipe.as_mut().map(|pipe| pipe.read(buffer)) {
        Some(Ok(count)) if 0 < count => return take(&buffer[..count]),
        Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return true,
        Some(Err(error)) => log::warn!("a sandbox's pipe cannot be read: {error}"),
        Some(Ok(_)) | None => {}
    }
    *pipe = None;
    true
}

/// Waits until one of `fds` can be read or has hung up, the first of them until it is ready for
/// `first`; says which. None at the deadline.
pub(super) fn wait_some<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    first: PollFlags,
    deadline: Option<Instant>,
) -> [bool; N] {
    let timeout = deadline.map(|at| {
        let left = at.saturating_duration_since(Instant::now());
        Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
    });
    let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(N);
    for (at, fd) in fds.iter().enumerate() {
        if let Some(fd) = fd {
            let flags = if at == 0 { first } else { PollFlags::IN };
            polled.push(PollFd::from_borrowed_fd(*fd, flags));
        }
    }
    let mut ready = [false; N];
    if let Err(errno) = poll(&mut polled, timeout.as_ref()) {
        if errno != Errno::INTR {
            log::error!("poll: {errno}");
        }
        return ready;
    }
    let mut polled = polled.iter();
    for (ready, fd) in ready.iter_mut().zip(fds) {
        *ready = fd.is_some() && polled.next().is_some_and(|it| !it.revents().is_empty());
    }
    ready
}
