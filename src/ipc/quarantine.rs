//! Where requests go that are of no use: `data/ipc/errors`, each with the reason in a file beside
//! it. No sandbox sees this folder; the oldest go when there are too many, or too much of them.
//!
//! What is kept is a copy. The file itself may have a second name inside, by which its sandbox
//! could go on writing to it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use crate::boundary::{Dir, Rejected};
use crate::ids::GroupFolder;
use crate::limits::{QUARANTINE_BYTES_MAX, QUARANTINE_FILES_MAX};

/// The quarantine of a home.
#[derive(Debug)]
pub(super) struct Quarantine {
    dir: Dir,
    /// Oldest first: name and bytes.
    kept: VecDeque<(String, u64)>,
}

impl Quarantine {
    /// Opens it and counts what is there.
    pub(super) fn open(path: &Path) -> io::Result<Quarantine> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let (Ok(name), about) = (entry.file_name().into_string(), entry.metadata()?) else {
                continue;
            };
            found.push((about.modified()?, name, about.len()));
        }
        found.sort();
        let kept = found.into_iter().map(|(_, name, bytes)| (name, bytes)).collect();
        let dir = Dir::open(path).map_err(io::Error::other)?;
        let mut quarantine = Quarantine { dir, kept };
        quarantine.shrink();
        Ok(quarantine)
    }

    /// Keeps what was found under `name` in the folder of a group (nothing, where it could not even
    /// be read), and why it is here.
    pub(super) fn keep(
        &mut self,
        folder: &GroupFolder,
        name: &str,
        bytes: Option<&[u8]>,
        reason: &str,
    ) {
        let name = file_name(folder, name);
        if let Some(bytes) = bytes {
            self.put(name.clone(), bytes);
        }
        self.put(format!("{name}.reason"), format!("{reason}\n").as_bytes());
        self.shrink();
    }

    fn put(&mut self, name: String, bytes: &[u8]) {
        self.kept.retain(|(kept, _)| *kept != name);
        match self.dir.replace(&name, bytes, 0o600) {
            Ok(()) => self.kept.push_back((name, bytes.len() as u64)),
            Err(error) => log::warn!("not kept in quarantine: {}", crate::chain(&error)),
        }
    }

    fn shrink(&mut self) {
        let mut bytes: u64 = self.kept.iter().map(|(_, bytes)| bytes).sum();
        while QUARANTINE_FILES_MAX < self.kept.len() || QUARANTINE_BYTES_MAX < bytes {
            let Some((name, freed)) = self.kept.pop_front() else { return };
            bytes -= freed;
            match self.dir.remove(&name) {
                Ok(_) => {}
                Err(Rejected::NotARegularFile { .. }) => {
                    log::warn!("a folder in the quarantine is not ours to remove");
                }
                Err(error) => log::warn!("cannot clear quarantine: {}", crate::chain(&error)),
            }
        }
    }
}

/// `{folder}-{name}`, short enough for a file system with `.reason` after it, without what would
/// upset a terminal.
fn file_name(folder: &GroupFolder, name: &str) -> String {
    const BYTES_MAX: usize = 160;
    let mut whole = format!("{folder}-");
    for c in name.chars().map(|c| if c.is_control() { '_' } else { c }) {
        if BYTES_MAX < whole.len() {
            break;
        }
        whole.push(c);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h51_the_quarantine_is_bounded_and_drops_the_oldest() {
        let dir = tempfile::tempdir().expect("a directory");
        let family = GroupFolder::new("family").expect("a folder");
        let mut quarantine = Quarantine::open(dir.path()).expect("it is there");
        for n in 0..QUARANTINE_FILES_MAX {
            quarantine.keep(&family, &format!("{n:05}.json"), Some(b"{"), "it is not JSON");
        }
        let count = || std::fs::read_dir(dir.path()).expect("it is there").count();
        assert_eq!(QUARANTINE_FILES_MAX, count());
        assert!(!dir.path().join("family-00000.json").exists());
        let last = format!("family-{:05}.json", QUARANTINE_FILES_MAX - 1);
        let reason = std::fs::read_to_string(dir.path().join(format!("{last}.reason")));
        assert_eq!("it is not JSON\n", reason.expect("it is beside it"));

        let huge = vec![b'x'; usize::try_from(QUARANTINE_BYTES_MAX / 2).expect("it fits") + 1];
        for n in 0..3 {
            quarantine.keep(&family, &format!("huge-{n}.json"), Some(&huge), "too large");
        }
        assert!(!dir.path().join("family-huge-1.json").exists());
        assert!(dir.path().join("family-huge-2.json").exists());
        // What an earlier life left is counted too.
        drop(quarantine);
        let again = Quarantine::open(dir.path()).expect("it is there");
        assert_eq!(count(), again.kept.len());
    }

    #[test]
    fn names_fit_and_are_harmless() {
        let family = GroupFolder::new("family").expect("a folder");
        assert_eq!("family-a_b.json", file_name(&family, "a\nb.json"));
        assert!(file_name(&family, &"é".repeat(127)).len() < 200);
    }
}
