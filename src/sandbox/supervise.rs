//! A child process and everything it started: it ends when we say so, and all of it does.
//!
//! The child leads a process group of its own. A thread only *watches* for its end with
//! `waitid(EXITED | NOWAIT)`, so that the dead leader still pins the group's id while what is left
//! of the group is killed; reaping comes last. So no signal can ever hit a process that reuses an
//! id, and neither a zombie nor a member of the group survives a [`Leader`].

use std::fmt;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

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

    /// Leaves the thread to itself: for one that waits for a process that not even SIGKILL ends.
    fn detach(&mut self) {
        drop(self.0.take());
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
    by: Arc<OnceLock<EndedBy>>,
    /// Hangs up when `by` is set.
    seen: Arc<PipeReader>,
}

impl Exit {
    /// How it ended, if it has.
    pub(super) fn by(&self) -> Option<EndedBy> {
        self.by.get().copied()
    }

    /// Hangs up at the end.
    pub(super) fn seen_fd(&self) -> BorrowedFd<'_> {
        self.seen.as_fd()
    }

    /// Waits for the end.
    pub(super) fn wait(&self, at_most: Duration) -> Option<EndedBy> {
        // A failing poll shows as a time-out, on which every caller acts.
        let deadline = Instant::now() + at_most;
        while self.by().is_none() && Instant::now() < deadline {
            wait_some([Some(self.seen.as_fd())], PollFlags::IN, Some(deadline));
        }
        self.by()
    }
}

/// The pipes of a child.
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

/// A running child, leader of its process group.
///
/// Dropping it kills the group and reaps the leader.
pub(super) struct Leader {
    group: Pid,
    exit: Exit,
    /// Held while signals may be sent; without it the watcher reaps.
    hold: Option<Sender<()>>,
    watcher: Joined,
}

impl Leader {
    /// Starts `command`. The name is for its watcher: `run-7`.
    pub(super) fn spawn(mut command: Command, name: &str) -> io::Result<(Leader, Pipes)> {
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let by = Arc::new(OnceLock::new());
        let (seen, unseen) = io::pipe()?;
        let (hold, released) = bounded::<()>(0);
        // The thread exists before the child: a child without a watcher could be left a zombie.
        let (started, start) = bounded::<Child>(1);
        let watcher = Joined::spawn(format!("{name}-exit"), {
            let by = Arc::clone(&by);
            move || {
                if let Ok(child) = start.recv() {
                    watch(child, &by, unseen, &released);
                }
            }
        })?;
        let mut child = command.spawn()?;
        let group = Pid::from_child(&child);
        let pipes = Pipes {
            stdin: child.stdin.take().expect("stdin is piped"),
            stdout: child.stdout.take().expect("stdout is piped"),
            stderr: child.stderr.take().expect("stderr is piped"),
        };
        started.send(child).expect("the watcher waits for the child");
        let exit = Exit { by, seen: Arc::new(seen) };
        Ok((Leader { group, exit, hold: Some(hold), watcher }, pipes))
    }

    /// Its end, to wait for.
    pub(super) fn exit(&self) -> &Exit {
        &self.exit
    }

    /// The process.
    pub(super) fn pid(&self) -> Pid {
        self.group
    }

    /// Signals the whole group. The leader is not reaped while `self` lives, so the id is ours.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(errno) = kill_process_group(self.group, signal) {
            // Nothing is left of it: what was wanted.
            log::debug!("group={} signal={signal:?} errno={errno}", self.group);
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
            log::error!("process={} does not end after SIGKILL; left behind", self.group);
            self.watcher.detach();
        }
        // Lets the watcher reap; it is joined after this.
        self.hold = None;
    }
}

/// Sees the end of `child`, says so, and reaps it once nobody signals its group any more.
fn watch(
    mut child: Child,
    by: &OnceLock<EndedBy>,
    unseen: io::PipeWriter,
    released: &Receiver<()>,
) {
    let group = Pid::from_child(&child);
    let ended_by = loop {
        match waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => {}
            Ok(Some(status)) => {
                break status
                    .exit_status()
                    .map(EndedBy::Code)
                    .or(status.terminating_signal().map(EndedBy::Signal))
                    .unwrap_or(EndedBy::Unknown);
            }
            Ok(None) | Err(_) => break EndedBy::Unknown,
        }
    };
    if kill_process_group(group, Signal::KILL).is_err() {
        // The leader was alone, the usual case on some systems.
    }
    if by.set(ended_by).is_err() {
        unreachable!("only the watcher sets it");
    }
    drop(unseen);
    // Hang-up is the only message.
    while released.recv().is_ok() {}
    if let Err(error) = child.wait() {
        log::error!("process={group} cannot be reaped: {error}");
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
        while self.exit.by().is_none() {
            let abandoned = self.abandoned.as_ref().map(AsFd::as_fd);
            let ready = wait_some([abandoned, Some(self.exit.seen_fd())], PollFlags::IN, None);
            if ready[0] && self.exit.by().is_none() {
                return None;
            }
        }
        self.exit.by()
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
