//! The other side of the script channel: who reads `outbox --follow --ack`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use super::{Home, PATIENCE};

/// Killed when dropped.
pub(crate) struct Follower {
    child: Child,
    lines: Receiver<Value>,
}

impl Follower {
    /// Starts to read.
    pub(crate) fn start(home: &Home) -> Follower {
        let mut command = home.command(&["outbox", "--follow", "--json", "--ack"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("was asked for"));
        let (to, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let row = serde_json::from_str(&line).expect("a line is JSON");
                if to.send(row).is_err() {
                    return;
                }
            }
        });
        Follower { child, lines }
    }

    /// The next answer.
    pub(crate) fn next(&self) -> Value {
        self.lines.recv_timeout(PATIENCE).expect("an answer before the deadline")
    }

    /// The text of the next answer.
    pub(crate) fn text(&self) -> String {
        self.next()["text"].as_str().expect("a text").to_owned()
    }

    /// Kills it, and gives what it had said and nobody has taken.
    pub(crate) fn kill(mut self) -> Vec<Value> {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
        self.lines.iter().collect()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Option<i32> {
        super::end(&mut self.child).expect("it ends").code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
