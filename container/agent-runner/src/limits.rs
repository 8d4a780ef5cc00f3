//! Every limit of the runner, and those that it sets on itself and thus on all its children.

use std::time::Duration;

use rust_claw_protocol::env;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Failed;

/// Input of a run. The host's prompts end at some 100 kB; the rest is room for other hosts.
pub(crate) const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// One follow-up file.
pub(crate) const FOLLOW_UP_BYTES_MAX: u64 = 1024 * 1024;
/// Entries of the input folder that are looked at in one go.
pub(crate) const INBOX_ENTRIES_MAX: usize = 4096;
/// Messages that the engine was given and has not taken yet.
pub(crate) const UNTAKEN_MAX: usize = 64;
/// How often the input folder is looked at where the kernel says nothing: file systems that are
/// shared with a virtual machine pass no events on.
pub(crate) const INBOX_POLL: Duration = Duration::from_millis(100);
/// One line of the CLI; a tool's result with images may be large.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What is kept of the end of a child's standard error.
pub(crate) const STDERR_TAIL_BYTES: usize = 4 * 1024;
/// Text of an error in a frame.
pub(crate) const ERROR_CHARS_MAX: usize = 1000;
/// How long the CLI may repeat a request that the model API refuses (429, 529, no connection).
pub(crate) const RETRY_MAX: Duration = Duration::from_mins(1);
/// From a stop signal to the kill of the CLI; the host kills us after 10 s.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(8);
/// How long the CLI may take to exit when all is answered and its input has ended.
pub(crate) const EXIT_MAX: Duration = Duration::from_secs(8);
/// How long the pipes of a process that has ended may stay open, held by what it left behind.
pub(crate) const DRAIN_MAX: Duration = Duration::from_millis(500);
/// Run time of a task's script.
pub(crate) const SCRIPT_MAX: Duration = Duration::from_secs(30);
/// Output of a task's script.
pub(crate) const SCRIPT_OUTPUT_BYTES_MAX: u64 = 1024 * 1024;
/// Of what a task's script that failed said last, what its error tells.
pub(crate) const SCRIPT_SAID_CHARS_MAX: usize = ERROR_CHARS_MAX / 2;
/// Connections to the credential proxy at a time; the CLI uses a handful.
pub(crate) const RELAY_CONNECTIONS_MAX: usize = 32;
/// Transcript that is read for the archive.
pub(crate) const TRANSCRIPT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Archive that is written.
pub(crate) const ARCHIVE_BYTES_MAX: usize = 1024 * 1024;

/// Sets the limits that `read` finds in the environment on this process and its children.
///
/// # Errors
/// A value that is no number, or that the kernel refuses.
pub(crate) fn apply(read: impl Fn(&str) -> Option<String>) -> Result<(), Failed> {
    set(Resource::Core, 0)?;
    for (name, resource) in
        [(env::PIDS_MAX, Resource::Nproc), (env::OPEN_FILES_MAX, Resource::Nofile)]
    {
        let Some(text) = read(name).filter(|text| !text.is_empty()) else { continue };
        let value = text.parse().map_err(|_| Failed::Unusable {
            what: format!("`{name}` must be a number of processes or files, not `{text}`"),
        })?;
        set(resource, value)?;
    }
    Ok(())
}

/// Lowers a limit; one that is lower already stays.
fn set(resource: Resource, value: u64) -> Result<(), Failed> {
    let hard = getrlimit(resource).maximum.map_or(value, |hard| hard.min(value));
    setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })
        .map_err(|errno| Failed::System { doing: "set the limits", source: errno.into() })
}

const _: () = {
    assert!(STOP_MAX.as_secs() < 10, "the host waits 10 s");
    assert!(EXIT_MAX.as_secs() < 10, "the host waits 10 s");
};
