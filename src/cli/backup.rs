//! `backup`, `restore`: all of a home in one file.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

use super::{Error, out};
use crate::backup::{self, Done};
use crate::home::Home;
use crate::ids::UnixMs;

/// Write database, groups and sessions into one file; the daemon may run meanwhile.
#[derive(ArgsInfo, FromArgs)]
#[argh(subcommand, name = "backup")]
pub(super) struct BackupCommand {
    /// the file, for example claw.tar.gz
    #[argh(positional)]
    file: PathBuf,
    /// with the keys of WhatsApp and the settings with their secrets: keep that file safe
    #[argh(switch)]
    with_secrets: bool,
}

impl BackupCommand {
    /// # Errors
    /// A file that exists, a disk that is full, a home that is not there.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let done = backup::backup(home, &self.file, self.with_secrets, UnixMs::now())?;
        tell("verified backup of", &done)?;
        out::line(if self.with_secrets {
            "It holds secrets: whoever has the file can read them."
        } else {
            "Without settings and WhatsApp's keys (--with-secrets takes them along): after a \
             restore, pair again."
        })
    }
}

/// Put a backup into a new home.
#[derive(ArgsInfo, FromArgs)]
#[argh(subcommand, name = "restore")]
pub(super) struct RestoreCommand {
    /// the file
    #[argh(positional)]
    file: PathBuf,
}

impl RestoreCommand {
    /// # Errors
    /// A file that is no backup, a home that is in use.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let done = backup::restore(home, &self.file)?;
        tell("restored", &done)?;
        if let Some(replaced) = &done.replaced {
            out::line(&format!("What had to make place is in {}.", out::path(replaced)))?;
        }
        out::line("Two programs must not serve the same chats: stop the one that it came from.")
    }
}

fn tell(what: &str, done: &Done) -> Result<(), Error> {
    let count = |table: &str| done.manifest.counts.get(table).copied().unwrap_or(0);
    out::line(&format!(
        "{what} {} messages, {} groups, {} tasks, {} files",
        count("messages"),
        count("groups"),
        count("tasks"),
        done.files
    ))?;
    if 0 < done.left_out {
        out::line(&format!(
            "left out: {} links and other things that are no files",
            done.left_out
        ))?;
    }
    Ok(())
}

impl From<backup::Error> for Error {
    fn from(error: backup::Error) -> Error {
        match error {
            backup::Error::Store(error) => error.into(),
            backup::Error::Home(error) => error.into(),
            backup::Error::Lock { .. } => Error::TryAgain(crate::chain(&error)),
            error => Error::Refused(crate::chain(&error)),
        }
    }
}
