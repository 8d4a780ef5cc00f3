//! Short commands of an engine's client, `docker rm` and the like: bounded in time and in size.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::run_log::clean;
use super::supervise::{EndedBy, Leader, Pump};
use crate::limits;

/// Of what an engine complains about, what a person gets to read.
const COMPLAINT_CHARS_MAX: usize = 300;

/// What a command said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) is_ok: bool,
    /// Without white space around it.
    pub(crate) stdout: String,
    /// The last line, for a person.
    pub(crate) complaint: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("cannot be started: {source}")]
    NotStarted {
        #[from]
        source: io::Error,
    },
    #[error("no answer within {} s", time_max.as_secs())]
    TimedOut { time_max: Duration },
}

/// Variables that an engine's client and its plugins have no business with.
pub(super) const SECRETS: [&str; 3] =
    ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];

/// Runs `cli args…`, with nothing on its standard input.
pub(crate) fn ask(cli: &Path, args: &[OsString], time_max: Duration) -> Result<Answer, NoAnswer> {
    let mut command = Command::new(cli);
    command.args(args);
    for secret in SECRETS {
        command.env_remove(secret);
    }
    let deadline = Instant::now() + time_max;
    let (leader, pipes) = Leader::spawn(command, "engine")?;
    drop(pipes.stdin);
    let (abandon, abandoned) = io::pipe().map(|(read, write)| (write, read))?;
    let mut out =
        Pump { pipe: pipes.stdout, exit: leader.exit().clone(), abandoned: abandoned.try_clone()? };
    let mut err = Pump { pipe: pipes.stderr, exit: leader.exit().clone(), abandoned };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    // Outlives the scope: its hang-up would end the reading before everything is read.
    let mut abandon = Some(abandon);
    let ended_by = thread::scope(|scope| {
        let start = |name: &str| thread::Builder::new().name(name.into());
        let ended_by = start("engine-out")
            .spawn_scoped(scope, || out.run(|bytes| keep(&mut stdout, bytes)))
            .and_then(|_| {
                start("engine-err")
                    .spawn_scoped(scope, || err.run(|bytes| keep(&mut stderr, bytes)))
            })
            .map(|_| leader.exit().wait(deadline.saturating_duration_since(Instant::now())));
        if !matches!(ended_by, Ok(Some(_))) {
            leader.kill();
            abandon = None;
        }
        ended_by
    })?;
    drop(abandon);
    let Some(ended_by) = ended_by else {
        return Err(NoAnswer::TimedOut { time_max });
    };
    let complaint = stderr.split(|b| *b == b'\n').rev().map(<[u8]>::trim_ascii);
    let complaint = complaint.into_iter().find(|line| !line.is_empty());
    Ok(Answer {
        is_ok: ended_by == EndedBy::Code(0),
        stdout: String::from_utf8_lossy(&stdout).trim().to_owned(),
        complaint: complaint
            .map_or_else(|| ended_by.to_string(), |line| clean(line, COMPLAINT_CHARS_MAX)),
    })
}

/// Keeps what fits and reads on, so that the command can end.
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let room = limits::ENGINE_ANSWER_BYTES_MAX - kept.len();
    kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
    true
}
