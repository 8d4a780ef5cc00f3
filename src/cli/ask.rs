//! `ask`: one question, the answer on stdout, an exit code for scripts.

use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use argh::{ArgsInfo, FromArgs};

use super::talk::{Standing, Talk};
use super::{Error, out};
use crate::daemon::Duty;
use crate::home::Home;
use crate::ids::UnixMs;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::schedule::duration;

/// Ask one question and print the answer. Exit code: 0 answered, 1 the agent failed, 75 no answer in
/// time.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "ask")]
pub(super) struct AskCommand {
    /// the group that is asked (default: main)
    #[argh(option, arg_name = "folder")]
    group: Option<String>,
    /// print one JSON object instead of the text
    #[argh(switch)]
    json: bool,
    /// seconds to wait for the answer (default: 600)
    #[argh(option, arg_name = "s", default = "600")]
    timeout: u64,
    /// the question; none: it is read from standard input
    #[argh(positional, greedy)]
    text: Vec<String>,
}

impl AskCommand {
    /// The question with which `setup` ends.
    pub(super) fn first() -> AskCommand {
        let text = vec!["Hello! Say in one sentence who you are.".to_owned()];
        AskCommand { group: None, json: false, timeout: 300, text }
    }

    /// # Errors
    /// Anything but an answer, a failed agent or a time-out.
    pub(super) fn run(self, home: &Home) -> Result<ExitCode, Error> {
        let text = self.question()?;
        let mut talk = Talk::open(home, self.group.as_deref(), Duty::Messages)?;
        let asked = self.ask(&mut talk, &text);
        let closed = talk.close();
        let code = asked?;
        closed?;
        Ok(code)
    }

    fn question(&self) -> Result<String, Error> {
        let mut text = self.text.join(" ");
        if text.is_empty() {
            let mut stdin = std::io::stdin().lock().take(MESSAGE_BYTES_MAX as u64 + 1);
            stdin.read_to_string(&mut text).map_err(|error| {
                Error::Refused(format!("cannot read the question from standard input: {error}"))
            })?;
        }
        if MESSAGE_BYTES_MAX < text.len() {
            return Err(Error::Refused(format!(
                "the question is longer than {MESSAGE_BYTES_MAX} bytes"
            )));
        }
        if text.trim().is_empty() {
            return Err(Error::Refused(
                "no question: `rust-claw ask TEXT`, or the text on standard input".to_owned(),
            ));
        }
        Ok(text)
    }

    fn ask(&self, talk: &mut Talk, text: &str) -> Result<ExitCode, Error> {
        let since = UnixMs::now();
        let deadline = Instant::now() + Duration::from_secs(self.timeout.min(TIMEOUT_MAX_S));
        let seq = talk.send(text)?;
        let mut answer: Vec<String> = Vec::new();
        loop {
            // First how it stands, then what there is to show: so the last answer is not missed.
            let standing = talk.standing(seq, since)?;
            for row in talk.news()? {
                if row.answers_seq.is_some_and(|answers| seq <= answers) {
                    if !self.json {
                        out::line(&out::harmless(&row.text))?;
                    }
                    talk.shown(&row)?;
                    answer.push(row.text);
                }
            }
            match standing {
                Standing::Answered => {
                    if self.json {
                        out::json(&serde_json::json!({
                            "group": talk.folder().as_str(),
                            "seq": seq.0,
                            "answer": answer.join("\n\n"),
                            "duration_ms": UnixMs::now().0 - since.0,
                        }))?;
                    }
                    return Ok(ExitCode::SUCCESS);
                }
                Standing::Failed(error) => {
                    // Who asked is told now; a later answer would reach nobody.
                    talk.withdraw(seq)?;
                    out::complain(&format!("the agent failed: {error}"));
                    return Ok(ExitCode::from(1));
                }
                Standing::NoEngine(why, mend) => {
                    talk.withdraw(seq)?;
                    return Err(Error::TryAgain(format!("no sandbox to run in: {why}; {mend}")));
                }
                Standing::Waiting => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TryAgain(format!(
                    "no answer within {} s; the question stays, its answer will be in `rust-claw chat`",
                    self.timeout
                )));
            }
            if let Err(error) = talk.wait(left.min(LOOK_INTERVAL)) {
                // Who asked is gone.
                talk.withdraw(seq)?;
                return Err(error);
            }
        }
    }
}

/// A look at the database where no bell rang.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Longer than anybody waits; a sum with it is still a time.
const TIMEOUT_MAX_S: u64 = duration::INTERVAL_MAX.as_secs();
