//! The groups' folders and sessions, copied. The tree may have been written by agents: no link is
//! followed, nothing but files and folders is read, and it has bounds.

use std::path::Path;

use super::Error;
use super::report::Report;
use crate::boundary::{Bounds, Dir, Found, Rejected};
use crate::ids::GroupFolder;
use crate::limits::{IMPORT_BYTES_MAX, IMPORT_ENTRIES_MAX};
use crate::moving::Moving;

const FOLDER_MODE: u32 = 0o700;

/// Copies what belongs to `folders`; without `moving` it only counts.
pub(super) fn copy<'a>(
    root: &Dir,
    folders: impl Iterator<Item = &'a GroupFolder>,
    mut moving: Option<&mut Moving>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut bounds = Bounds { entries: IMPORT_ENTRIES_MAX, bytes: IMPORT_BYTES_MAX };
    let groups = below(root, &["groups"])?;
    let sessions = below(root, &["data", "sessions"])?;
    let global = (&groups, "global", "groups/global".to_owned(), false);
    let mut trees = vec![global];
    for folder in folders {
        let name = folder.as_str();
        trees.push((&groups, name, format!("groups/{name}"), false));
        trees.push((&sessions, name, format!("data/sessions/{name}"), true));
    }
    for (parent, name, to, is_session) in trees {
        let Some(parent) = parent else { continue };
        let from = match parent.sub(name) {
            Err(Rejected::NotFound { .. }) => continue,
            from => from?,
        };
        let what = if is_session { "files of sessions" } else { "files of groups" };
        // What their runs logged holds prompts, and has ended.
        let stays = |path: &Path| {
            if is_session { !path.starts_with(".claude") } else { path == Path::new("logs") }
        };
        let line = report.of(what);
        let new = match &mut moving {
            Some(moving) => {
                let new = moving.come(&to)?;
                let (parent, last) = (new.parent().unwrap_or(&new), name);
                Dir::open(parent)?.create_sub(last, FOLDER_MODE)?;
                Some(new)
            }
            None => None,
        };
        from.walk::<Error>(&mut bounds, &mut |path, found| {
            if stays(path) {
                return Ok(false);
            }
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let into = match (&new, path.parent()) {
                (Some(new), Some(parent)) => Some(Dir::open(&new.join(parent))?),
                _ => None,
            };
            match found {
                Found::Folder => {
                    if let Some(into) = into {
                        into.create_sub(name, FOLDER_MODE)?;
                    }
                }
                Found::File(file) => {
                    if let Some(into) = into {
                        into.write_from(name, file.file, &file.about)?;
                    }
                    line.came += 1;
                }
                Found::Other(what) => line.stay(&what),
            }
            Ok(true)
        })?;
    }
    Ok(())
}

/// A folder below another; `None` where it is not there.
pub(super) fn below(root: &Dir, path: &[&str]) -> Result<Option<Dir>, Error> {
    let mut found: Option<Dir> = None;
    for name in path {
        let next = match &found {
            Some(dir) => dir.sub(name),
            None => root.sub(name),
        };
        match next {
            Ok(dir) => found = Some(dir),
            Err(Rejected::NotFound { .. }) => return Ok(None),
            Err(rejected) => return Err(rejected.into()),
        }
    }
    Ok(found)
}
