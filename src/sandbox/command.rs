//! Short commands of an engine's client, `docker rm` and the like: bounded in time and in size.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::run_log::clean;
use super::supervise::{EndedBy, Leader, Pump, Source};
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
    let (leader, pipes) = Leader::spawn(command, Stdio::null())?;
    let mut pump = Pump::new(pipes.stdout, pipes.stderr, leader.exit(), None);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    pump.run(Some(deadline), |source, bytes| {
        keep(if source == Source::Stdout { &mut stdout } else { &mut stderr }, bytes);
        true
    });
    let rest = deadline.saturating_duration_since(Instant::now());
    let Some(ended_by) = leader.exit().wait(rest) else {
        // It goes with its leader.
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
fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = limits::ENGINE_ANSWER_BYTES_MAX - kept.len();
    kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
}
