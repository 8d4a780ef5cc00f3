//! Why an access to a tree that a sandbox can write was refused, and the checks behind it.

use std::io;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::Result;
use crate::ids::shown;

/// Why an access was refused or failed. Names come from inside and are made harmless here.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// There is nothing of this name.
    #[error("`{name}` does not exist")]
    NotFound {
        /// The name.
        name: String,
    },
    /// There is something of this name already, where it had to be new.
    #[error("`{name}` exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// A symbolic link, which is never followed.
    #[error("`{name}` is a symbolic link, which is not followed here")]
    Symlink {
        /// The name.
        name: String,
    },
    /// A directory, FIFO, socket or device where a file is expected.
    #[error("`{name}` is {found}, not a regular file")]
    NotARegularFile {
        /// The name.
        name: String,
        /// What it is, with article.
        found: &'static str,
    },
    /// Something else where a directory is expected.
    #[error("`{name}` is {found}, not a directory")]
    NotADirectory {
        /// The name.
        name: String,
        /// What it is, with article.
        found: &'static str,
    },
    /// A file of more bytes than its reader wants.
    #[error("`{name}` has more than the {bytes_max} bytes allowed")]
    TooLarge {
        /// The name.
        name: String,
        /// Most bytes that were allowed.
        bytes_max: u64,
    },
    /// A tree of more entries, or deeper, than is allowed; what was done by then stays done.
    #[error("`{name}` has more than the {entries_max} entries allowed")]
    TooMany {
        /// The name.
        name: String,
        /// Most entries that were allowed.
        entries_max: usize,
    },
    /// Not a single name: empty, `.`, `..`, more than 255 bytes, or with `/` or NUL in it.
    #[error("`{name}` is not a file name")]
    BadName {
        /// What was given.
        name: String,
    },
    /// The system failed.
    #[error("cannot {doing} `{name}`")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The name.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Turns away what would be more, or less, than one name.
pub(super) fn check_name(name: &str) -> Result<()> {
    let is_one = (1..=255).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.bytes().any(|b| matches!(b, b'/' | 0));
    if is_one { Ok(()) } else { Err(Rejected::BadName { name: shown(name) }) }
}

pub(super) fn check_regular(name: &str, found: FileType) -> Result<()> {
    match found {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(Rejected::Symlink { name: shown(name) }),
        found => Err(Rejected::NotARegularFile { name: shown(name), found: described(found) }),
    }
}

pub(super) fn described(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "something unknown",
    }
}

pub(super) fn io_failed(doing: &'static str, name: &str, source: io::Error) -> Rejected {
    Rejected::Io { doing, name: shown(name), source }
}

/// Sorts what the system says by what a caller does about it.
pub(super) fn failed(doing: &'static str, name: &str) -> impl FnOnce(Errno) -> Rejected {
    let name = shown(name);
    move |errno| match errno {
        Errno::NOENT => Rejected::NotFound { name },
        Errno::EXIST => Rejected::Exists { name },
        Errno::LOOP => Rejected::Symlink { name },
        Errno::NOTDIR => Rejected::NotADirectory { name, found: "something else" },
        Errno::ISDIR => Rejected::NotARegularFile { name, found: "a directory" },
        // To open a socket.
        Errno::NXIO => Rejected::NotARegularFile { name, found: "something else" },
        errno => Rejected::Io { doing, name, source: errno.into() },
    }
}
