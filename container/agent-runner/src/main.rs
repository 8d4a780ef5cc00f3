//! `claw-agent-runner`: the only program of rust-claw inside a sandbox.
//!
//! It reads one [`Input`] from standard input, drives an engine (the Claude Code CLI, or a demo
//! that needs no model) turn by turn, feeds it the follow-ups that the host writes, and prints a
//! frame for whatever the host must know. It never prints a prompt, a message or a secret on
//! standard error.
//!
//! Everything that it reads here, the agent can write too: that harms nobody but the agent itself,
//! so the checks in this program are for robustness. The wall is the sandbox, and the host's own
//! checks of what comes out.

mod archive;
mod engine;
mod inbox;
mod limits;
mod mcp;
mod prompt;
mod relay;
mod report;
mod script;
mod shell_env;
mod worker;

use std::io::Read as _;
use std::process::{ExitCode, ExitStatus};

use rust_claw_protocol::{ErrorKind, Input, Output, RUNNER_VERSION, Status, env, inside};

use crate::inbox::Inbox;
use crate::report::{Chain, Reporter, note};

/// Why a run ends without success.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// The host's input, or a setting of its, cannot be used.
    #[error("{what}")]
    Unusable { what: String },
    /// The sandbox does not give what we need.
    #[error("cannot {doing}")]
    System { doing: &'static str, source: std::io::Error },
    /// The task's script did. What it said last is for who wrote it, not for the log.
    #[error("the task's script ended with {status}")]
    Script { status: ExitStatus, said: String },
    /// The host does not read our frames any more.
    #[error("cannot write a frame")]
    Frame { source: std::io::Error },
    /// The turn failed, and a frame has said so.
    #[error("the turn failed")]
    Reported,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        [] => run(),
        ["--version"] => report::print_line(&format!("claw-agent-runner {RUNNER_VERSION}"))
            .map_err(|source| Failed::Frame { source }),
        [mcp::SUBCOMMAND] => mcp::serve()
            .map_err(|source| Failed::System { doing: "talk to the client of the tools", source }),
        ["archive-transcript"] => archive::from_hook(std::io::stdin().lock())
            .map_err(|source| Failed::System { doing: "archive the transcript", source }),
        [shell_env::SUBCOMMAND] => shell_env::from_hook(std::io::stdin().lock())
            .map_err(|source| Failed::System { doing: "strip a command of secrets", source }),
        _ => Err(Failed::Unusable {
            what: "usage: claw-agent-runner [--version | mcp | archive-transcript | strip-secrets]"
                .to_owned(),
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Reported) => ExitCode::FAILURE,
        Err(failed) => {
            note(format_args!("{}", Chain(&failed)));
            ExitCode::FAILURE
        }
    }
}

/// One run, from the input to the last frame.
fn run() -> Result<(), Failed> {
    let mut reporter = Reporter::stdout();
    match run_reporting(&mut reporter) {
        Err(failed @ (Failed::Unusable { .. } | Failed::System { .. } | Failed::Script { .. })) => {
            let mut error = Chain(&failed).to_string();
            if let Failed::Script { said, .. } = &failed
                && !said.is_empty()
            {
                error = format!("{error}: {said}");
            }
            let output = Output {
                error: Some(error),
                error_kind: Some(ErrorKind::Other),
                turn_end: Some(true),
                ..Output::new(Status::Error)
            };
            reporter.frame(&output).and(Err(failed))
        }
        outcome => outcome,
    }
}

fn run_reporting(reporter: &mut Reporter) -> Result<(), Failed> {
    let mut input = read_input()?;
    limits::apply(|name| std::env::var(name).ok())?;
    let stop = worker::stop_signal()
        .map_err(|source| Failed::System { doing: "listen for signals", source })?;
    if let Some(script) = input.script.take() {
        match script::gate(&script, &stop.receiver)? {
            script::Gate::Wake { data } => input.prompt = script::prompt(&input.prompt, data),
            script::Gate::Skip => {
                let output = Output {
                    turn_end: Some(true),
                    skipped: Some(true),
                    ..Output::new(Status::Success)
                };
                return reporter.frame(&output);
            }
        }
    }
    let is_task = input.is_scheduled_task == Some(true);
    let inbox = if is_task { Inbox::closed() } else { Inbox::watching(inside::INPUT.into()) };
    match std::env::var(env::ENGINE).as_deref() {
        Ok("demo") => engine::demo::run(&input, inbox, &stop.receiver, reporter),
        Ok("claude") | Err(std::env::VarError::NotPresent) => {
            engine::claude::run(input, inbox, &stop.receiver, reporter)
        }
        other => Err(Failed::Unusable {
            what: format!("`{}` must be `claude` or `demo`, not {other:?}", env::ENGINE),
        }),
    }
}

fn read_input() -> Result<Input, Failed> {
    let mut text = Vec::new();
    let mut stdin = std::io::stdin().lock().take(limits::INPUT_BYTES_MAX + 1);
    stdin
        .read_to_end(&mut text)
        .map_err(|source| Failed::System { doing: "read the input", source })?;
    if limits::INPUT_BYTES_MAX < text.len() as u64 {
        let what = format!("the input is longer than {} bytes", limits::INPUT_BYTES_MAX);
        return Err(Failed::Unusable { what });
    }
    // The error names a place and a type, never the text itself.
    serde_json::from_slice(&text)
        .map_err(|error| Failed::Unusable { what: format!("the input is not usable: {error}") })
}
