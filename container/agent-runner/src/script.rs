//! The gate of a scheduled task: a shell script that decides whether the agent is woken at all.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crossbeam_channel::{Receiver, at, bounded, select};
use rust_claw_protocol::inside;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use crate::Failed;
use crate::limits::{DRAIN_MAX, SCRIPT_MAX, SCRIPT_OUTPUT_BYTES_MAX};
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
    let output = run(script, stop)
        .map_err(|source| Failed::System { doing: "run the task's script", source })?;
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
fn run(script: &str, stop: &Receiver<()>) -> io::Result<Vec<u8>> {
    let mut child = Command::new("/bin/bash")
        .args(["-c", script])
        .current_dir(inside::GROUP)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let outcome = finish(&mut child, stop);
    // Whatever it left behind goes too; before the leader is reaped its group's number is ours.
    if let Err(errno) = kill_process_group(Pid::from_child(&child), Signal::KILL)
        && errno != rustix::io::Errno::SRCH
    {
        return Err(errno.into());
    }
    let status = child.wait()?;
    let output = outcome?;
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    Ok(output)
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

    #[test]
    fn what_the_script_found_stands_before_the_instructions() {
        assert_eq!("do it", prompt("do it", None));
        assert_eq!(
            "Script output:\n{\n  \"n\": 1\n}\n\nInstructions:\ndo it",
            prompt("do it", Some(json!({ "n": 1 })))
        );
    }
}
