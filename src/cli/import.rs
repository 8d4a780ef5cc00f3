//! `import`: moving in from NanoClaw.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

use super::{Error, out};
use crate::home::Home;
use crate::ids::UnixMs;
use crate::import::{self, Imported};
use crate::store::OldError;

/// Take over a NanoClaw of February 2026 (groups, sessions, messages, tasks, folders, settings) into
/// a new home; its own folder is only read.
#[derive(ArgsInfo, FromArgs)]
#[argh(subcommand, name = "import")]
pub(super) struct ImportCommand {
    /// folder of the NanoClaw
    #[argh(positional)]
    path: PathBuf,
    /// just tell what would come over
    #[argh(switch)]
    dry_run: bool,
}

impl ImportCommand {
    /// # Errors
    /// Nothing was imported, and why.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let env = |name: &str| std::env::var(name).ok();
        let Imported { report, replaced } =
            import::import(home, &self.path, env, self.dry_run, UnixMs::now())?;
        let head = ["what", "came over", "stayed", "why, and what else"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for line in report.lines {
            rows.push(vec![
                line.what.to_owned(),
                line.came.to_string(),
                line.stayed.to_string(),
                out::harmless(&line.why.join("; ")),
            ]);
        }
        out::table(&rows).iter().try_for_each(|row| out::line(row))?;
        if self.dry_run {
            return out::line("Nothing was changed.");
        }
        if let Some(replaced) = replaced {
            out::line(&format!("What had to make place is in {}.", out::path(&replaced)))?;
        }
        out::line(&format!(
            "NanoClaw's folder is as it was: keep it stopped from now on. To undo, remove {} and \
             start NanoClaw again.",
            out::path(home.root())
        ))
    }
}

impl From<import::Error> for Error {
    fn from(error: import::Error) -> Error {
        match error {
            import::Error::Store(error) => error.into(),
            import::Error::Home(error) => error.into(),
            import::Error::Settings(error) => error.into(),
            import::Error::Runs { .. }
            | import::Error::Lock { .. }
            | import::Error::Old(OldError::Busy { .. } | OldError::Unclean { .. }) => {
                Error::TryAgain(crate::chain(&error))
            }
            error => Error::Refused(crate::chain(&error)),
        }
    }
}
