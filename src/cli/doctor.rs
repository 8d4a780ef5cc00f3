//! `doctor`: what is not as it has to be, and the command that mends it.

use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};
use serde_json::json;

use super::{Error, out};
use crate::doctor::{self, Line, Mark};
use crate::home::Home;

/// Look whether all is as it has to be. Each fault (✗) comes with the one command that mends it;
/// exit code 1 if there is any.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "doctor")]
pub(super) struct DoctorCommand {
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

impl DoctorCommand {
    /// # Errors
    /// Our own output.
    pub(super) fn run(self, home: &Home) -> Result<ExitCode, Error> {
        let found = doctor::examine(home, |name| std::env::var(name).ok());
        let is_well = found.iter().all(|line| line.mark != Mark::Bad);
        if self.json {
            let checks: Vec<_> = found
                .iter()
                .map(|line| {
                    json!({
                        "about": line.about, "mark": word(line.mark).1, "says": line.says,
                        "mend": line.mend,
                    })
                })
                .collect();
            out::json(&json!({"ok": is_well, "checks": checks}))?;
        } else {
            found.iter().try_for_each(print)?;
        }
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn word(mark: Mark) -> (char, &'static str) {
    match mark {
        Mark::Good => ('✓', "good"),
        Mark::Remark => ('!', "remark"),
        Mark::Bad => ('✗', "bad"),
    }
}

fn print(line: &Line) -> Result<(), Error> {
    let says = out::harmless(&line.says).replace('\n', " ");
    out::line(&format!("{} {:<10} {says}", word(line.mark).0, line.about))?;
    match &line.mend {
        Some(mend) => out::line(&format!("             {}", out::harmless(mend))),
        None => Ok(()),
    }
}
