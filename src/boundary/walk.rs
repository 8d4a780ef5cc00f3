//! A whole tree that a sandbox can write, entry by entry.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{self, FileType, Mode, OFlags};

use super::rejected::{check_name, check_regular, described, failed, io_failed};
use super::{Dir, Kind, Rejected, Result};
use crate::ids::{UnixMs, shown};

/// Deeper than this nothing is looked at: each level holds a descriptor.
const DEPTH_MAX: usize = 100;

/// What a walk may still take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Files, folders and others.
    pub entries: usize,
    /// Sum of the files' sizes.
    pub bytes: u64,
}

/// What a walk found.
#[derive(Debug)]
pub enum Found {
    /// A directory; what is in it comes next, if the visitor says so.
    Folder,
    /// A regular file, open for reading.
    File(OpenFile),
    /// What is never read: a link, FIFO, socket or device, or what the system does not let us
    /// read. The text says which.
    Other(String),
}

/// A regular file, open for reading. It may change while it is read.
#[derive(Debug)]
pub struct OpenFile {
    /// The file.
    pub file: File,
    /// What it was when it was opened.
    pub about: About,
}

/// What a copy of a file keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its size.
    pub bytes: u64,
    /// Whether its owner may execute it.
    pub is_executable: bool,
    /// When it was last written.
    pub changed_at: UnixMs,
}

impl Dir {
    /// Shows `visit` all that is below, a folder before what is in it, sorted by name; a folder is
    /// gone into where `visit` says true. What vanishes meanwhile is left out.
    ///
    /// # Errors
    /// [`Rejected::TooMany`] and [`Rejected::TooLarge`] where it is more than `bounds`, which are
    /// lowered by what was seen; [`Rejected::Io`]; whatever `visit` returns.
    pub fn walk<E: From<Rejected>>(
        &self,
        bounds: &mut Bounds,
        visit: &mut dyn FnMut(&Path, Found) -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        self.walk_below(&mut PathBuf::new(), 0, bounds, visit)
    }

    fn walk_below<E: From<Rejected>>(
        &self,
        path: &mut PathBuf,
        depth: usize,
        bounds: &mut Bounds,
        visit: &mut dyn FnMut(&Path, Found) -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        let listing = self.list(bounds.entries)?;
        let too_many = || Rejected::TooMany {
            name: shown(&path.to_string_lossy()),
            entries_max: bounds.entries,
        };
        if listing.truncated || DEPTH_MAX < depth {
            return Err(too_many().into());
        }
        bounds.entries -= listing.entries.len();
        for entry in listing.entries {
            path.push(&entry.name);
            match entry.kind {
                Kind::Directory => match self.sub(&entry.name) {
                    Ok(below) => {
                        if visit(path, Found::Folder)? {
                            below.walk_below(path, depth + 1, bounds, visit)?;
                        }
                    }
                    Err(rejected) => told(path, rejected, visit)?,
                },
                Kind::File => match self.open_file(&entry.name) {
                    Ok(file) => {
                        bounds.bytes =
                            bounds.bytes.checked_sub(file.about.bytes).ok_or_else(|| {
                                let name = shown(&path.to_string_lossy());
                                Rejected::TooLarge { name, bytes_max: bounds.bytes }
                            })?;
                        visit(path, Found::File(file))?;
                    }
                    Err(rejected) => told(path, rejected, visit)?,
                },
                Kind::Other => {
                    let what = match self.file_type(&entry.name) {
                        Ok(file_type) => described(file_type),
                        Err(_) => described(FileType::Unknown),
                    };
                    visit(path, Found::Other(what.to_owned()))?;
                }
            }
            path.pop();
        }
        Ok(())
    }

    /// Opens the regular file `name` for reading.
    ///
    /// # Errors
    /// [`Rejected::NotFound`], [`Rejected::Symlink`], [`Rejected::NotARegularFile`],
    /// [`Rejected::BadName`], [`Rejected::Io`].
    pub fn open_file(&self, name: &str) -> Result<OpenFile> {
        check_name(name)?;
        // Before the open, because to open a device can do something; after it, because the answer
        // may be stale by then.
        check_regular(name, self.file_type(name)?)?;
        let flags = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK // a FIFO would wait for its writer
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let file = fs::openat(&self.0, name, flags, Mode::empty()).map_err(failed("open", name))?;
        let stat = fs::fstat(&file).map_err(failed("read", name))?;
        check_regular(name, FileType::from_raw_mode(stat.st_mode))?;
        let about = About {
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            is_executable: stat.st_mode & 0o100 != 0,
            changed_at: UnixMs(stat.st_mtime.saturating_mul(1000)),
        };
        Ok(OpenFile { file: File::from(file), about })
    }

    /// Makes the file `name`, for its owner alone, of what `from` gives, but no more than
    /// [`About::bytes`]. Tells how much that was.
    ///
    /// # Errors
    /// [`Rejected::Exists`] for anything of that name, a link too; [`Rejected::BadName`],
    /// [`Rejected::Io`].
    pub fn write_from(&self, name: &str, from: impl Read, about: &About) -> Result<u64> {
        check_name(name)?;
        let mode = if about.is_executable { 0o700 } else { 0o600 };
        let mut file = self.create_file(name, mode).map_err(failed("create", name))?;
        let changed_at = u64::try_from(about.changed_at.0).unwrap_or(0);
        std::io::copy(&mut from.take(about.bytes), &mut file)
            .and_then(|bytes| {
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(changed_at))?;
                Ok(bytes)
            })
            .map_err(|source| io_failed("write", name, source))
    }
}

/// Tells of what cannot be opened.
fn told<E: From<Rejected>>(
    path: &Path,
    rejected: Rejected,
    visit: &mut dyn FnMut(&Path, Found) -> std::result::Result<bool, E>,
) -> std::result::Result<(), E> {
    match rejected {
        Rejected::NotFound { .. } => Ok(()),
        Rejected::Io { source, .. } if source.kind() != std::io::ErrorKind::PermissionDenied => {
            Err(Rejected::Io { doing: "open", name: shown(&path.to_string_lossy()), source }.into())
        }
        Rejected::Io { .. } => {
            visit(path, Found::Other("something that we may not read".to_owned())).map(drop)
        }
        other => visit(path, Found::Other(other.to_string())).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn seen(dir: &Dir, mut bounds: Bounds) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        dir.walk::<Rejected>(&mut bounds, &mut |path, found| {
            let what = match found {
                Found::Folder => "folder".to_owned(),
                Found::File(file) => format!("{} bytes", file.about.bytes),
                Found::Other(what) => what,
            };
            seen.push(format!("{}: {what}", path.display()));
            Ok(!path.ends_with("closed"))
        })?;
        Ok(seen)
    }

    #[test]
    fn h50_links_and_fifos_are_told_and_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("b/c")).expect("a folder");
        std::fs::create_dir_all(at("closed/inside")).expect("a folder");
        std::fs::write(at("a"), "123").expect("a file");
        std::fs::write(at("b/c/d"), "").expect("a file");
        symlink("/etc", at("etc")).expect("a link");
        symlink("loop", at("loop")).expect("a link");
        fs::mknodat(fs::CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
        let dir = Dir::open(folder.path()).expect("it is there");
        let all = Bounds { entries: 100, bytes: 100 };
        let expected = [
            "a: 3 bytes",
            "b: folder",
            "b/c: folder",
            "b/c/d: 0 bytes",
            "closed: folder",
            "etc: a symbolic link",
            "loop: a symbolic link",
            "pipe: a FIFO",
        ];
        assert_eq!(expected, *seen(&dir, all).expect("within bounds"));
        let few = seen(&dir, Bounds { entries: 7, ..all });
        assert!(matches!(few, Err(Rejected::TooMany { .. })), "{few:?}");
        let small = seen(&dir, Bounds { bytes: 2, ..all });
        assert!(matches!(small, Err(Rejected::TooLarge { bytes_max: 2, .. })), "{small:?}");
    }

    #[test]
    fn depth_is_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep: PathBuf = std::iter::repeat_n("d", DEPTH_MAX + 2).collect();
        std::fs::create_dir_all(folder.path().join(deep)).expect("a folder");
        let dir = Dir::open(folder.path()).expect("it is there");
        let found = seen(&dir, Bounds { entries: 1000, bytes: 0 });
        assert!(matches!(found, Err(Rejected::TooMany { .. })), "{found:?}");
    }

    #[test]
    fn a_copy_is_new_bounded_and_as_old_as_its_original() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = Dir::open(folder.path()).expect("it is there");
        let about = About { bytes: 3, is_executable: true, changed_at: UnixMs(1_000_000) };
        assert_eq!(3, dir.write_from("a", std::io::repeat(b'x'), &about).expect("it is new"));
        assert_eq!(about, dir.open_file("a").expect("it is there").about);
        let again = dir.write_from("a", &b"x"[..], &about);
        assert!(matches!(again, Err(Rejected::Exists { .. })), "{again:?}");
    }
}
