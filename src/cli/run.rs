//! `run`: the daemon.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Error;
use crate::config::Settings;
use crate::daemon::{Daemon, Duty, Fatal};
use crate::home::{Home, Purpose};
use crate::limits::LOG_BYTES_MAX;

/// Serve until told to stop (SIGTERM, SIGINT). Exit code: 75 when another daemon serves the home
/// folder, 78 when the settings or the database cannot be used.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "run")]
pub(super) struct RunCommand {}

/// Serves.
///
/// # Errors
/// Whatever keeps the daemon from starting or going on.
pub(super) fn run(home: &Home) -> Result<(), Error> {
    let settings = super::settings(home)?;
    home.create()?;
    let lock = home.lock(Purpose::Daemon)?;
    log_to(Log::open(home, true)?, &settings);
    let stop = signals()?;
    let daemon = Daemon::start(home, settings, lock, Duty::All)?;
    log::info!("ready pid={} home={}", std::process::id(), home.root().display());
    daemon.serve(&stop)?;
    log::info!("stopped");
    Ok(())
}

/// Says a word for each signal that asks to stop.
///
/// # Errors
/// The operating system's refusal.
pub(super) fn signals() -> Result<Receiver<()>, Error> {
    let refused = |source| Fatal::System { doing: "catch signals", source };
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(refused)?;
    let (to, stop) = bounded(2);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                if to.try_send(()).is_err() {
                    // Two wait already, and a third says nothing new.
                    log::debug!("a further signal");
                }
            }
        })
        .map_err(refused)?;
    Ok(stop)
}

/// Sends the log of a daemon inside `chat` or `ask` to the log file alone.
///
/// # Errors
/// A file that cannot be opened.
pub(super) fn log_to_file(home: &Home, settings: &Settings) -> Result<(), Error> {
    log_to(Log::open(home, false)?, settings);
    Ok(())
}

fn log_to(log: Log, settings: &Settings) {
    let mut builder = env_logger::Builder::new();
    builder
        .filter_level(log::LevelFilter::Warn)
        .filter_module("rust_claw", settings.log_level)
        .format(|out, record| {
            let now = chrono::Local::now().format("%Y-%m-%dT%H:%M:%S%.3f%:z");
            let level = record.level().as_str().to_ascii_lowercase();
            // One event, one line: a text of others must not forge a second.
            let text: String = record
                .args()
                .to_string()
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            writeln!(out, "{now} {level} {text}")
        })
        .target(env_logger::Target::Pipe(Box::new(log)));
    if builder.try_init().is_err() {
        log::debug!("the log is set up already");
    }
}

/// The log file, moved aside when it is full, and stderr beside it where a service manager reads.
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    to_stderr: bool,
}

impl Log {
    fn open(home: &Home, to_stderr: bool) -> Result<Log, Error> {
        let path = home.log_file();
        let file = open_log(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Log { path, file, bytes, to_stderr })
    }
}

fn open_log(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.to_stderr {
            // The file is the log; stderr is a courtesy that may be closed.
            io::stderr().write_all(bytes).ok();
        }
        if LOG_BYTES_MAX < self.bytes {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = open_log(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
