//! What every test here stands on: a home of its own, the real programs, deadlines.

mod daemon;
mod follower;
mod home;
mod model;
pub(crate) mod nanoclaw;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use daemon::Daemon;
pub(crate) use follower::Follower;
pub(crate) use home::{Home, Kind, entries, line};
pub(crate) use model::{KEY, Model};
pub(crate) use terminal::Terminal;

/// After this a test has failed; a busy machine may take long for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);
/// Between two looks at a condition.
const TICK: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
///
/// # Panics
/// Where it does not hold in time.
pub(crate) fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    wait_longer(Duration::ZERO, what, condition);
}

/// Likewise for what takes `time` where nothing is in its way.
///
/// # Panics
/// Where it does not hold in time.
pub(crate) fn wait_longer(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let patience = time + PATIENCE;
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "did not come in {patience:?}: {what}");
        thread::sleep(TICK);
    }
}

/// A program that was built beside `rust-claw`.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_rust-claw")).with_file_name(name);
    assert!(path.is_file(), "`{}` is not built: run `make test`", path.display());
    path
}

/// A variable that `tests/setup.sh` wrote. A test that needs one carries the part's name in its
/// own, and is left out by `make test` where the part is missing.
pub(crate) fn part(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("`{name}` is not set: run `make test`, or read target/test-tools/env.sh first")
    })
}

/// What a program said until it ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// Exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// The output, of a program that has to succeed.
    pub(crate) fn ok(self) -> String {
        assert_eq!(Some(0), self.code, "{self:?}");
        self.stdout
    }

    /// That it failed with `code`, whatever it said.
    pub(crate) fn refused_somehow(&self, code: i32) {
        assert_eq!(Some(code), self.code, "{self:?}");
    }

    /// That it failed with `code` and one line that holds all of `parts`.
    pub(crate) fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(Some(code), self.code, "{self:?}");
        assert_eq!("", self.stdout, "an error is not what was asked for");
        assert_eq!(1, self.stderr.lines().count(), "one line: {self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing: {self:?}");
        }
    }
}

/// Runs `command` to its end, with `stdin`.
pub(crate) fn run(mut command: Command, stdin: &[u8]) -> Done {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let (input, out) = (child.stdin.take(), child.stdout.take());
    let err = child.stderr.take();
    thread::scope(|scope| {
        let feed = scope.spawn(move || {
            // One that ends without reading is judged by what it says.
            let mut input = input.expect("was asked for");
            std::io::Write::write_all(&mut input, stdin).is_ok()
        });
        let out = scope.spawn(move || read(out.expect("was asked for")));
        let err = scope.spawn(move || read(err.expect("was asked for")));
        let status = end(&mut child);
        feed.join().expect("no panic");
        let (stdout, stderr) = (out.join().expect("no panic"), err.join().expect("no panic"));
        match status {
            Some(status) => Done { code: status.code(), stdout, stderr },
            None => panic!("it did not end; stdout: {stdout}\nstderr: {stderr}"),
        }
    })
}

fn read(mut pipe: impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).expect("a pipe reads");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for the end of a process; `None` where it had to be killed.
pub(crate) fn end(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + 2 * PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Some(status);
        }
        thread::sleep(TICK);
    }
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    None
}
