//! One process of the CLI: its pipes, its end, and the end of all it started.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde_json::json;

use super::conversation::Message;
use super::event::Event;
use crate::limits::{DRAIN_MAX, LINE_BYTES_MAX, STDERR_TAIL_BYTES, UNTAKEN_MAX};
use crate::report::note;

/// Lines that were read and not looked at yet; a full channel holds the CLI back.
const LINES_MAX: usize = 64;
/// Lines that were written and that the CLI has not read yet. Messages are bounded by
/// [`UNTAKEN_MAX`]; after a restart those of the running turn come again.
const WRITES_MAX: usize = 4 * UNTAKEN_MAX;

/// What the CLI's standard output brings.
pub(super) enum FromCli {
    /// A line.
    Said(Event),
    /// The end.
    Silent,
}

/// A running CLI, killed on drop.
///
/// It is the leader of a process group. The shells of its agent are in sessions of their own: they
/// end with the sandbox, of which this program is the first process.
pub(super) struct Cli {
    child: Child,
    /// Lines, in order.
    pub(super) said: Receiver<FromCli>,
    /// One message, when it has exited; it is not reaped yet then.
    pub(super) exited: Receiver<()>,
    /// Gone when its input has been ended.
    stdin: Option<Sender<Vec<u8>>>,
    /// The end of standard error. A lock, because it must be readable while a process that was
    /// left behind holds the pipe open.
    tail: Arc<Mutex<Vec<u8>>>,
    /// Hangs up at the end of standard error.
    tail_whole: Receiver<()>,
    is_reaped: bool,
}

impl Cli {
    /// Starts `command`.
    ///
    /// Its threads are not joined: each ends with a pipe, and a process that was left behind may
    /// hold one for as long as the sandbox lives.
    ///
    /// # Errors
    /// The program is not there, or no process or thread can be started.
    pub(super) fn spawn(mut command: Command) -> io::Result<Cli> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn()?;
        let mut input = child.stdin.take().expect("it was asked for");
        let output = child.stdout.take().expect("it was asked for");
        let errors = child.stderr.take().expect("it was asked for");
        let pid = Pid::from_child(&child);
        let (lines, said) = bounded(LINES_MAX);
        let (exit, exited) = bounded(1);
        let (stdin, writes) = bounded::<Vec<u8>>(WRITES_MAX);
        let tail = Arc::default();
        let (errors_read, tail_whole) = bounded(0);
        // From here on an early return kills it.
        let cli = Cli {
            child,
            said,
            exited,
            stdin: Some(stdin),
            tail: Arc::clone(&tail),
            tail_whole,
            is_reaped: false,
        };
        Builder::new().name("claude-in".to_owned()).spawn(move || {
            // Where it does not read any more, its end says so.
            while let Ok(line) = writes.recv()
                && input.write_all(&line).is_ok()
            {}
        })?;
        Builder::new().name("claude-out".to_owned()).spawn(move || read_lines(output, &lines))?;
        Builder::new().name("claude-err".to_owned()).spawn(move || {
            keep_tail(errors, &tail);
            drop::<Sender<()>>(errors_read);
        })?;
        Builder::new().name("claude-exit".to_owned()).spawn(move || {
            // Where it fails the process was killed and reaped first: gone either way.
            let is_seen =
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).is_ok();
            if is_seen && exit.send(()).is_err() {
                // Killed and reaped meanwhile.
            }
        })?;
        Ok(cli)
    }

    /// Gives it a message of the user.
    pub(super) fn write(&mut self, message: &Message) {
        self.send(&json!({
            "type": "user",
            "message": { "role": "user", "content": message.text },
            "parent_tool_use_id": null,
            "session_id": "",
            "uuid": message.id,
        }));
    }

    /// Asks it to stop its turn.
    pub(super) fn interrupt(&mut self) {
        self.send(&json!({
            "type": "control_request",
            "request_id": "stop",
            "request": { "subtype": "interrupt" },
        }));
    }

    /// Tells it that nothing more will come: it finishes and exits.
    pub(super) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Waits a moment for its exit, where that was not seen, ends what is left, and says how it
    /// went: the exit, and the end of its standard error.
    pub(super) fn finish(mut self, has_exited: bool) -> String {
        if !has_exited && self.exited.recv_timeout(DRAIN_MAX).is_err() {
            note(format_args!("the CLI has closed its output and does not exit"));
        }
        let exit = match self.kill() {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            },
            Err(error) => error.to_string(),
        };
        // What it wrote last may not have been read yet.
        self.tail_whole.recv_timeout(DRAIN_MAX).ok();
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{exit}\n{}", String::from_utf8_lossy(&tail))
    }

    fn send(&mut self, line: &serde_json::Value) {
        if let Some(stdin) = &self.stdin
            && stdin.try_send(format!("{line}\n").into_bytes()).is_err()
        {
            note(format_args!("the CLI does not read its input"));
        }
    }

    /// Kills the group while its unreaped leader still pins its number, then reaps.
    fn kill(&mut self) -> io::Result<ExitStatus> {
        if let Err(errno) = kill_process_group(Pid::from_child(&self.child), Signal::KILL)
            && errno != rustix::io::Errno::SRCH
        {
            return Err(errno.into());
        }
        let status = self.child.wait()?;
        self.is_reaped = true;
        Ok(status)
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        // Once it is reaped, the group's number may be another's.
        if !self.is_reaped
            && let Err(error) = self.kill()
        {
            note(format_args!("the CLI could not be killed: {error}"));
        }
    }
}

/// Reads lines until the pipe or the receiver ends.
fn read_lines(output: ChildStdout, lines: &Sender<FromCli>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut output).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            break;
        }
        if !line.ends_with(b"\n") && line.len() == LINE_BYTES_MAX {
            note(format_args!("a line of the CLI is over {LINE_BYTES_MAX} bytes, let pass"));
            if output.skip_until(b'\n').is_err() {
                break;
            }
            continue;
        }
        if lines.send(FromCli::Said(Event::parse(&line))).is_err() {
            return;
        }
    }
    if lines.send(FromCli::Silent).is_err() {
        // Nobody listens any more.
    }
}

/// Keeps the end of what comes.
fn keep_tail(mut errors: ChildStderr, tail: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = errors.read(&mut chunk) {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&chunk[..count]);
        let excess = tail.len().saturating_sub(STDERR_TAIL_BYTES);
        tail.drain(..excess);
    }
}
