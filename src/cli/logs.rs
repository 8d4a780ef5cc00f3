//! `logs`: the program's log, by group and level, as it grows if wanted.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use crossbeam_channel::RecvTimeoutError;
use log::Level;

use super::{Error, group_config, out};
use crate::home::Home;
use crate::ids::shown;

/// Show the program's log. The log of one sandbox lies in groups/FOLDER/logs of the home folder.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "logs")]
pub(super) struct LogsCommand {
    /// go on with what is written from now on
    #[argh(switch)]
    follow: bool,
    /// just what is about this group
    #[argh(option, arg_name = "folder")]
    group: Option<String>,
    /// at least this: error, warn, info, debug, trace
    #[argh(option, arg_name = "level")]
    level: Option<Level>,
    /// at most so many of the newest lines (default: 200)
    #[argh(option, arg_name = "n", default = "200")]
    lines: usize,
}

/// A look at the file while it is followed.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

impl LogsCommand {
    /// # Errors
    /// No such group; a log that cannot be read.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let mut wanted = Wanted { level: self.level, group: None };
        if let Some(folder) = &self.group {
            let store = super::store_with_main(home)?;
            let folder = group_config::group(&store, folder)?.folder.to_string();
            wanted.group = Some((folder, BTreeSet::new()));
        }
        let path = home.log_file();
        let mut newest = std::collections::VecDeque::new();
        let mut reader = None;
        for path in [path.with_extension("log.1"), path.clone()] {
            let Some(mut opened) = open(&path)? else { continue };
            while let Some(line) = next(&mut opened.lines)? {
                if wanted.takes(&line) {
                    newest.push_back(line);
                }
                if self.lines < newest.len() {
                    newest.pop_front();
                }
            }
            reader = Some(opened);
        }
        newest.iter().try_for_each(|line| print(line))?;
        if self.follow { follow(&path, reader, &mut wanted) } else { Ok(()) }
    }
}

fn print(line: &str) -> Result<(), Error> {
    out::line(&out::harmless(line))
}

/// What is shown.
struct Wanted {
    level: Option<Level>,
    /// A group, and the runs that turned out to be its.
    group: Option<(String, BTreeSet<String>)>,
}

impl Wanted {
    /// Whether a line is. It begins with time and level; what is about a group names it, or one of
    /// its runs, or a container of it.
    fn takes(&mut self, line: &str) -> bool {
        let level = line.split(' ').nth(1).and_then(|word| word.parse::<Level>().ok());
        let Some((group, runs)) = &mut self.group else { return self.reaches(level) };
        let value = |key: &str| {
            let mut words = line.split(' ');
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let run = value("run");
        let names_group = value("group") == Some(group.as_str())
            || value("container")
                .and_then(|name| name.strip_prefix("rust-claw-"))
                .and_then(|rest| rest.rsplitn(3, '-').nth(2))
                == Some(group.as_str());
        if names_group && let Some(run) = run {
            runs.insert(run.to_owned());
        }
        // A number is used again by no other group.
        let is_about = names_group || run.is_some_and(|run| runs.contains(run));
        is_about && self.reaches(level)
    }

    fn reaches(&self, level: Option<Level>) -> bool {
        self.level.is_none_or(|least| level.is_some_and(|level| level <= least))
    }
}

struct Log {
    lines: BufReader<File>,
    inode: u64,
}

fn open(path: &Path) -> Result<Option<Log>, Error> {
    match File::open(path) {
        Ok(file) => {
            let inode = file.metadata()?.ino();
            Ok(Some(Log { lines: BufReader::new(file), inode }))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let path = shown(&out::path(path));
            Err(Error::Refused(format!("cannot read {path}: {error}")))
        }
    }
}

/// The next line that is whole; one that is being written stays for the next look.
fn next(lines: &mut BufReader<File>) -> Result<Option<String>, Error> {
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        lines.seek_relative(-i64::try_from(line.len()).unwrap_or(0))?;
        return Ok(None);
    }
    line.pop();
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// Until a signal, or until nobody reads.
fn follow(path: &Path, mut reader: Option<Log>, wanted: &mut Wanted) -> Result<(), Error> {
    let stop = super::run::signals()?;
    loop {
        if let Some(log) = &mut reader {
            while let Some(line) = next(&mut log.lines)? {
                if wanted.takes(&line) {
                    print(&line)?;
                }
            }
        }
        // Moved aside: what was left in it has been read.
        let newest = std::fs::metadata(path).ok().map(|found| found.ino());
        if newest.is_some() && newest != reader.as_ref().map(|log| log.inode) {
            reader = open(path)?;
            continue;
        }
        match stop.recv_timeout(LOOK_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_by_level_and_group() {
        let check = |level: Option<Level>, group: Option<&str>, expected: &[usize]| {
            let group = group.map(|group| (group.to_owned(), BTreeSet::new()));
            let mut wanted = Wanted { level, group };
            let lines = [
                "2026-01-01T00:00:00.000+00:00 info ready pid=1",
                "2026-01-01T00:00:00.000+00:00 info run=7 group=a-b container=x started",
                "2026-01-01T00:00:00.000+00:00 warn run=7 slow",
                "2026-01-01T00:00:00.000+00:00 error run=8 group=a failed",
                "2026-01-01T00:00:00.000+00:00 warn container=rust-claw-a-b-01cd8e-7 left",
                "no log line",
            ];
            let taken: Vec<usize> = lines
                .iter()
                .enumerate()
                .filter(|(_, line)| wanted.takes(line))
                .map(|(n, _)| n)
                .collect();
            assert_eq!(expected, taken, "{level:?} {:?}", wanted.group);
        };
        check(None, None, &[0, 1, 2, 3, 4, 5]);
        check(Some(Level::Warn), None, &[2, 3, 4]);
        check(None, Some("a-b"), &[1, 2, 4]);
        check(Some(Level::Error), Some("a"), &[3]);
        check(None, Some("b"), &[]);
    }
}
