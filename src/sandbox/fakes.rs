//! What the tests of this module share: a spec, and an engine that is a stand-in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rust_claw_protocol::Input;

use super::engine::Engine;
use super::run_log::RunLog;
use super::running::{Ended, Running, SandboxEvent};
use super::spec::{Limits, Mount, Network, RuntimeChoice, RuntimeKind, SandboxSpec};
use crate::ids::GroupFolder;

/// After this a test has failed.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// A plain sandbox of the main group.
pub(super) fn spec() -> SandboxSpec {
    let mount = |host: &str, inside: &str, writable| Mount {
        host: host.into(),
        inside: inside.into(),
        writable,
    };
    SandboxSpec {
        name: "rust-claw-main-7".into(),
        home_label: "0123456789abcdef".into(),
        folder: GroupFolder::main(),
        mounts: vec![
            mount("/home/u/g", "/workspace/group", true),
            mount("/home/u/g/logs", "/workspace/group/logs", false),
        ],
        env: vec![("TZ".into(), "Europe/Berlin".into())],
        limits: Limits::default(),
        network: Network::Full,
        image: "rust-claw-agent:latest".into(),
        program: "/usr/bin/true".into(),
        claude: None,
        identity: None,
    }
}

/// A stand-in from `tests/fakes`, built if it is not there.
pub(super) fn fake(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let program = test
        .parent()
        .and_then(Path::parent)
        .expect("tests are two folders below the profile's")
        .join(name);
    if !program.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--package", "rust-claw-fakes", "--bins"])
            .status()
            .expect("cargo builds the stand-ins");
        assert!(built.success());
    }
    program
}

/// A stand-in for docker with a state of its own, and a home with one group.
pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) engine: Engine,
    pub(super) spec: SandboxSpec,
}

impl World {
    /// `mode`: what the stand-in is to do wrong.
    pub(super) fn new(mode: &str) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        symlink(fake("fake-engine"), at("docker")).expect("a new link");
        fs::write(at("mode"), mode).expect("a new file");
        let mut spec = spec();
        spec.mounts.clear();
        for name in ["group", "ipc", "ipc/input", "logs"] {
            fs::create_dir(at(name)).expect("a new folder");
        }
        for name in ["group", "ipc"] {
            let inside = format!("/workspace/{name}").into();
            spec.mounts.push(Mount { host: at(name), inside, writable: true });
        }
        spec.program = fake("fake-agent");
        let choice = RuntimeChoice::One(RuntimeKind::Docker);
        let engine = Engine::detect(choice, Some(&at("docker"))).expect("the stand-in answers");
        fs::remove_file(at("calls")).expect("the stand-in noted the probe");
        World { folder, engine, spec }
    }

    /// Starts the stand-in for an agent with `prompt`.
    pub(super) fn spawn(&self, prompt: &str) -> Running {
        self.spawn_limited(prompt, 10 * 1024 * 1024)
    }

    pub(super) fn spawn_limited(&self, prompt: &str, output_bytes_max: u64) -> Running {
        let input = Input { prompt: prompt.into(), ..Input::default() };
        let input = serde_json::to_vec(&input).expect("an input serialises");
        self.engine
            .spawn(&self.spec, input, &self.log(), output_bytes_max, || ())
            .expect("it starts")
    }

    /// A new log.
    pub(super) fn log(&self) -> RunLog {
        RunLog::new(self.path("logs"))
    }

    /// What is in the one log.
    pub(super) fn logged(&self) -> String {
        let mut logs = fs::read_dir(self.path("logs")).expect("a folder");
        let log = logs.next().expect("there is one").expect("it can be read");
        fs::read_to_string(log.path()).expect("text")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the engine was asked, but for `run`, one call a line.
    pub(super) fn calls(&self) -> String {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls
            .lines()
            .filter(|line| !line.starts_with("run "))
            .map(|line| line.to_owned() + "\n")
            .collect()
    }
}

/// The next event that is not just a sign of life.
pub(super) fn next(running: &Running) -> SandboxEvent {
    loop {
        match running.events.recv_timeout(DEADLINE).expect("an event before the deadline") {
            SandboxEvent::Activity => {}
            event => return event,
        }
    }
}

/// The text of the next frame.
pub(super) fn answer(running: &Running) -> String {
    match next(running) {
        SandboxEvent::Frame { output, .. } => output.result.unwrap_or_default(),
        other => panic!("no frame but {other:?}"),
    }
}

/// How it ends, whatever it says before.
pub(super) fn end(running: &Running) -> Ended {
    loop {
        if let SandboxEvent::Exited(ended) = next(running) {
            return ended;
        }
    }
}
