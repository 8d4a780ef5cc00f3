//! What is not kept for ever: logs of runs, transcripts of ended sessions, settled messages.
//!
//! Once a day, in steps that each hold the database for some milliseconds, on a thread that has
//! nothing urgent to do. An agent's archive of conversations is its group's memory and stays. What
//! a group's next run continues, what is not settled, and what a person may still want answered
//! again is never touched.

use std::time::{Duration, Instant};

use crate::boundary::{Dir, Kind, Rejected};
use crate::config::Settings;
use crate::home::Home;
use crate::ids::{GroupFolder, UnixMs};
use crate::limits::{
    RETENTION_FILES_MAX, RETENTION_STEP_MAX, RETENTION_TURN_MAX, RUN_LOGS_BYTES_MAX,
    TRANSCRIPTS_BYTES_MAX,
};
use crate::store::{self, Looked, Store};

/// Under this key `state` holds when this was last done.
const STATE_KEY: &str = "retention_done_at_ms";
/// And how far the look at messages has come, if it was cut short.
const PLACE_KEY: &str = "retention_place";
const INTERVAL: Duration = Duration::from_hours(24);
/// A session may be a task's own, which nobody notes: while it can be alive it stays.
const YOUNG: Duration = Duration::from_hours(48);
const TRANSCRIPT: &str = ".jsonl";

/// How much went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Logs of runs.
    pub logs: usize,
    /// Transcripts.
    pub transcripts: usize,
    /// Messages and what was said.
    pub rows: usize,
}

/// Looks whether a day is over, and if so clears away; stops early where `is_stopped` says so, or
/// after some seconds, to be called again.
///
/// # Errors
/// [`store::Error`]. A folder that cannot be cleared is logged and left.
pub fn turn(
    home: &Home,
    settings: &Settings,
    store: &mut Store,
    now: UnixMs,
    is_stopped: impl Fn() -> bool,
) -> Result<Option<Gone>, store::Error> {
    let last = store.get_state(STATE_KEY)?.and_then(|text| text.parse().ok()).unwrap_or(0);
    // Where the clock was set back since, it is time too.
    if UnixMs(last) <= now && now.since(UnixMs(last)) < INTERVAL {
        return Ok(None);
    }
    let mut gone = Gone::default();
    if let Some(days) = settings.keep_messages {
        let begun = Instant::now();
        let mut looked = store.get_state(PLACE_KEY)?.as_deref().and_then(place);
        loop {
            let from = looked.unwrap_or_default();
            let (rows, next) = store.forget_until(before(now, days), from, RETENTION_STEP_MAX)?;
            gone.rows += rows;
            looked = next;
            let is_cut = is_stopped() || RETENTION_TURN_MAX < begun.elapsed();
            if looked.is_none() || is_cut {
                break;
            }
        }
        // The next turn goes on from here, or some day from the beginning.
        let Looked { message, outbox } = looked.unwrap_or_default();
        store.set_state(PLACE_KEY, &format!("{message} {outbox}"))?;
        if looked.is_some() {
            return Ok(Some(gone));
        }
    }
    let (groups, _unreadable) = store.groups()?;
    for group in groups {
        if is_stopped() {
            return Ok(Some(gone));
        }
        let session = store.session(&group.folder)?;
        let logs = logs(home, &group.folder, before(now, settings.keep_logs));
        gone.logs += told(&group.folder, "logs", logs);
        let until = before(now, settings.keep_transcripts);
        let done = transcripts(home, &group.folder, session.as_deref(), until, now);
        gone.transcripts += told(&group.folder, "transcripts", done);
    }
    store.set_state(STATE_KEY, &now.0.to_string())?;
    Ok(Some(gone))
}

fn place(text: &str) -> Option<Looked> {
    let (message, outbox) = text.split_once(' ')?;
    Some(Looked { message: message.parse().ok()?, outbox: outbox.parse().ok()? })
}

fn before(now: UnixMs, time: Duration) -> UnixMs {
    UnixMs(now.0.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

fn told(folder: &GroupFolder, what: &str, done: Result<usize, Rejected>) -> usize {
    done.unwrap_or_else(|rejected| {
        if !matches!(rejected, Rejected::NotFound { .. }) {
            log::warn!("group={folder} {what} are not cleared away: {}", crate::chain(&rejected));
        }
        0
    })
}

/// A file that may go.
struct Aged {
    changed_at: UnixMs,
    name: String,
    bytes: u64,
}

fn logs(home: &Home, folder: &GroupFolder, until: UnixMs) -> Result<usize, Rejected> {
    let dir = Dir::open(&home.groups())?.sub(folder.as_str())?.sub("logs")?;
    let files = aged(&dir, |name| name.starts_with("container-"))?;
    let going = going(files, until, RUN_LOGS_BYTES_MAX);
    going.iter().try_fold(0, |gone, file| Ok(gone + usize::from(dir.remove(&file.name)?)))
}

/// `.claude/projects/PROJECT/SESSION.jsonl`, and the folder `SESSION` beside it.
fn transcripts(
    home: &Home,
    folder: &GroupFolder,
    session: Option<&str>,
    until: UnixMs,
    now: UnixMs,
) -> Result<usize, Rejected> {
    let sessions = Dir::open(&home.sessions())?.sub(folder.as_str())?;
    let projects = sessions.sub(".claude")?.sub("projects")?;
    let mut gone = 0;
    for entry in projects.list(PROJECTS_MAX)?.entries {
        if entry.kind != Kind::Directory {
            continue;
        }
        let project = projects.sub(&entry.name)?;
        let mut files = aged(&project, |name| {
            name.strip_suffix(TRANSCRIPT).is_some_and(|id| Some(id) != session)
        })?;
        files.retain(|file| file.changed_at < before(now, YOUNG));
        for file in going(files, until, TRANSCRIPTS_BYTES_MAX) {
            let id = file.name.strip_suffix(TRANSCRIPT).unwrap_or(&file.name);
            project.remove_tree(id, RETENTION_FILES_MAX)?;
            gone += usize::from(project.remove(&file.name)?);
        }
    }
    Ok(gone)
}

/// The CLI makes one for each folder that it is started in, and we start it in one.
const PROJECTS_MAX: usize = 100;

/// The regular files of a folder that are `wanted`, the newest first.
fn aged(dir: &Dir, wanted: impl Fn(&str) -> bool) -> Result<Vec<Aged>, Rejected> {
    let mut files = Vec::new();
    // More than these are seen by the next look, when these are gone.
    for entry in dir.list(RETENTION_FILES_MAX)?.entries {
        if entry.kind == Kind::File
            && wanted(&entry.name)
            && let Ok(file) = dir.open_file(&entry.name)
        {
            let (changed_at, bytes) = (file.about.changed_at, file.about.bytes);
            files.push(Aged { changed_at, name: entry.name, bytes });
        }
    }
    files.sort_by(|a, b| (b.changed_at, &b.name).cmp(&(a.changed_at, &a.name)));
    Ok(files)
}

/// Of files with the newest first, those that are older than `until`, or behind the first
/// `bytes_max`.
fn going(files: Vec<Aged>, until: UnixMs, bytes_max: u64) -> Vec<Aged> {
    let mut bytes = 0_u64;
    let mut going = Vec::new();
    for file in files {
        bytes = bytes.saturating_add(file.bytes);
        if file.changed_at < until || bytes_max < bytes {
            going.push(file);
        }
    }
    going
}

#[cfg(test)]
mod tests;
