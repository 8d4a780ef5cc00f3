//! Puts folders and files into the home, all of them or none, whatever ends the program meanwhile.
//!
//! `data/moving/new` holds what is to come, `data/moving/old` what was in its place. While
//! `data/moving/plan.json` is there, the next start moves all back; without it, it only clears away.
//! All of it is the host's; a folder that a sandbox could write is moved whole, never looked into.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::boundary::{Dir, Rejected};
use crate::home::Home;
use crate::store::{self, Store};

/// Under this key `state` holds the id of the last move that the database took part in.
pub const STATE_KEY: &str = "moved";

const FOLDER_MODE: u32 = 0o700;

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("cannot move `{}`", path.display())]
    File {
        /// What was touched.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database that says whether an earlier move was finished.
    #[error("cannot finish a move that was cut short")]
    Store(#[from] store::Error),
    /// What is to be cleared away cannot be.
    #[error("cannot clear away what was moved")]
    Rejected(#[from] Rejected),
}

type Result<T> = std::result::Result<T, Error>;

/// What is done when the plan was written and the program ended.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    id: String,
    /// Whether the database's word counts: it holds `id` once the move is done.
    in_database: bool,
    /// Paths below the home that come from `new`.
    come: Vec<PathBuf>,
    /// Paths below the home that only go.
    go: Vec<PathBuf>,
}

/// A move that is prepared. Dropped without [`Moving::finish`], it has not happened.
#[derive(Debug)]
pub struct Moving {
    root: PathBuf,
    plan: Plan,
    is_done: bool,
}

impl Moving {
    /// Begins one, with a home that is locked. With `in_database` it has happened once the
    /// database holds [`Moving::id`] under [`STATE_KEY`]; without, once it is finished.
    ///
    /// # Errors
    /// [`Error`].
    pub fn begin(home: &Home, in_database: bool) -> Result<Moving> {
        recover(home)?;
        let plan =
            Plan { id: store::random_hex::<8>(), in_database, come: Vec::new(), go: Vec::new() };
        let moving = Moving { root: home.root().to_owned(), plan, is_done: false };
        for name in ["new", "old"] {
            make(&moving.folder().join(name))?;
        }
        Ok(moving)
    }

    /// Names this move.
    pub fn id(&self) -> &str {
        &self.plan.id
    }

    /// Where to put what is to stand at `path` below the home; its parents are made.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn come(&mut self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let new = self.folder().join("new").join(path.as_ref());
        make(new.parent().unwrap_or(&self.root))?;
        self.plan.come.push(path.as_ref().to_owned());
        Ok(new)
    }

    /// What stands at `path` below the home is to go.
    pub fn go(&mut self, path: impl AsRef<Path>) {
        self.plan.go.push(path.as_ref().to_owned());
    }

    /// Moves all into its place.
    ///
    /// # Errors
    /// [`Error::File`]; when this is dropped, all is as it was.
    ///
    /// # Panics
    /// Where a path is not UTF-8; ours are.
    pub fn place(&mut self) -> Result<()> {
        let json = serde_json::to_vec(&self.plan).expect("our paths are UTF-8");
        let path = self.folder().join("plan.json");
        fs::write(&path, json).map_err(at(&path))?;
        // What is in its place counts as written, and nothing moves before the plan is: one that
        // cannot be read is one of which nothing has been done.
        rustix::fs::sync();
        for path in self.plan.come.iter().chain(&self.plan.go) {
            let (here, old) = (self.root.join(path), self.folder().join("old").join(path));
            if here.symlink_metadata().is_ok() {
                shift(&here, &old)?;
            }
        }
        for path in &self.plan.come {
            shift(&self.folder().join("new").join(path), &self.root.join(path))?;
        }
        // The database must not say that it has happened before it has.
        rustix::fs::sync();
        Ok(())
    }

    /// It has happened. Where something had to make place, tells where that is now.
    ///
    /// # Errors
    /// [`Error`]: all is in its place, but not cleared away.
    pub fn finish(mut self) -> Result<Option<PathBuf>> {
        self.is_done = true;
        let plan = self.folder().join("plan.json");
        fs::remove_file(&plan).map_err(at(&plan))?;
        clear_away(&self.root, &self.plan)
    }

    fn folder(&self) -> PathBuf {
        folder(&self.root)
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        if !self.is_done
            && let Err(error) = undo(&self.root, &self.plan).and_then(|()| remove(&self.root))
        {
            log::error!("{}; the next start tries again", crate::chain(&error));
        }
    }
}

/// Undoes a move that was cut short, or clears away after one that was done. For whoever has the
/// home's lock, before the database is opened.
///
/// # Errors
/// [`Error`].
pub fn recover(home: &Home) -> Result<()> {
    let folder = folder(home.root());
    if folder.symlink_metadata().is_err() {
        return Ok(());
    }
    let path = folder.join("plan.json");
    let plan: Option<Plan> = match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(at(&path)(error)),
    };
    if let Some(plan) = plan {
        let is_done = plan.in_database
            && Store::open(&home.database())?.get_state(STATE_KEY)?.as_ref() == Some(&plan.id);
        if is_done {
            log::info!("a move that was done is cleared away");
            clear_away(home.root(), &plan)?;
            return Ok(());
        }
        log::warn!("a move into the home folder was cut short: all is put back");
        undo(home.root(), &plan)?;
    }
    remove(home.root())
}

fn undo(root: &Path, plan: &Plan) -> Result<()> {
    let folder = folder(root);
    for path in &plan.come {
        let (here, new) = (root.join(path), folder.join("new").join(path));
        if new.symlink_metadata().is_err() && here.symlink_metadata().is_ok() {
            shift(&here, &new)?;
        }
    }
    for path in plan.come.iter().chain(&plan.go) {
        let old = folder.join("old").join(path);
        if old.symlink_metadata().is_ok() {
            shift(&old, &root.join(path))?;
        }
    }
    Ok(())
}

/// Keeps what had to make place, under a name of its own.
fn clear_away(root: &Path, plan: &Plan) -> Result<Option<PathBuf>> {
    let old = folder(root).join("old");
    let is_empty = fs::read_dir(&old).map_err(at(&old))?.next().is_none();
    let kept = root.join(format!("data/replaced-{}", plan.id));
    if !is_empty {
        shift(&old, &kept)?;
    }
    remove(root)?;
    Ok((!is_empty).then_some(kept))
}

fn remove(root: &Path) -> Result<()> {
    Dir::open(&root.join("data"))?.remove_tree("moving", usize::MAX)?;
    Ok(())
}

fn folder(root: &Path) -> PathBuf {
    root.join("data/moving")
}

fn shift(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        make(parent)?;
    }
    fs::rename(from, to).map_err(at(from))
}

fn make(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A home with `a` and `gone`, and a move that brings another `a` and a `b/c`, moved in place.
    fn moved(in_database: bool) -> (tempfile::TempDir, Home, Moving) {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path());
        home.create().expect("it is ours");
        for name in ["a", "gone"] {
            fs::write(folder.path().join(name), "old").expect("a file");
        }
        let mut moving = Moving::begin(&home, in_database).expect("nothing is in the way");
        for name in ["a", "b/c"] {
            fs::write(moving.come(name).expect("a folder"), "new").expect("a file");
        }
        moving.go("gone");
        moving.go("never-was");
        moving.place().expect("nothing is in the way");
        assert_eq!([Some("new"), Some("new"), None], state(&home).each_ref().map(Option::as_deref));
        (folder, home, moving)
    }

    fn state(home: &Home) -> [Option<String>; 3] {
        ["a", "b/c", "gone"].map(|name| fs::read_to_string(home.root().join(name)).ok())
    }

    fn is_clean(home: &Home) -> bool {
        !folder(home.root()).exists()
    }

    /// As a crash would.
    fn leave(mut moving: Moving) {
        moving.is_done = true;
    }

    const BEFORE: [Option<&str>; 3] = [Some("old"), None, Some("old")];
    const AFTER: [Option<&str>; 3] = [Some("new"), Some("new"), None];

    #[test]
    fn finished_it_stays_and_what_was_there_is_kept() {
        let (_folder, home, moving) = moved(false);
        let kept = moving.finish().expect("no fault").expect("something was there");
        assert_eq!("old", fs::read_to_string(kept.join("gone")).expect("it is kept"));
        recover(&home).expect("nothing to do");
        assert_eq!(AFTER, state(&home).each_ref().map(Option::as_deref));
        assert!(is_clean(&home));
    }

    #[test]
    fn dropped_it_never_was() {
        let (_folder, home, moving) = moved(false);
        drop(moving);
        assert_eq!(BEFORE, state(&home).each_ref().map(Option::as_deref));
        assert!(is_clean(&home));
    }

    #[test]
    fn cut_short_anywhere_the_next_start_puts_all_back_unless_the_database_has_it() {
        for is_committed in [false, true] {
            let (_folder, home, moving) = moved(true);
            if is_committed {
                let mut store = Store::open(&home.database()).expect("a database");
                store.set_state(STATE_KEY, moving.id()).expect("a commit");
            }
            leave(moving);
            recover(&home).expect("no fault");
            let expected = if is_committed { AFTER } else { BEFORE };
            assert_eq!(expected, state(&home).each_ref().map(Option::as_deref));
            assert!(is_clean(&home));
        }
        // Between the two moves of one path.
        let (_folder, home, moving) = moved(false);
        shift(&home.root().join("a"), &folder(home.root()).join("new/a")).expect("back");
        leave(moving);
        recover(&home).expect("no fault");
        assert_eq!(BEFORE, state(&home).each_ref().map(Option::as_deref));
    }
}
