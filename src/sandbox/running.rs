//! One sandbox while it lives: its output as events, and its end.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use rust_claw_protocol::Output;
use rustix::event::PollFlags;
use rustix::process::Signal;

use super::engine::Engine;
use super::frames::{BadFrame, Found, Frames};
use super::run_log::{RunLog, clean};
use super::runtime;
use super::spec::{RuntimeKind, SandboxSpec, UnsafeSpec};
use super::supervise::{EndedBy, Joined, Leader, Pump, PumpEnd, Source, wait_some};
use crate::limits;

/// What a sandbox does, in order. After [`SandboxEvent::Exited`] nothing comes.
#[derive(Debug)]
pub enum SandboxEvent {
    /// The runner reports something.
    Frame {
        /// What it reports.
        output: Box<Output>,
        /// To be dropped when the frame is recorded.
        held: Held,
    },
    /// A frame was given up; the run goes on.
    BadFrame(BadFrame),
    /// There was output on stdout, of whatever kind: the hard limit starts anew. At most one per
    /// [`limits::ACTIVITY_INTERVAL`].
    Activity,
    /// It ended.
    Exited(Ended),
}

/// Keeps the sandbox from sending more while a large frame is being worked on: what waits in the
/// channel is small frames or one large one.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "its hang-up is the message")] Option<Sender<()>>);

/// How a sandbox ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The process that we started: bwrap, or the engine's client, which pass on the code of the
    /// runner.
    pub by: EndedBy,
    /// Last line of its stderr, for a person; may be empty.
    pub complaint: String,
    /// Something that it started outlived it and held the pipe until we gave up.
    pub leaked: bool,
}

/// How [`Running::stop`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It had ended before.
    ByItself,
    /// It ended when it was asked to.
    Asked,
    /// It had to be killed.
    Killed,
    /// Something of it may still be there; the next sweep has to see to it.
    LeftBehind,
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// It would not be the sandbox that was meant.
    #[error(transparent)]
    Unsafe(#[from] UnsafeSpec),
    /// The machine would not.
    #[error("cannot start `{program}`")]
    Start {
        /// bwrap, or the engine's client.
        program: String,
        /// Why.
        source: io::Error,
    },
}

/// A sandbox that was started. Dropping it ends the sandbox at once and waits for that, so it
/// belongs to the thread that started it.
pub struct Running {
    /// What it does. Whoever does not read holds the sandbox back.
    pub events: Receiver<SandboxEvent>,
    // The order of the fields is the order of the end: first nobody reads, then the threads hear
    // that, then they are joined, and last the leader, dead by then, is reaped.
    interest: Option<Sender<()>>,
    abandon: Option<PipeWriter>,
    threads: Vec<Joined>,
    leader: Leader,
    engine: Engine,
    name: String,
    home_label: String,
    is_stopped: bool,
}

impl Engine {
    /// Starts a sandbox and hands it `stdin`, then end of file. No frame larger than
    /// `output_bytes_max` is taken from it. `ended_well` is called as soon as it has ended by
    /// itself and as it should, so that nothing of it is left; else it never is.
    ///
    /// To be called by a thread that outlives the sandbox: under bwrap the sandbox dies with it.
    ///
    /// # Errors
    /// The spec is refused, or the program cannot be started. That the engine then cannot make the
    /// container shows as an early end.
    pub fn spawn(
        &self,
        spec: &SandboxSpec,
        stdin: Vec<u8>,
        log: &RunLog,
        output_bytes_max: u64,
        ended_well: impl FnOnce() + Send + 'static,
    ) -> Result<Running, SpawnError> {
        spec.check()?;
        let failed = |source| SpawnError::Start { program: self.cli_text(), source };
        let stdin_bytes = stdin.len();
        let (input, feed) = Feed::start(stdin).map_err(failed)?;
        let (leader, pipes) = Leader::spawn(self.command(spec), input.into()).map_err(failed)?;
        // While the child begins.
        log.line(format_args!(
            "start folder={} runtime={} name={} stdin_bytes={stdin_bytes}",
            spec.folder,
            self.kind(),
            spec.name,
        ));
        let (events, seen) = bounded(limits::RUN_EVENTS_MAX);
        let (interest, given_up) = bounded(0);
        let (abandoned, abandon) = io::pipe().map_err(failed)?;
        // From here on an early return ends the sandbox.
        let mut running = Running {
            events: seen,
            interest: Some(interest),
            abandon: Some(abandon),
            threads: Vec::with_capacity(2),
            leader,
            engine: self.clone(),
            name: spec.name.clone(),
            home_label: spec.home_label.clone(),
            is_stopped: false,
        };
        widen(&pipes.stdout);
        let abandoned_too = Some(abandoned.try_clone().map_err(failed)?);
        let pump = Pump::new(pipes.stdout, pipes.stderr, running.leader.exit(), abandoned_too);
        let frames = Frames::new(usize::try_from(output_bytes_max).unwrap_or(usize::MAX));
        let sink = Sink { events, given_up, is_gone: false, active_at: None, log: log.clone() };
        running
            .thread("out", move || read_output(pump, frames, sink, ended_well))
            .map_err(failed)?;
        if let Some(feed) = feed {
            running.thread("in", move || feed.run(&abandoned)).map_err(failed)?;
        }
        Ok(running)
    }
}

impl Running {
    /// Starts a thread around a pipe.
    fn thread(&mut self, end: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        // Thread names are short: what tells runs apart is at the end of the container's.
        let id = self.name.rsplit('-').next().unwrap_or(&self.name);
        self.threads.push(Joined::spawn(format!("run-{id}-{end}"), run)?);
        Ok(())
    }

    /// Ends the sandbox, with rising urgency: asks, by name where there is an engine; after `grace`
    /// kills; removes what is left and looks whether it is gone. Blocks at most for `grace` and
    /// some ten seconds more. What it still said can be read from `events` afterwards.
    pub fn stop(&mut self, grace: Duration) -> Stopped {
        self.is_stopped = true;
        let stopped = if self.leader.exit().by().is_some() {
            Stopped::ByItself
        } else if self.ask_to_end(grace) {
            Stopped::Asked
        } else if self.leader.kill().is_some() {
            Stopped::Killed
        } else {
            Stopped::LeftBehind
        };
        if self.is_removed() { stopped } else { Stopped::LeftBehind }
    }

    #[cfg(test)]
    pub(super) fn leader_pid(&self) -> rustix::process::Pid {
        self.leader.pid()
    }

    /// Asks for the end; true if it came.
    fn ask_to_end(&self, grace: Duration) -> bool {
        let exit = self.leader.exit();
        if self.engine.kind() == RuntimeKind::Bwrap {
            if !runtime::ask_to_end(self.leader.pid()) {
                // There is no program inside yet.
                self.leader.signal(Signal::TERM);
            }
            return exit.wait(grace).is_some();
        }
        match self.engine.stop(&self.home_label, &self.name, grace) {
            // The container has ended; its client follows.
            Ok(true) => exit.wait(limits::KILL_GRACE).is_some(),
            // The client has not come that far.
            Ok(false) => false,
            Err(error) => {
                log::warn!("container={} cannot be stopped: {error}", self.name);
                false
            }
        }
    }

    fn is_removed(&self) -> bool {
        match self.engine.remove(&self.home_label, &self.name) {
            Ok(()) => true,
            Err(error) => {
                log::warn!("container={} cannot be removed: {error}", self.name);
                false
            }
        }
    }
}

impl Drop for Running {
    /// Does what [`Running::stop`] would, without asking first.
    fn drop(&mut self) {
        let ended_by = self.leader.exit().by();
        if !self.is_stopped && ended_by != Some(EndedBy::Code(0)) {
            if ended_by.is_none() {
                self.leader.kill();
            }
            // A client that was killed, or that failed, may have left its container.
            self.is_removed();
        }
        self.interest = None;
        self.abandon = None;
    }
}

/// The way to the worker.
struct Sink {
    events: Sender<SandboxEvent>,
    /// Hangs up when nobody wants to hear any more.
    given_up: Receiver<()>,
    is_gone: bool,
    active_at: Option<Instant>,
    log: RunLog,
}

impl Sink {
    /// Sends, and waits for room if there is none.
    fn send(&mut self, event: SandboxEvent) {
        if self.is_gone {
            return;
        }
        match self.events.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(_)) => self.is_gone = true,
            Err(TrySendError::Full(event)) => select! {
                send(self.events, event) -> sent => self.is_gone = sent.is_err(),
                recv(self.given_up) -> _ => self.is_gone = true,
            },
        }
    }

    fn found(&mut self, found: Found) {
        match found {
            Found::Frame { output, bytes } if bytes <= limits::FRAME_BYTES_UNHELD_MAX => {
                self.send(SandboxEvent::Frame { output, held: Held(None) });
            }
            Found::Frame { output, .. } => {
                let (held, released) = bounded(0);
                self.send(SandboxEvent::Frame { output, held: Held(Some(held)) });
                select! {
                    recv(released) -> _ => {}
                    recv(self.given_up) -> _ => self.is_gone = true,
                }
            }
            Found::Bad(bad) => {
                self.log.line(format_args!("bad frame why={} bytes={}", bad.why, bad.bytes));
                self.send(SandboxEvent::BadFrame(bad));
            }
        }
    }

    /// Notes that there was output.
    fn active(&mut self) {
        let now = Instant::now();
        if self.active_at.is_none_or(|at| at + limits::ACTIVITY_INTERVAL <= now) {
            self.active_at = Some(now);
            // A full channel is a sign of life already.
            if let Err(TrySendError::Disconnected(_)) = self.events.try_send(SandboxEvent::Activity)
            {
                self.is_gone = true;
            }
        }
    }
}

/// The whole of `run-…-out`.
fn read_output(mut pump: Pump, mut frames: Frames, mut sink: Sink, ended_well: impl FnOnce()) {
    let started_at = Instant::now();
    let mut stdout_bytes = 0;
    let mut errors =
        Errors { log: sink.log.clone(), bytes: 0, line: Vec::new(), last: String::new() };
    let end = pump.run(None, |source, bytes| {
        match source {
            Source::Stdout => {
                stdout_bytes += bytes.len() as u64;
                frames.push(bytes, &mut |found| sink.found(found));
                sink.active();
            }
            Source::Stderr => errors.push(bytes),
        }
        !sink.is_gone
    });
    frames.finish(&mut |found| sink.found(found));
    errors.end_line();
    // It may close its output long before it ends.
    let Some(by) = pump.wait_exit() else { return };
    if by == EndedBy::Code(0) {
        ended_well();
    }
    let leaked = end == PumpEnd::Leaked;
    sink.log.line(format_args!(
        "end by=\"{by}\" run_ms={} stdout_bytes={stdout_bytes} stderr_bytes={} leaked={leaked}",
        started_at.elapsed().as_millis(),
        errors.bytes
    ));
    sink.send(SandboxEvent::Exited(Ended { by, complaint: errors.last, leaked }));
}

/// What stderr says: into the log, line by line.
struct Errors {
    log: RunLog,
    bytes: u64,
    /// The beginning of the line that has not ended.
    line: Vec<u8>,
    /// The last line that said something.
    last: String,
}

impl Errors {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = limits::STDERR_LINE_BYTES_MAX - self.line.len();
            self.line.extend_from_slice(&part[..room.min(part.len())]);
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let text = clean(self.line.trim_ascii(), limits::STDERR_LINE_BYTES_MAX);
        self.line.clear();
        if !text.is_empty() {
            self.log.line(format_args!("stderr: {text}"));
            self.last = text;
        }
    }
}

/// What of a child's standard input did not fit its pipe at once. A child that never reads holds up
/// this thread and nothing else.
struct Feed {
    pipe: PipeWriter,
    bytes: Vec<u8>,
    written: usize,
}

impl Feed {
    /// A pipe for a child that is still to be started, with what fits in it; closed if that is all.
    fn start(bytes: Vec<u8>) -> io::Result<(PipeReader, Option<Feed>)> {
        let (reader, pipe) = io::pipe()?;
        if limits::PIPE_BYTES_USUAL < bytes.len() {
            widen(&pipe);
        }
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let mut feed = Feed { pipe, bytes, written: 0 };
        let is_all = feed.write();
        Ok((reader, (!is_all).then_some(feed)))
    }

    /// Writes what fits. True when there is nothing more to do.
    fn write(&mut self) -> bool {
        while self.written < self.bytes.len() {
            match self.pipe.write(&self.bytes[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    // It did not want to know; how it ends will say why.
                    log::debug!("stdin of a sandbox: {error}");
                    return true;
                }
            }
        }
        true
    }

    fn run(mut self, abandoned: &PipeReader) {
        while !self.write() {
            let fds = [Some(self.pipe.as_fd()), Some(abandoned.as_fd())];
            if wait_some(fds, PollFlags::OUT, None)[1] {
                return;
            }
        }
    }
}

/// Asks for a large pipe; a small one works as well.
fn widen(pipe: &impl AsFd) {
    #[cfg(target_os = "linux")]
    if let Err(errno) = rustix::pipe::fcntl_setpipe_size(pipe, limits::PIPE_BYTES) {
        log::debug!("pipe of a sandbox stays small: {errno}");
    }
    #[cfg(not(target_os = "linux"))]
    let _: &_ = pipe;
}
