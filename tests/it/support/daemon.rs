//! A daemon that a test has started.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, end};

/// Killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<String>,
    /// What it said so far.
    said: Vec<String>,
    /// What of that came while it started, in an order of its own.
    early: Vec<String>,
}

impl Daemon {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(command: Command) -> Daemon {
        let mut daemon = Daemon::spawn(command);
        daemon.wait_line(" ready pid=");
        daemon.early = daemon.said.clone();
        daemon
    }

    /// Starts it.
    pub(crate) fn spawn(mut command: Command) -> Daemon {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("was asked for"));
        let (to, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Daemon { child, lines, said: Vec::new(), early: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that holds `part`, and gives it.
    pub(crate) fn wait_line(&mut self, part: &str) -> String {
        if let Some(at) = self.early.iter().position(|line| line.contains(part)) {
            return self.early.remove(at);
        }
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with `{part}` ({error}): {:#?}", self.said),
            }
        }
    }

    /// As a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("pids are small");
        kill_process(Pid::from_raw(pid).expect("pids are positive"), signal).expect("it runs");
    }

    /// Asks it to stop and gives its exit code.
    pub(crate) fn stop(self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Waits for its end; `None` where a signal ended it.
    pub(crate) fn end(mut self) -> Option<i32> {
        let status = end(&mut self.child);
        status.unwrap_or_else(|| panic!("it does not end: {:#?}", self.said)).code()
    }

    /// Whether it lives.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
