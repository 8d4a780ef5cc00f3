//! What can go wrong with the database, split by what a caller does about it.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why the store did not do as asked. But for [`Error::Sync`], nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is busy, full or unreachable: try again later.
    #[error("{doing} failed")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// What `SQLite` said.
        source: rusqlite::Error,
    },
    /// A newer version of this program made the database: only that one can use it.
    #[error("database has schema {found}, this program knows {known}: run the newer program")]
    SchemaTooNew {
        /// Schema of the file.
        found: i64,
        /// Newest schema of this program.
        known: i64,
    },
    /// It is the database of a `NanoClaw`, which this program does not change.
    #[error(
        "database `{}` is NanoClaw's: choose another home folder and take it over with \
         `rust-claw --home DIR import PATH`", path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A row holds what no row may hold: somebody edited it.
    #[error("{doing} failed: a row is corrupt")]
    Corrupt {
        /// What was being done.
        doing: &'static str,
        /// Column and problem.
        source: rusqlite::Error,
    },
    /// The file cannot be opened, or is no database.
    #[error("cannot use database `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is done, but a power cut may undo it.
    #[error("the disk does not take what was committed")]
    Sync {
        /// Why.
        source: std::io::Error,
    },
    /// The run has ended already, so that nothing more can be recorded for it.
    #[error("run {run} has ended already")]
    RunEnded {
        /// Key of the run.
        run: crate::ids::RunId,
    },
}

impl Error {
    /// Whether the file itself is damaged, so that no second attempt helps.
    pub fn is_damage(&self) -> bool {
        match self {
            Error::Sqlite { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            Error::Unreadable { .. } => true,
            _ => false,
        }
    }
}

/// Result of most calls of the store.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds what was being done.
pub(super) fn failed(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |source| match source {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => Error::Corrupt { doing, source },
        source => Error::Sqlite { doing, source },
    }
}

/// A row that was left out because it is corrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptRow {
    /// The table.
    pub table: &'static str,
    /// Key of the row, made fit for a line.
    pub key: String,
    /// Which column, and what is wrong with it.
    pub problem: String,
}

impl std::fmt::Display for CorruptRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "row `{}` of table `{}` is corrupt: {}", self.key, self.table, self.problem)
    }
}
