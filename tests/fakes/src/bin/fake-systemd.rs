//! Stands in for `systemctl` and `loginctl` of a user.
//!
//! Its state is the folder in `FAKE_SYSTEMD_STATE`: `calls` gets every call as a line, `linger` is
//! there while the user lingers, `down` while no manager answers.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> io::Result<ExitCode> {
    let mut args = std::env::args();
    let called_as = PathBuf::from(args.next().unwrap_or_default());
    let program = called_as.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let state = PathBuf::from(std::env::var_os("FAKE_SYSTEMD_STATE").unwrap_or_default());
    let args: Vec<String> = args.collect();
    let mut calls = OpenOptions::new().create(true).append(true).open(state.join("calls"))?;
    calls.write_all(format!("{program} {}\n", args.join(" ")).as_bytes())?;
    if state.join("down").exists() {
        writeln!(io::stderr(), "Failed to connect to bus: No medium found")?;
        return Ok(ExitCode::FAILURE);
    }
    let linger = state.join("linger");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match (program.as_str(), args.as_slice()) {
        ("loginctl", ["show-user", ..]) => {
            let word = if linger.exists() { "yes" } else { "no" };
            writeln!(io::stdout(), "Linger={word}")?;
        }
        ("loginctl", ["enable-linger"]) => fs::write(linger, "")?,
        ("systemctl", ["--user", ..]) => {}
        _ => return Ok(ExitCode::from(2)),
    }
    Ok(ExitCode::SUCCESS)
}
