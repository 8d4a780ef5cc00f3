//! `install-service`, `uninstall-service`: the daemon comes back by itself.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::{Error, out};
use crate::home::Home;
use crate::sandbox::{ask, find_program};
use crate::service::{Manager, Service};

/// Let the daemon start by itself, and go on when you log out. Safe to run again; after an update
/// or a change of PATH it writes the service anew.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "install-service")]
pub(super) struct InstallCommand {
    /// write it, and start nothing now
    #[argh(switch)]
    no_start: bool,
}

/// Take the service away again; the home folder stays.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "uninstall-service")]
pub(super) struct UninstallCommand {}

/// How long the service manager may take; a stop of the daemon takes up to a minute and a half.
const MANAGER_MAX: Duration = Duration::from_mins(2);

impl InstallCommand {
    /// # Errors
    /// A file that cannot be written. What the service manager does not do is said, with the
    /// command to type.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        home.create()?;
        // What would keep the daemon from starting is said now, not in a log.
        super::settings(home)?;
        let service = here(home)?;
        let failed = |error: io::Error| {
            Error::Refused(format!("cannot write {}: {error}", out::path(&service.file)))
        };
        let is_new = write(&service.file, &service.text).map_err(failed)?;
        if let Some(link) = &service.link {
            enable(link, &service.file).map_err(failed)?;
        }
        let file = out::path(&service.file);
        if is_new {
            out::line(&format!("wrote {file}:"))?;
            for line in service.text.lines() {
                out::line(format!("    {line}").trim_end())?;
            }
        } else {
            out::line(&format!("{file} is there as it has to be"))?;
        }
        let name = service.name.as_str();
        let target = format!("gui/{}", rustix::process::geteuid().as_raw());
        let plist = service.file.display().to_string();
        match Manager::HERE {
            Manager::Systemd => {
                run("systemctl", &["--user", "daemon-reload"])?;
                run("loginctl", &["enable-linger"])?;
                if !self.no_start {
                    run("systemctl", &["--user", "restart", name])?;
                }
            }
            Manager::Launchd if !self.no_start => {
                // One that was loaded before is another text.
                attempt("launchctl", &["bootout", &format!("{target}/{name}")]).ok();
                run("launchctl", &["bootstrap", &target, &plist])?;
            }
            Manager::Launchd => {}
        }
        let undo = crate::doctor::own_command(home, "uninstall-service");
        out::line(&format!("to undo it: {undo}"))
    }
}

/// Stops the service and removes its files.
///
/// # Errors
/// A file that cannot be removed.
pub(super) fn uninstall(home: &Home) -> Result<(), Error> {
    let service = here(home)?;
    if !service.file.exists() {
        return out::line(&format!("no service is installed: no {}", out::path(&service.file)));
    }
    match Manager::HERE {
        Manager::Systemd => run("systemctl", &["--user", "stop", &service.name])?,
        Manager::Launchd => {
            let user = rustix::process::geteuid().as_raw();
            run("launchctl", &["bootout", &format!("gui/{user}/{}", service.name)])?;
        }
    }
    for path in service.link.iter().chain([&service.file]) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let path = out::path(path);
                return Err(Error::Refused(format!("cannot remove {path}: {error}")));
            }
            _ => {}
        }
    }
    if Manager::HERE == Manager::Systemd {
        run("systemctl", &["--user", "daemon-reload"])?;
    }
    out::line(&format!("removed {}", out::path(&service.file)))?;
    out::line("lingering stays as it is, for your other services: `loginctl disable-linger`")
}

fn here(home: &Home) -> Result<Service, Error> {
    Service::here(home).map_err(|why| Error::Refused(why.to_owned()))
}

/// Tells whether anything had to be written.
fn write(file: &Path, text: &str) -> io::Result<bool> {
    if fs::read_to_string(file).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = file.with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, file)?;
    Ok(true)
}

/// What `systemctl --user enable` does, and works without a running manager too.
fn enable(link: &Path, file: &Path) -> io::Result<()> {
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => symlink(file, link),
    }
}

/// Runs a command of the service manager and says how it went.
fn run(program: &str, arguments: &[&str]) -> Result<(), Error> {
    let line = format!("{program} {}", arguments.join(" "));
    match attempt(program, arguments) {
        Ok(()) => out::line(&format!("done: {line}")),
        Err(why) => out::line(&format!("not done: {line} ({})", out::harmless(&why))),
    }
}

fn attempt(program: &str, arguments: &[&str]) -> Result<(), String> {
    let found = find_program(program).ok_or_else(|| "there is no such program".to_owned())?;
    let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
    let answer = ask(&found, &arguments, MANAGER_MAX).map_err(|error| error.to_string())?;
    if answer.is_ok { Ok(()) } else { Err(answer.complaint) }
}
