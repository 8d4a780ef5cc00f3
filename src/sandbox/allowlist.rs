//! Which folders of the host may be mounted into sandboxes beside the group's own: a file that a
//! person writes, outside of everything that a sandbox can reach. `NanoClaw`'s format.
//!
//! It is read at each use and never kept, so that a repaired file counts at once and a broken one
//! never silently means what an older one said.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;

use crate::limits::ALLOWLIST_BYTES_MAX;

/// What a person allows to be mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allowlist {
    /// Folders that, with all in them, may be mounted.
    pub allowed_roots: Vec<AllowedRoot>,
    /// Paths that contain one of these are refused, besides the patterns that always are.
    #[serde(default)]
    pub blocked_patterns: Vec<String>,
    /// Whether groups other than main may only read; where nothing is said, they may not write.
    #[serde(default = "yes")]
    pub non_main_read_only: bool,
}

/// A folder that may be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowedRoot {
    /// Absolute, or starting with `~/`.
    pub path: String,
    /// Whether agents may write there.
    #[serde(default)]
    pub allow_read_write: bool,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
}

/// Why there is no allowlist, so that nothing is mounted.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// There is no file.
    #[error("there is no `{}`", path.display())]
    Missing {
        /// Where it is looked for first.
        path: PathBuf,
    },
    /// Somebody else could have written it.
    #[error("others can write `{0}`; `chmod go-w '{0}'` ends that", path.display())]
    WritableByOthers {
        /// The file, or the folder that it is in.
        path: PathBuf,
    },
    /// It belongs neither to us nor to root.
    #[error("`{}` belongs to another user", path.display())]
    NotOurs {
        /// The file, or the folder that it is in.
        path: PathBuf,
    },
    /// Not a file, or a huge one.
    #[error("`{}` is not a file of at most {ALLOWLIST_BYTES_MAX} bytes", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The system failed.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not the JSON that is expected.
    #[error("`{}` is not a mount allowlist", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
}

impl Allowlist {
    /// Where it may be, in order: ours, then `NanoClaw`'s.
    pub fn paths(user_home: &Path) -> [PathBuf; 2] {
        ["rust-claw", "nanoclaw"]
            .map(|program| user_home.join(".config").join(program).join("mount-allowlist.json"))
    }

    /// Reads the first file that is there. If that is broken, the other is not asked.
    ///
    /// # Errors
    /// [`Unusable`]: then nothing may be mounted, and that is to be said.
    pub fn load(user_home: &Path) -> Result<Allowlist, Unusable> {
        let paths = Allowlist::paths(user_home);
        for path in &paths {
            match std::fs::canonicalize(path) {
                Ok(real) => return read(&real),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // A link that leads nowhere is no missing file.
                    if path.is_symlink() {
                        return Err(Unusable::Unreadable { path: path.clone(), source: error });
                    }
                }
                Err(source) => return Err(Unusable::Unreadable { path: path.clone(), source }),
            }
        }
        let [path, _] = paths;
        Err(Unusable::Missing { path })
    }
}

fn yes() -> bool {
    true
}

fn read(path: &Path) -> Result<Allowlist, Unusable> {
    let unreadable = |source| Unusable::Unreadable { path: path.to_owned(), source };
    let file = File::options()
        .read(true)
        // A FIFO would wait for its writer.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > ALLOWLIST_BYTES_MAX {
        return Err(Unusable::NotAFile { path: path.to_owned() });
    }
    check_owner(path, &metadata)?;
    if let Some(folder) = path.parent() {
        // Who can write the folder can put another file there.
        check_owner(folder, &folder.metadata().map_err(unreadable)?)?;
    }
    let mut json = Vec::new();
    file.take(ALLOWLIST_BYTES_MAX).read_to_end(&mut json).map_err(unreadable)?;
    serde_json::from_slice(&json)
        .map_err(|source| Unusable::Malformed { path: path.to_owned(), source })
}

fn check_owner(path: &Path, metadata: &std::fs::Metadata) -> Result<(), Unusable> {
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Unusable::NotOurs { path: path.to_owned() });
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Unusable::WritableByOthers { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const GOOD: &str = r#"{"allowedRoots":[{"path":"~/a","allowReadWrite":true,"description":"x"},
        {"path":"/b"}],"blockedPatterns":["token"],"nonMainReadOnly":false}"#;

    /// A home folder with `json` as our allowlist.
    fn home(json: &str) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let [path, _] = Allowlist::paths(home.path());
        put(&path, json);
        (home, path)
    }

    fn put(path: &Path, json: &str) {
        let folder = path.parent().expect("is in a folder");
        fs::create_dir_all(folder).expect("can be made");
        set_mode(folder, 0o755);
        fs::write(path, json).expect("can be written");
        set_mode(path, 0o644);
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("is ours");
    }

    #[test]
    fn nanoclaws_format_is_read() {
        let (home, _) = home(GOOD);
        let wanted = Allowlist {
            allowed_roots: vec![
                AllowedRoot {
                    path: "~/a".into(),
                    allow_read_write: true,
                    description: Some("x".into()),
                },
                AllowedRoot { path: "/b".into(), allow_read_write: false, description: None },
            ],
            blocked_patterns: vec!["token".into()],
            non_main_read_only: false,
        };
        assert_eq!(wanted, Allowlist::load(home.path()).expect("is good"));
    }

    #[test]
    fn what_is_not_said_is_the_safe_side() {
        let (home, _) = home(r#"{"allowedRoots":[]}"#);
        let allowlist = Allowlist::load(home.path()).expect("is good");
        assert!(allowlist.non_main_read_only);
    }

    #[test]
    fn h57_read_at_each_use() {
        let (home, path) = home("{");
        let broken = Allowlist::load(home.path());
        assert!(matches!(broken, Err(Unusable::Malformed { .. })), "{broken:?}");
        put(&path, GOOD);
        Allowlist::load(home.path()).expect("is mended");
        fs::remove_file(&path).expect("is there");
        let missing = Allowlist::load(home.path());
        assert!(matches!(missing, Err(Unusable::Missing { .. })), "{missing:?}");
    }

    #[test]
    fn h57_broken_files_allow_nothing_and_say_why() {
        let too_large = format!("{GOOD}{}", " ".repeat(64 * 1024));
        for broken in [
            "",
            "[]",
            "{}",
            r#"{"allowedRoots":["~/a"]}"#,
            r#"{"allowedRoots":[],"nonMainReadonly":true}"#,
            r#"{"allowedRoots":[{"path":"/a","allowReadWrite":"no"}]}"#,
            &too_large,
        ] {
            let (home, path) = home(broken);
            let error = Allowlist::load(home.path()).expect_err(broken).to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    fn nanoclaws_file_counts_only_where_ours_is_not_there() {
        let (home, path) = home("broken");
        let [_, theirs] = Allowlist::paths(home.path());
        put(&theirs, GOOD);
        Allowlist::load(home.path()).expect_err("ours is broken");
        fs::remove_file(&path).expect("is there");
        Allowlist::load(home.path()).expect("theirs is good");
        std::os::unix::fs::symlink("nowhere", &path).expect("is new");
        Allowlist::load(home.path()).expect_err("ours leads nowhere");
    }

    #[test]
    fn what_others_can_write_is_refused() {
        let (home, path) = home(GOOD);
        let folder = path.parent().expect("is in a folder");
        for (changed, mode) in [(&*path, 0o664), (&*path, 0o646), (folder, 0o775), (folder, 0o757)]
        {
            let before = changed.metadata().expect("is there").permissions();
            set_mode(changed, mode);
            let refused = Allowlist::load(home.path());
            assert!(matches!(refused, Err(Unusable::WritableByOthers { .. })), "{refused:?}");
            fs::set_permissions(changed, before).expect("is ours");
        }
        Allowlist::load(home.path()).expect("is good again");
    }

    #[test]
    fn h51_a_fifo_or_folder_in_its_place_does_not_hang() {
        for is_fifo in [true, false] {
            let (home, path) = home(GOOD);
            fs::remove_file(&path).expect("is there");
            if is_fifo {
                use rustix::fs::{CWD, FileType, Mode};
                rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("is new");
            } else {
                fs::create_dir(&path).expect("is new");
            }
            let refused = Allowlist::load(home.path());
            assert!(matches!(refused, Err(Unusable::NotAFile { .. })), "{refused:?}");
        }
    }
}
