//! The gate of a scheduled task: a shell script that decides whether the agent is woken at all.

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, at, bounded, select};
use rust_claw_protocol::inside;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use crate::Failed;
use crate::limits::{
    DRAIN_MAX, SCRIPT_MAX, SCRIPT_OUTPUT_BYTES_MAX, SCRIPT_SAID_CHARS_MAX, STDERR_TAIL_BYTES,
};
use crate::worker::Worker;

/// What the script decided.
#[derive(Debug, PartialEq)]
pub(crate) enum Gate {
    /// The agent gets the prompt, with what the script found.
    Wake { data: Option<serde_json::Value> },
    /// Nothing to do this time.
    Skip,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decision {
    wake_agent: bool,
    #[serde(default)]
    data: Option<serde_json::Value>,
}

/// Runs `script` with bash in the group's folder and reads its decision.
///
/// # Errors
/// It takes too long, fails, or decides nothing; then the agent is not woken.
pub(crate) fn gate(script: &str, stop: &Receiver<()>) -> Result<Gate, Failed> {
    let output = run(script, Path::new(inside::GROUP), stop)?;
    decide(&output).ok_or_else(|| Failed::Unusable {
        what: "the task's script must end with a line like `{\"wakeAgent\":true,\"data\":…}`"
            .to_owned(),
    })
}

/// The prompt of a task whose script found `data`. Source: the wording is `NanoClaw`'s.
pub(crate) fn prompt(prompt: &str, data: Option<serde_json::Value>) -> String {
    match data {
        Some(data) => format!("Script output:\n{data:#}\n\nInstructions:\n{prompt}"),
        None => prompt.to_owned(),
    }
}

fn decide(output: &[u8]) -> Option<Gate> {
    let output = String::from_utf8_lossy(output);
    let last = output.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let decision: Decision = serde_json::from_str(last).ok()?;
    Some(if decision.wake_agent { Gate::Wake { data: decision.data } } else { Gate::Skip })
}

/// The script's standard output, where it succeeds in time.
fn run(script: &str, folder: &Path, stop: &Receiver<()>) -> Result<Vec<u8>, Failed> {
    let failed = |source| Failed::System { doing: "run the task's script", source };
    let mut child = Command::new("/bin/bash")
        .args(["-c", script])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let errors = Tail::start(child.stderr.take().expect("it was asked for"));
    let outcome = finish(&mut child, stop);
    // Whatever it left behind goes too; before the leader is reaped its group's number is ours.
    if let Err(errno) = kill_process_group(Pid::from_child(&child), Signal::KILL)
        && errno != rustix::io::Errno::SRCH
    {
        return Err(failed(errno.into()));
    }
    let status = child.wait().map_err(failed)?;
    let output = outcome.map_err(failed)?;
    let errors = errors.map_err(failed)?;
    if !status.success() {
        return Err(Failed::Script { status, said: errors.said() });
    }
    Ok(output)
}

/// The end of what a script says on standard error, read as it comes.
struct Tail {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Hangs up when all is read.
    whole: Receiver<Infallible>,
}

impl Tail {
    /// # Errors
    /// No further thread.
    fn start(mut errors: ChildStderr) -> io::Result<Tail> {
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (reading, whole) = bounded(0);
        let to = Arc::clone(&bytes);
        // Not kept: a process that left the group may hold the pipe for ever.
        std::thread::Builder::new().name("script-err".to_owned()).spawn(move || {
            let _reading = reading;
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = errors.read(&mut chunk) {
                let mut bytes = to.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend_from_slice(&chunk[..count]);
                let excess = bytes.len().saturating_sub(STDERR_TAIL_BYTES);
                bytes.drain(..excess);
            }
        })?;
        Ok(Tail { bytes, whole })
    }

    /// The end of it on one line, short and without what could steer a terminal.
    fn said(&self) -> String {
        // Where something holds the pipe open, what has come has to do.
        self.whole.recv_timeout(DRAIN_MAX).ok();
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        let harmless = |c: char| if c.is_control() { ' ' } else { c };
        let chars: Vec<char> = text.trim().chars().map(harmless).collect();
        let excess = chars.len().saturating_sub(SCRIPT_SAID_CHARS_MAX);
        chars[excess..].iter().collect()
    }
}

/// Reads the output until it ends; the leader is left unreaped.
fn finish(child: &mut Child, stop: &Receiver<()>) -> io::Result<Vec<u8>> {
    let stdout = child.stdout.take().expect("it was asked for");
    let (sender, output) = bounded(1);
    // Not kept: a process that left the group may hold the pipe for ever.
    std::thread::Builder::new().name("script-out".to_owned()).spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(SCRIPT_OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
        if sender.send(read.map(|_| bytes)).is_err() {
            // Given up meanwhile.
        }
    })?;
    let pid = Pid::from_child(child);
    let (sender, exited) = bounded(1);
    let _watcher = Worker::spawn("script-exit", move || {
        let options =
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let seen = rustix::process::waitid(rustix::process::WaitId::Pid(pid), options);
        if sender.send(seen.map(|_| ())).is_err() {
            // Given up meanwhile.
        }
    })?;
    let ended = select! {
        recv(exited) -> seen => seen.map_err(io::Error::other)?.map_err(io::Error::from),
        recv(at(Instant::now() + SCRIPT_MAX)) -> _ => {
            Err(io::Error::other(format!("it takes longer than {} s", SCRIPT_MAX.as_secs())))
        }
        recv(stop) -> _ => Err(io::Error::other("stopped")),
    };
    // So that the watcher, which is joined here, has something to see.
    if ended.is_err() && kill_process_group(pid, Signal::KILL).is_err() {
        // It ended at the same moment.
    }
    ended?;
    let bytes = output
        .recv_timeout(DRAIN_MAX)
        .map_err(|_| io::Error::other("something it started holds its output open"))??;
    if SCRIPT_OUTPUT_BYTES_MAX < bytes.len() as u64 {
        return Err(io::Error::other(format!("it prints over {SCRIPT_OUTPUT_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(output: &str, expected: Option<&Gate>) {
        assert_eq!(expected, decide(output.as_bytes()).as_ref());
    }

    #[test]
    fn the_last_line_with_text_decides() {
        check("noise\n{\"wakeAgent\":false}\n\n", Some(&Gate::Skip));
        check("{\"wakeAgent\":true}", Some(&Gate::Wake { data: None }));
        let data = Some(json!({ "new": 3 }));
        check("{\"wakeAgent\":true,\"data\":{\"new\":3}}\n", Some(&Gate::Wake { data }));
    }

    #[test]
    fn anything_else_is_no_decision() {
        for output in
            ["", "\n", "true", "{}", "{\"wakeAgent\":\"no\"}", "{\"wakeAgent\":true}\nbye"]
        {
            check(output, None);
        }
    }

    fn fails(script: &str, status: &str, said: &str) {
        let (_going, stop) = bounded(0);
        match run(script, Path::new("/"), &stop) {
            Err(Failed::Script { status: ended, said: last }) => {
                assert_eq!((status, said), (&*ended.to_string(), &*last), "{script}");
            }
            other => panic!("{script}: {other:?}"),
        }
    }

    #[test]
    fn a_script_that_fails_is_told_with_what_it_said_last() {
        fails("exit 3", "exit status: 3", "");
        fails("echo out; echo no key >&2; exit 3", "exit status: 3", "no key");
        fails(r"printf 'a\n\033[31mb\377\n' >&2; exit 1", "exit status: 1", "a  [31mb\u{fffd}");
        let end = "x".repeat(SCRIPT_SAID_CHARS_MAX - 4);
        fails(
            "for _ in {1..300000}; do echo -n x; done >&2; echo -n ' end' >&2; exit 1",
            "exit status: 1",
            &format!("{end} end"),
        );
    }

    #[test]
    fn a_script_is_told_although_its_child_holds_its_errors_open() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("pid");
        let pid = file.display();
        let script = format!(
            "setsid sh -c 'echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 600' >/dev/null &
             while [ ! -e {pid} ]; do sleep 0.01; done; echo late >&2; exit 1"
        );
        fails(&script, "exit status: 1", "late");
        let pid = std::fs::read_to_string(&file).expect("it was written");
        let child = pid.trim().parse().ok().and_then(Pid::from_raw).expect("a number");
        rustix::process::kill_process(child, Signal::KILL).expect("nobody waited for its end");
    }

    #[test]
    fn what_the_script_found_stands_before_the_instructions() {
        assert_eq!("do it", prompt("do it", None));
        assert_eq!(
            "Script output:\n{\n  \"n\": 1\n}\n\nInstructions:\ndo it",
            prompt("do it", Some(json!({ "n": 1 })))
        );
    }
}
