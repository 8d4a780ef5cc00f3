//! A sandbox with a runner in it, and what a host does with it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use rust_claw_protocol::{FollowUp, Input, OUTPUT_END, OUTPUT_START, Output, Status, inside};

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The folders of one group, and what its sandbox is started with.
pub(crate) struct Group {
    pub(crate) folder: tempfile::TempDir,
    env: Vec<(String, String)>,
    binds: Vec<(PathBuf, String)>,
    has_network: bool,
}

impl Group {
    /// Empty folders, for engine `engine`.
    pub(crate) fn new(engine: &str) -> Group {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for sub in ["group", "global", "ipc/input", "extra", "claude", "proxy"] {
            fs::create_dir_all(folder.path().join(sub)).expect("makes a folder");
        }
        Group { folder, env: Vec::new(), binds: Vec::new(), has_network: true }
            .env("CLAW_ENGINE", engine)
    }

    /// Empty folders, for the real CLI.
    pub(crate) fn with_claude() -> Group {
        let path = std::env::var_os("CLAW_TEST_CLAUDE")
            .expect("CLAW_TEST_CLAUDE must be the path of the Claude Code CLI's program");
        Group::new("claude").bind(Path::new(&path), "/opt/claude").env("CLAW_CLAUDE", "/opt/claude")
    }

    /// Takes the network away.
    pub(crate) fn without_network(mut self) -> Group {
        self.has_network = false;
        self
    }

    /// Adds a variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Group {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Mounts `from` read-only at `to`.
    pub(crate) fn bind(mut self, from: &Path, to: &str) -> Group {
        self.binds.push((from.to_owned(), to.to_owned()));
        self
    }

    /// Path outside of something in the group's folders.
    pub(crate) fn path(&self, sub: &str) -> PathBuf {
        self.folder.path().join(sub)
    }

    /// Starts a runner on `input`.
    pub(crate) fn run(&self, input: &Input) -> Run {
        let mut command = Command::new("bwrap");
        command.args(["--unshare-user", "--uid", "1000", "--gid", "1000", "--unshare-pid"]);
        command.args(["--die-with-parent", "--new-session", "--clearenv"]);
        if !self.has_network {
            command.arg("--unshare-net");
        }
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
        command.args(["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"]);
        for name in ["bin", "lib", "lib64", "sbin"] {
            command.args(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
        }
        command.args(["--ro-bind", env!("CARGO_BIN_EXE_claw-agent-runner"), "/opt/runner"]);
        for (sub, to) in [
            ("group", inside::GROUP),
            ("global", inside::GLOBAL),
            ("ipc", inside::IPC),
            ("extra", inside::EXTRA),
            ("claude", inside::CLAUDE_CONFIG),
            ("proxy", inside::PROXY_DIR),
        ] {
            command.arg("--bind").arg(self.path(sub)).arg(to);
        }
        for (from, to) in &self.binds {
            command.arg("--ro-bind").arg(from).arg(to);
        }
        command.args(["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", inside::HOME]);
        for (name, value) in &self.env {
            command.args(["--setenv", name, value]);
        }
        command.args(["--chdir", inside::GROUP, "--", "/opt/runner"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("bubblewrap (`bwrap`) is installed");
        let json = serde_json::to_vec(input).expect("serialises");
        let mut stdin = child.stdin.take().expect("was asked for");
        stdin.write_all(&json).expect("the runner reads its input");
        drop(stdin);
        let (sender, frames) = unbounded();
        let stdout = BufReader::new(child.stdout.take().expect("was asked for"));
        std::thread::spawn(move || {
            let mut lines = stdout.lines().map_while(Result::ok);
            while let Some(start) = lines.next() {
                assert_eq!(OUTPUT_START, start);
                let json = lines.next().expect("a frame has three lines");
                assert_eq!(Some(OUTPUT_END), lines.next().as_deref());
                let frame: Output = serde_json::from_str(&json).expect("a frame is JSON");
                if sender.send(frame).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("was asked for");
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("notes are UTF-8");
            text
        });
        Run { child, frames, stderr: Some(stderr), input: self.path("ipc/input") }
    }

    /// Lays a follow-up into the input folder as the host does.
    pub(crate) fn follow_up(&self, name: &str, text: &str) {
        write_follow_up(&self.path("ipc/input"), name, text);
    }

    /// Asks the runner to finish.
    pub(crate) fn close(&self) {
        fs::write(self.path("ipc/input/_close"), "").expect("writes");
    }

    /// Names of the files in the input folder, sorted.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("ipc/input")).expect("lists");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn write_follow_up(folder: &Path, name: &str, text: &str) {
    let message = FollowUp::Message { text: text.to_owned() };
    let json = serde_json::to_vec(&message).expect("serialises");
    let temporary = folder.join(format!(".{name}.tmp"));
    fs::write(&temporary, json).expect("writes");
    fs::rename(temporary, folder.join(name)).expect("renames");
}

/// Input with `prompt` for a group that is not main.
pub(crate) fn input(prompt: &str) -> Input {
    Input {
        prompt: prompt.to_owned(),
        group_folder: "family".to_owned(),
        chat_jid: "1@g.us".to_owned(),
        ..Input::default()
    }
}

/// A runner at work.
pub(crate) struct Run {
    child: Child,
    frames: Receiver<Output>,
    stderr: Option<std::thread::JoinHandle<String>>,
    input: PathBuf,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Frames that nobody has taken.
    pub(crate) frames: Vec<Output>,
    pub(crate) stderr: String,
}

impl Run {
    /// The next frame.
    pub(crate) fn frame(&mut self) -> Output {
        match self.frames.recv_timeout(PATIENCE) {
            Ok(frame) => frame,
            Err(error) => panic!("no frame ({error}); stderr: {}", self.kill()),
        }
    }

    /// The next frame that ends a turn, which must be a success.
    pub(crate) fn answer(&mut self) -> Output {
        loop {
            let frame = self.frame();
            if frame.turn_end == Some(true) {
                assert_eq!(Status::Success, frame.status, "{frame:?}");
                return frame;
            }
        }
    }

    /// The next frame that ends a turn, which must be an error.
    pub(crate) fn failure(&mut self) -> Output {
        loop {
            let frame = self.frame();
            if frame.turn_end == Some(true) {
                assert_eq!((Status::Error, None), (frame.status, frame.result.clone()));
                return frame;
            }
        }
    }

    /// Waits until follow-up `name` has been taken.
    pub(crate) fn wait_taken(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.input.join(name).exists() {
            assert!(Instant::now() < deadline, "`{name}` was not taken");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends SIGTERM to the runner itself, as an engine's `stop` does.
    pub(crate) fn terminate(&self) {
        // bwrap's child is an init of its own, which passes nothing on: the runner is its child.
        let runner = self.descendant("/opt/runner");
        let pid = rustix::process::Pid::from_raw(runner).expect("a pid is positive");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    }

    /// Pid outside of the process in the sandbox whose command line starts with `program`.
    pub(crate) fn descendant(&self, program: &str) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut pids = vec![i32::try_from(self.child.id()).expect("pids are small")];
            while let Some(pid) = pids.pop() {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                if command.starts_with(program.as_bytes()) {
                    return pid;
                }
                let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
                pids.extend(
                    children.unwrap_or_default().split(' ').filter_map(|p| p.parse::<i32>().ok()),
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no `{program}` in the sandbox");
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < deadline, "no end in time; stderr: {}", self.kill());
            std::thread::sleep(Duration::from_millis(5));
        };
        let stderr = self.stderr.take().expect("taken once").join().expect("the reader lives");
        Ended { status, frames: self.frames.iter().collect(), stderr }
    }

    fn kill(&mut self) -> String {
        self.child.kill().expect("it is our child");
        let stderr = self.stderr.take().expect("taken once");
        stderr.join().expect("the reader lives")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.child.kill().is_err() || self.child.wait().is_err() {
            // It has ended already.
        }
    }
}
