//! The only way to read or write a tree that a sandbox can write.
//!
//! Whoever sits in the sandbox can put anything at any name at any time: a symbolic link to
//! `/etc/shadow`, a FIFO that never speaks, a file of 2 GiB, 100,000 files, and can swap one for
//! another between two of our steps. So a tree is walked by descriptors, one name at a time and
//! never through a symbolic link; what a thing is, is asked of the opened descriptor; nothing that
//! exists is ever opened for writing; and every read has a bound in bytes or entries. No function
//! here blocks on what a sandbox made.
//!
//! Hard links need no refusal: a link cannot leave its mount (`EXDEV`, link(2)), so it only ever
//! names what the same sandbox has anyway, and we never write through a name that exists.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawMode, RenameFlags};
use rustix::io::Errno;

pub use self::rejected::Rejected;
use self::rejected::{check_name, described, failed, io_failed};
pub use self::walk::{About, Bounds, Found, OpenFile};
use crate::ids::shown;

mod rejected;
mod walk;

type Result<T> = std::result::Result<T, Rejected>;

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, FIFO, socket or device.
    Other,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name; may hold control characters.
    pub name: String,
    /// What it was when it was listed.
    pub kind: Kind,
}

/// Entries of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by name; hidden ones too. Those with names that are not UTF-8 are left out.
    pub entries: Vec<Entry>,
    /// Whether there are more than were asked for; which ones these are, the system decides.
    pub truncated: bool,
}

/// How a directory is opened: not to be read, only as a place to begin from. Who watches it is not
/// told of that.
#[cfg(target_os = "linux")]
const PLACE: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const PLACE: OFlags = OFlags::RDONLY;

/// An open directory of a tree that a sandbox can write.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl Dir {
    /// Opens `trusted`. Links in it are followed: only the host may be able to change any part of
    /// this path.
    ///
    /// # Errors
    /// [`Rejected::NotFound`], [`Rejected::NotADirectory`], [`Rejected::Io`].
    pub fn open(trusted: &Path) -> Result<Dir> {
        fs::open(trusted, PLACE | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(Dir)
            .map_err(failed("open", &trusted.to_string_lossy()))
    }

    /// Where the system finds this very directory while it is held open, whatever stands at its
    /// path meanwhile. `None` where it has no such place.
    pub fn own_path(&self) -> Option<PathBuf> {
        let own = || PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        cfg!(target_os = "linux").then(own)
    }

    /// Opens the directory `name`.
    ///
    /// # Errors
    /// [`Rejected::NotFound`], [`Rejected::Symlink`], [`Rejected::NotADirectory`],
    /// [`Rejected::BadName`], [`Rejected::Io`].
    pub fn sub(&self, name: &str) -> Result<Dir> {
        check_name(name)?;
        let opened = self.open_dir(name);
        if let Err(Errno::NOTDIR | Errno::LOOP) = opened {
            // Systems differ in how they refuse a link. This look only words the refusal.
            return Err(match self.file_type(name)? {
                FileType::Symlink => Rejected::Symlink { name: shown(name) },
                found => Rejected::NotADirectory { name: shown(name), found: described(found) },
            });
        }
        opened.map(Dir).map_err(failed("open", name))
    }

    /// Opens the directory `name`, made with exactly `mode` where there is nothing of that name.
    ///
    /// # Errors
    /// Those of [`Dir::sub`].
    pub fn create_sub(&self, name: &str, mode: RawMode) -> Result<Dir> {
        Ok(match self.make_sub(name, mode)? {
            Some(dir) => dir,
            None => self.sub(name)?,
        })
    }

    /// Likewise, without opening one that is there: nobody is told that it was looked at.
    ///
    /// # Errors
    /// Those of [`Dir::sub`].
    pub fn ensure_sub(&self, name: &str, mode: RawMode) -> Result<()> {
        if self.make_sub(name, mode)?.is_none() && self.file_type(name)? != FileType::Directory {
            // To say what it is.
            self.sub(name)?;
        }
        Ok(())
    }

    /// `None` where there is something of that name.
    fn make_sub(&self, name: &str, mode: RawMode) -> Result<Option<Dir>> {
        check_name(name)?;
        match fs::mkdirat(&self.0, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            // Also said of a link that leads nowhere; `sub` refuses that.
            Err(Errno::EXIST) => return Ok(None),
            Err(errno) => return Err(failed("create", name)(errno)),
        }
        let dir = self.sub(name)?;
        // The umask has taken from the mode.
        dir.reading()
            .and_then(|fd| fs::fchmod(fd, Mode::from_raw_mode(mode)))
            .map_err(failed("create", name))?;
        Ok(Some(dir))
    }

    /// All bytes of the regular file `name`, if they are at most `bytes_max`.
    ///
    /// # Errors
    /// [`Rejected::NotFound`], [`Rejected::Symlink`], [`Rejected::NotARegularFile`],
    /// [`Rejected::TooLarge`], [`Rejected::BadName`], [`Rejected::Io`].
    pub fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>> {
        let OpenFile { file, about } = self.open_file(name)?;
        let too_large = || Rejected::TooLarge { name: shown(name), bytes_max };
        if about.bytes > bytes_max {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        // It may grow while it is read.
        file.take(bytes_max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|source| io_failed("read", name, source))?;
        if bytes.len() as u64 > bytes_max {
            return Err(too_large());
        }
        Ok(bytes)
    }

    /// Puts a new file in place, whole from the first moment that its name is there.
    ///
    /// # Errors
    /// [`Rejected::Exists`] for anything of that name, a link too; [`Rejected::BadName`],
    /// [`Rejected::Io`].
    pub fn write_new(&self, name: &str, bytes: &[u8], mode: RawMode) -> Result<()> {
        self.put(name, bytes, mode, |temporary| {
            let renamed =
                fs::renameat_with(&self.0, temporary, &self.0, name, RenameFlags::NOREPLACE);
            match renamed {
                // Not every file system can; then a look must do. At worst we replace what was
                // put there meanwhile.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    match fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(_) => Err(Errno::EXIST),
                        Err(Errno::NOENT) => fs::renameat(&self.0, temporary, &self.0, name),
                        Err(errno) => Err(errno),
                    }
                }
                renamed => renamed,
            }
        })
    }

    /// Puts a file in place of whatever file, link, FIFO, … has that name, or of nothing. Readers
    /// see the old or the new, whole.
    ///
    /// # Errors
    /// [`Rejected::NotARegularFile`] for a directory of that name; [`Rejected::BadName`],
    /// [`Rejected::Io`].
    pub fn replace(&self, name: &str, bytes: &[u8], mode: RawMode) -> Result<()> {
        self.put(name, bytes, mode, |temporary| fs::renameat(&self.0, temporary, &self.0, name))
    }

    /// A new file, to be written to at its end, with exactly `mode`.
    ///
    /// # Errors
    /// [`Rejected::Exists`] for anything of that name, a link too; [`Rejected::BadName`],
    /// [`Rejected::Io`].
    pub fn create_new(&self, name: &str, mode: RawMode) -> Result<File> {
        check_name(name)?;
        self.create_file(name, mode).map_err(failed("create", name))
    }

    /// Removes a file, link, FIFO, socket or device; false where there is nothing.
    ///
    /// # Errors
    /// [`Rejected::NotARegularFile`] for a directory; [`Rejected::BadName`], [`Rejected::Io`].
    pub fn remove(&self, name: &str) -> Result<bool> {
        check_name(name)?;
        match fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            // POSIX says EPERM for a directory, Linux EISDIR.
            Err(Errno::PERM) if matches!(self.file_type(name), Ok(FileType::Directory)) => {
                Err(failed("remove", name)(Errno::ISDIR))
            }
            Err(errno) => Err(failed("remove", name)(errno)),
        }
    }

    /// Removes `name`, and all that is in it if it is a directory, as deep as that may go; false
    /// where there is nothing.
    ///
    /// # Errors
    /// [`Rejected::TooMany`] where there are more than `entries_max` entries; [`Rejected::BadName`],
    /// [`Rejected::Io`], also where a directory inside may not be read.
    pub fn remove_tree(&self, name: &str, entries_max: usize) -> Result<bool> {
        check_name(name)?;
        match self.file_type(name) {
            Ok(FileType::Directory) => (),
            Ok(_) => return self.remove(name),
            Err(Rejected::NotFound { .. }) => return Ok(false),
            Err(rejected) => return Err(rejected),
        }
        let too_many = || Rejected::TooMany { name: shown(name), entries_max };
        let failed = |errno| failed("remove", name)(errno);
        let top = self.sub(name)?;
        let mut entries_left = entries_max;
        // What lies deeper is moved to the top, so that no depth needs stack or descriptors.
        loop {
            let dirs = top.unlink_files(&mut entries_left).map_err(failed)?.ok_or_else(too_many)?;
            if dirs.is_empty() {
                break;
            }
            for dir in dirs {
                let below = Dir(top.open_dir(dir.as_c_str()).map_err(failed)?);
                let inner =
                    below.unlink_files(&mut entries_left).map_err(failed)?.ok_or_else(too_many)?;
                for inner in inner {
                    fs::renameat(&below.0, &inner, &top.0, temporary_name()).map_err(failed)?;
                    entries_left += 1; // it will be seen once more, at the top
                }
                fs::unlinkat(&top.0, &dir, AtFlags::REMOVEDIR).map_err(failed)?;
            }
        }
        fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR).map_err(failed)?;
        Ok(true)
    }

    /// Gives the entry `from` the name `to`, replacing a file or link there. A link is renamed, not
    /// followed.
    ///
    /// # Errors
    /// [`Rejected::NotFound`], [`Rejected::BadName`], [`Rejected::Io`].
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.move_to(from, self, to)
    }

    /// Like [`Dir::rename`], into another directory of the same file system.
    ///
    /// # Errors
    /// Those of [`Dir::rename`].
    pub fn move_to(&self, from: &str, into: &Dir, to: &str) -> Result<()> {
        check_name(from)?;
        check_name(to)?;
        fs::renameat(&self.0, from, &into.0, to).map_err(failed("rename", from))
    }

    /// The user that `name` itself belongs to, by number.
    ///
    /// # Errors
    /// Nothing of that name.
    pub fn owner(&self, name: &str) -> Result<u32> {
        check_name(name)?;
        let found = fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW);
        found.map(|found| found.st_uid).map_err(failed("look at", name))
    }

    /// What `name` is, at this moment.
    ///
    /// # Errors
    /// [`Rejected::NotFound`], [`Rejected::BadName`], [`Rejected::Io`].
    pub fn kind(&self, name: &str) -> Result<Kind> {
        check_name(name)?;
        self.file_type(name).map(kind)
    }

    /// When the directory at `path` below this one last got or lost an entry, in the clock of the
    /// file system. Opens nothing, so that nobody is told; and follows links in the way, so the
    /// answer is good for no more than whether to look.
    ///
    /// # Errors
    /// [`Rejected::NotFound`], [`Rejected::BadName`], [`Rejected::Io`].
    pub fn changed_at(&self, path: &[&str]) -> Result<(i64, i128)> {
        path.iter().try_for_each(|name| check_name(name))?;
        let path = [".", &path.join("/")].join("/");
        let found = fs::statat(&self.0, &path, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("look at", &path))?;
        Ok((found.st_mtime, found.st_mtime_nsec.into()))
    }

    /// Up to `entries_max` entries. Costs no more than that, however many there are.
    ///
    /// # Errors
    /// [`Rejected::Io`].
    pub fn list(&self, entries_max: usize) -> Result<Listing> {
        let (found, truncated) = self.entries(entries_max).map_err(failed("list", "."))?;
        let mut entries: Vec<Entry> = found
            .into_iter()
            .filter_map(|(name, found)| {
                Some(Entry { name: name.into_string().ok()?, kind: kind(found) })
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Listing { entries, truncated })
    }

    fn open_dir(&self, name: impl rustix::path::Arg) -> std::result::Result<OwnedFd, Errno> {
        let flags = PLACE | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.0, name, flags, Mode::empty())
    }

    /// The directory itself, open for reading.
    fn reading(&self) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::openat(&self.0, ".", flags, Mode::empty())
    }

    fn file_type(&self, name: &str) -> Result<FileType> {
        let stat = fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("look at", name))?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    /// Makes a file where there is nothing.
    fn create_file(&self, name: &str, mode: RawMode) -> std::result::Result<File, Errno> {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::APPEND
            | OFlags::CLOEXEC;
        let file = fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))?;
        // The umask has taken from the mode.
        fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(File::from(file))
    }

    /// Writes a file under a name that nobody can foresee and has `place` move it from there.
    fn put(
        &self,
        name: &str,
        bytes: &[u8],
        mode: RawMode,
        place: impl FnOnce(&str) -> std::result::Result<(), Errno>,
    ) -> Result<()> {
        check_name(name)?;
        let temporary = temporary_name();
        let mut file = self.create_file(&temporary, mode).map_err(failed("create", name))?;
        let written = file
            .write_all(bytes)
            .map_err(|source| io_failed("write", name, source))
            .and_then(|()| place(&temporary).map_err(failed("write", name)));
        if written.is_err()
            && let Err(errno) = fs::unlinkat(&self.0, &temporary, AtFlags::empty())
        {
            log::debug!("temporary file left behind name={temporary} error={errno}");
        }
        written
    }

    /// Up to `entries_max` entries but `.` and `..`, and whether there are more.
    fn entries(
        &self,
        entries_max: usize,
    ) -> std::result::Result<(Vec<(CString, FileType)>, bool), Errno> {
        let mut found = Vec::new();
        let mut dir = fs::Dir::new(self.reading()?)?;
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if found.len() == entries_max {
                return Ok((found, true));
            }
            let file_type = match entry.file_type() {
                FileType::Unknown => match self.raw_type(name) {
                    Err(Errno::NOENT) => continue,
                    file_type => file_type?,
                },
                file_type => file_type,
            };
            found.push((name.to_owned(), file_type));
        }
        Ok((found, false))
    }

    fn raw_type(&self, name: &CStr) -> std::result::Result<FileType, Errno> {
        let stat = fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    /// Removes all that is no directory, and returns the directories; none where there are more
    /// than `entries_left`, which is lowered by what was found.
    fn unlink_files(
        &self,
        entries_left: &mut usize,
    ) -> std::result::Result<Option<Vec<CString>>, Errno> {
        let (found, truncated) = self.entries(*entries_left)?;
        *entries_left -= found.len();
        let mut dirs = Vec::new();
        for (name, file_type) in found {
            if file_type == FileType::Directory {
                dirs.push(name);
            } else {
                fs::unlinkat(&self.0, &name, AtFlags::empty())?;
            }
        }
        Ok((!truncated).then_some(dirs))
    }
}

fn kind(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    }
}

/// Hidden, and not to be foreseen from inside.
fn temporary_name() -> String {
    let random =
        getrandom::u64().expect("the kernel's random numbers never fail once it has booted");
    format!(".{random:016x}.tmp")
}

#[cfg(test)]
mod tests;
