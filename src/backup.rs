//! One file with all that a home is: databases, groups, sessions. Made while the daemon runs, looked
//! through before it counts; put back into a new home, all or nothing.
//!
//! It is a gzipped tar: `backup.json`, the databases, then folders and files under the names that
//! they have below the home. Keys of `WhatsApp` and `.env` are in it only where somebody asks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::boundary::{About, Bounds, Dir, Found, Rejected};
use crate::home::{Home, HomeError, LockError, Purpose};
use crate::ids::{UnixMs, shown};
use crate::limits::{IMPORT_BYTES_MAX, IMPORT_ENTRIES_MAX};
use crate::moving::{self, Moving};
use crate::store::{self, Contents, Counts, Store};

const MANIFEST: &str = "backup.json";
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
const FORMAT: u32 = 1;
const MESSAGES: &str = "store/messages.db";
const WHATSAPP: &str = "store/whatsapp.db";
const ENV: &str = ".env";
/// Folders that are taken along, without the logs of runs.
const FOLDERS: [&str; 3] = ["groups", "data/sessions", "data/skills"];
const FOLDER_MODE: u32 = 0o700;

/// Why there is no backup, or nothing was put back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It would be written over something.
    #[error("`{}` exists already: name a new file", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {doing} `{}`", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no backup of ours, or damaged.
    #[error("`{}` is no usable backup: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is something already.
    #[error(
        "the home has {} further groups, {} messages and {} tasks already: restore into a new one, \
         for example `rust-claw --home ~/.rust-claw-2 restore …`",
        contents.groups, contents.messages, contents.tasks
    )]
    NotFresh {
        /// What.
        contents: Contents,
    },
    /// There is nothing to back up.
    #[error("there is no home in `{}`", path.display())]
    NoHome {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A folder cannot be read.
    #[error("cannot read the home's folders")]
    Tree(#[from] Rejected),
    /// The home.
    #[error("cannot use the home folder")]
    Home(#[from] HomeError),
    /// Somebody serves it.
    #[error("{source}; stop it first")]
    Lock {
        /// Who.
        #[from]
        source: LockError,
    },
    /// The database.
    #[error("cannot use the database")]
    Store(#[from] store::Error),
    /// The home's folders.
    #[error(transparent)]
    Moving(#[from] moving::Error),
}

type Result<T> = std::result::Result<T, Error>;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of the file; this program knows 1.
    pub format: u32,
    /// The program that made it.
    pub version: String,
    /// When.
    pub made_at_ms: i64,
    /// Whether keys are in it.
    pub with_secrets: bool,
    /// Rows of the messages' database.
    pub counts: Counts,
}

/// What was written or put back.
#[derive(Clone, Debug)]
pub struct Done {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// Files in it, databases included.
    pub files: u64,
    /// Links and other things that are no files, and what may not be read: left out.
    pub left_out: u64,
    /// After a restore: where that is now which had to make place.
    pub replaced: Option<PathBuf>,
}

/// Writes all of `home` into the new file `to`.
///
/// # Errors
/// [`Error`]; `to` is not there then.
pub fn backup(home: &Home, to: &Path, with_secrets: bool, now: UnixMs) -> Result<Done> {
    if to.symlink_metadata().is_ok() {
        return Err(Error::Exists { path: to.to_owned() });
    }
    if !home.database().is_file() {
        return Err(Error::NoHome { path: home.root().to_owned() });
    }
    let scratch = Scratch::new(&home.root().join("data"))?;
    let mut databases = vec![(MESSAGES, home.database())];
    let keys = home.root().join(WHATSAPP);
    if with_secrets && keys.is_file() {
        databases.push((WHATSAPP, keys));
    }
    let mut counts = Counts::new();
    for (number, (name, path)) in databases.iter_mut().enumerate() {
        let copy = scratch.0.join(number.to_string());
        store::copy_database(path, &copy)?;
        let found = store::verify_database(&copy, *name == MESSAGES)?;
        if *name == MESSAGES {
            counts = found;
        }
        *path = copy;
    }
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made_at_ms: now.0,
        with_secrets,
        counts,
    };

    let partial = Partial::new(to)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial.0);
    let file = file.map_err(at("make", &partial.0))?;
    let mut done = Done { manifest, files: 0, left_out: 0, replaced: None };
    write(home, &databases, file, &mut done).map_err(|error| match error {
        Error::File { doing: "write", source, .. } => at("write", to)(source),
        error => error,
    })?;
    let mut count = 0;
    let database = scratch.0.join("read-again.db");
    let read = read(&partial.0, &mut |path, entry| {
        if let Entry::File(mut file, _) = entry {
            count += 1;
            let mut into: Box<dyn Write> = if path == Path::new(MESSAGES) {
                Box::new(File::create(&database)?)
            } else {
                Box::new(io::sink())
            };
            io::copy(&mut file, &mut into)?;
        }
        Ok(())
    })?;
    let is_whole = read == done.manifest && count == done.files;
    if !is_whole || store::verify_database(&database, true)? != done.manifest.counts {
        let why = "what was written is not what is read again".to_owned();
        return Err(Error::Unusable { path: to.to_owned(), why });
    }
    fs::rename(&partial.0, to).map_err(at("write", to))?;
    Ok(done)
}

fn write(home: &Home, databases: &[(&str, PathBuf)], file: File, done: &mut Done) -> Result<()> {
    let failed = || at("write", Path::new(""));
    let gzip = GzEncoder::new(BufWriter::new(file), Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let json = serde_json::to_vec(&done.manifest).expect("texts and numbers always serialise");
    let about =
        |bytes| About { bytes, is_executable: false, changed_at: UnixMs(done.manifest.made_at_ms) };
    append(&mut tar, Path::new(MANIFEST), &about(json.len() as u64), &json[..]).map_err(failed())?;
    for (name, path) in databases {
        let copy = File::open(path).map_err(at("read", path))?;
        let bytes = copy.metadata().map_err(at("read", path))?.len();
        append(&mut tar, Path::new(name), &about(bytes), copy).map_err(failed())?;
        done.files += 1;
    }
    let root = Dir::open(home.root())?;
    if done.manifest.with_secrets {
        match root.open_file(ENV) {
            Ok(env) => {
                append(&mut tar, Path::new(ENV), &env.about, env.file).map_err(failed())?;
                done.files += 1;
            }
            Err(Rejected::NotFound { .. }) => {}
            Err(rejected) => return Err(rejected.into()),
        }
    }
    let mut bounds = Bounds { entries: IMPORT_ENTRIES_MAX, bytes: IMPORT_BYTES_MAX };
    for folder in FOLDERS {
        let path = home.root().join(folder);
        let dir = match Dir::open(&path) {
            Err(Rejected::NotFound { .. }) => continue,
            dir => dir?,
        };
        dir.walk::<Error>(&mut bounds, &mut |below, found| {
            let path = Path::new(folder).join(below);
            if folder == "groups" && is_logs(below) {
                return Ok(false);
            }
            match found {
                Found::Folder => {
                    let mut header = tar::Header::new_gnu();
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(FOLDER_MODE);
                    header.set_size(0);
                    tar.append_data(&mut header, &path, io::empty()).map_err(failed())?;
                }
                Found::File(file) => {
                    append(&mut tar, &path, &file.about, file.file).map_err(failed())?;
                    done.files += 1;
                }
                Found::Other(_) => done.left_out += 1,
            }
            Ok(true)
        })?;
    }
    let written = tar.into_inner().and_then(GzEncoder::finish).and_then(|mut file| {
        file.flush()?;
        file.get_ref().sync_all()
    });
    written.map_err(failed())
}

/// `FOLDER/logs`: what the runs of a group logged.
fn is_logs(below: &Path) -> bool {
    let mut parts = below.components();
    let (group, name) = (parts.next(), parts.next());
    group.is_some() && name == Some(Component::Normal("logs".as_ref()))
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &Path,
    about: &About,
    from: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(if about.is_executable { 0o700 } else { 0o600 });
    header.set_size(about.bytes);
    header.set_mtime(u64::try_from(about.changed_at.0 / 1000).unwrap_or(0));
    // It may have become shorter since it was opened, or longer.
    tar.append_data(&mut header, path, from.chain(io::repeat(0)).take(about.bytes))
}

/// An entry of a backup.
enum Entry<'a> {
    Folder,
    File(&'a mut dyn Read, About),
}

/// Shows `visit` all of a backup but what it says of itself, every name checked.
fn read(
    path: &Path,
    visit: &mut dyn FnMut(&Path, Entry<'_>) -> io::Result<()>,
) -> Result<Manifest> {
    let unusable = |why: String| Error::Unusable { path: path.to_owned(), why };
    let failed = |error: io::Error| unusable(error.to_string());
    let file = File::open(path).map_err(at("open", path))?;
    let mut tar = tar::Archive::new(MultiGzDecoder::new(BufReader::new(file)));
    let (mut manifest, mut bytes, mut count) = (None, 0_u64, 0_usize);
    for entry in tar.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let header = entry.header();
        let about = About {
            bytes: entry.size(),
            is_executable: header.mode().map_err(failed)? & 0o100 != 0,
            changed_at: UnixMs(
                i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0).saturating_mul(1000),
            ),
        };
        let kind = header.entry_type();
        let name = entry.path().map_err(failed)?.into_owned();
        (count, bytes) = (count + 1, bytes.saturating_add(about.bytes));
        if IMPORT_ENTRIES_MAX < count || IMPORT_BYTES_MAX < bytes {
            return Err(unusable("it is too large".to_owned()));
        }
        if manifest.is_none() {
            if name != Path::new(MANIFEST) {
                return Err(unusable(format!("it does not begin with `{MANIFEST}`")));
            }
            let found: Manifest = serde_json::from_reader(entry.take(MANIFEST_BYTES_MAX))
                .map_err(|error| unusable(format!("`{MANIFEST}`: {error}")))?;
            if found.format != FORMAT {
                let why = format!("it has format {}, this program knows {FORMAT}", found.format);
                return Err(unusable(why));
            }
            manifest = Some(found);
            continue;
        }
        let allowed = is_allowed(&name, kind);
        if !allowed {
            let name = shown(&name.to_string_lossy());
            return Err(unusable(format!("`{name}` does not belong into one")));
        }
        let entry = match kind {
            tar::EntryType::Directory => Entry::Folder,
            _ => Entry::File(&mut entry, about),
        };
        visit(&name, entry).map_err(failed)?;
    }
    manifest.ok_or_else(|| unusable("it is empty".to_owned()))
}

/// Files and folders below what is taken along, by plain names.
fn is_allowed(name: &Path, kind: tar::EntryType) -> bool {
    let is_plain = name.components().all(|part| matches!(part, Component::Normal(_)))
        && name.to_str().is_some_and(|name| !name.contains('\0'));
    let is_below =
        FOLDERS.iter().any(|folder| name.starts_with(folder) && name != Path::new(folder));
    is_plain
        && match kind {
            tar::EntryType::Directory => is_below,
            tar::EntryType::Regular => {
                is_below || [MESSAGES, WHATSAPP, ENV].iter().any(|one| name == Path::new(one))
            }
            _ => false,
        }
}

/// Puts a backup into a new home.
///
/// # Errors
/// [`Error`]; the home is as it was then.
pub fn restore(home: &Home, from: &Path) -> Result<Done> {
    // Its head, before anything is made.
    let manifest = read(from, &mut |_, _| Ok(()))?;
    home.create()?;
    let _lock = home.lock(Purpose::Import)?;
    let mut moving = Moving::begin(home, false)?;
    {
        let contents = Store::open(&home.database())?.contents()?;
        if contents != (Contents { groups: 0, messages: 0, tasks: 0 }) {
            return Err(Error::NotFresh { contents });
        }
    }
    let mut roots = Vec::new();
    for folder in FOLDERS {
        let new = moving.come(folder)?;
        fs::DirBuilder::new().mode(FOLDER_MODE).create(&new).map_err(at("make", &new))?;
        roots.push(new);
    }
    let database = moving.come(MESSAGES)?;
    let new = database.parent().and_then(Path::parent).unwrap_or(&database).to_owned();
    let mut done = Done { manifest: manifest.clone(), files: 0, left_out: 0, replaced: None };
    let mut singles = Vec::new();
    let again = read(from, &mut |path, entry| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parent = Dir::open(&new.join(path.parent().unwrap_or(path)));
        let parent = parent.map_err(io::Error::other)?;
        match entry {
            Entry::Folder => drop(parent.create_sub(name, FOLDER_MODE).map_err(io::Error::other)?),
            Entry::File(file, about) => {
                let bytes = parent.write_from(name, file, &about).map_err(io::Error::other)?;
                if bytes != about.bytes {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                done.files += 1;
                if [WHATSAPP, ENV].iter().any(|one| path == Path::new(one)) {
                    singles.push(path.to_owned());
                }
            }
        }
        Ok(())
    })?;
    let unusable = |why: &str| Error::Unusable { path: from.to_owned(), why: why.to_owned() };
    if again != manifest {
        return Err(unusable("it changed while it was read"));
    }
    if !database.is_file() {
        return Err(unusable("it has no database of messages"));
    }
    if store::verify_database(&database, true)? != manifest.counts {
        return Err(unusable("its database has not as many rows as it says"));
    }
    if singles.iter().any(|path| path == Path::new(WHATSAPP)) {
        store::verify_database(&new.join(WHATSAPP), false)?;
    }
    for path in &singles {
        moving.come(path)?;
    }
    // Here a newer program brings it to its schema.
    drop(Store::open(&database)?);
    for name in [MESSAGES, WHATSAPP] {
        if name == MESSAGES || singles.iter().any(|path| path == Path::new(name)) {
            moving.go(format!("{name}-wal"));
            moving.go(format!("{name}-shm"));
        }
    }
    moving.place()?;
    crate::crash_point("restore-placed");
    done.replaced = moving.finish()?;
    Ok(done)
}

/// A folder of our own that goes with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Scratch> {
        let path = parent.join(format!("copy-{}", store::random_hex::<8>()));
        fs::DirBuilder::new().mode(FOLDER_MODE).create(&path).map_err(at("make", &path))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// The file under its temporary name, which goes unless it was renamed.
struct Partial(PathBuf);

impl Partial {
    fn new(to: &Path) -> Result<Partial> {
        let name = to.file_name().ok_or_else(|| Error::Exists { path: to.to_owned() })?;
        let partial = format!("{}.partial-{}", name.to_string_lossy(), store::random_hex::<4>());
        Ok(Partial(to.with_file_name(partial)))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the rename it is not there any more.
        fs::remove_file(&self.0).ok();
    }
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { doing, path, source }
}
