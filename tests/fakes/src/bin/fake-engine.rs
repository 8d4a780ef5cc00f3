//! Stands in for docker's command line.
//!
//! Its state is the folder in `FAKE_ENGINE_STATE`, else the folder of the path under which it was
//! called (a link named `docker` in a test's own folder): `calls` gets every call as a line,
//! `mode` says in words what goes wrong, `containers/` holds what runs. A container is the program
//! `FAKE_AGENT`, else `fake-agent` beside this one, as a process group of its own: like a real one
//! it survives its client.
//!
//! Modes: `not-ready`, `hang` (no command is answered), `image-missing`, `old-runner`, `deaf` (the
//! container ignores SIGTERM), `client-deaf` (the client stays after its container ended),
//! `kept` (no automatic removal), `unread` (the container never reads its standard input),
//! `rm-fails-once`, `rm-fails`, `stop-fails`, `unshared` (the agent's files do not reach the host).
//! `build` mends `image-missing` and `old-runner`, but not with `build-fails`.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

const TICK: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    let mut args = std::env::args();
    let called_as = PathBuf::from(args.next().unwrap_or_default());
    let args: Vec<String> = args.collect();
    let state = std::env::var_os("FAKE_ENGINE_STATE")
        .map(PathBuf::from)
        .or_else(|| called_as.parent().map(Path::to_owned))
        .unwrap_or_default();
    let engine = Engine { mode: read(&state.join("mode")), state };
    match engine.call(&args) {
        Ok(code) => code,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(125)
        }
    }
}

struct Engine {
    state: PathBuf,
    mode: String,
}

impl Engine {
    fn is(&self, mode: &str) -> bool {
        self.mode.split_whitespace().any(|word| word == mode)
    }

    fn call(&self, args: &[String]) -> io::Result<ExitCode> {
        let mut calls = OpenOptions::new().create(true).append(true).open(self.path("calls"))?;
        calls.write_all(format!("{}\n", args.join(" ")).as_bytes())?;
        if self.is("hang") {
            loop {
                thread::park();
            }
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        if self.is("not-ready") {
            complain("Cannot connect to the Docker daemon. Is the docker daemon running?");
            return Ok(ExitCode::from(if args[0] == "run" { 125 } else { 1 }));
        }
        match *args.as_slice() {
            ["info", ..] => say("28.0.0|2|[name=seccomp,profile=builtin name=cgroupns]"),
            ["version", ..] => say("28.0.0"),
            ["image", "inspect", ..] if self.is("image-missing") => {
                complain("Error: No such image");
                Ok(ExitCode::from(1))
            }
            ["image", "inspect", ..] if self.is("old-runner") => say("0.0.1"),
            ["image", "inspect", ..] => say(rust_claw_protocol::RUNNER_VERSION),
            ["build", ..] if self.is("build-fails") => {
                complain("ERROR: failed to solve");
                Ok(ExitCode::from(1))
            }
            ["build", ..] => {
                fs::write(self.path("mode"), "")?;
                say("built")
            }
            ["ps", ref options @ ..] => self.ps(options),
            ["stop", "-t", seconds, name] => self.stop(seconds, name),
            ["rm", "--force", name] => self.rm(name),
            ["run", ref options @ ..] => self.run(options),
            _ => {
                complain("unknown command");
                Ok(ExitCode::from(125))
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    fn container(&self, name: &str) -> PathBuf {
        self.path("containers").join(name)
    }

    /// The process group of a container.
    fn group(&self, name: &str) -> Option<Pid> {
        Pid::from_raw(read(&self.container(name)).split_whitespace().next()?.parse().ok()?)
    }

    fn ps(&self, options: &[&str]) -> io::Result<ExitCode> {
        let label = options.iter().find_map(|option| option.strip_prefix("label="));
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path("containers")).into_iter().flatten() {
            let entry = entry?;
            let labels = read(&entry.path());
            if label.is_none_or(|label| labels.split_whitespace().any(|word| word == label)) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        say(&names.join("\n"))
    }

    fn stop(&self, seconds: &str, name: &str) -> io::Result<ExitCode> {
        let Some(group) = self.group(name) else {
            complain("Error: No such container");
            return Ok(ExitCode::from(1));
        };
        if self.is("stop-fails") {
            complain("Error: cannot stop container");
            return Ok(ExitCode::from(1));
        }
        signal(group, Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(seconds.parse().unwrap_or(10));
        while is_alive(group) && Instant::now() < deadline {
            thread::sleep(TICK);
        }
        signal(group, Signal::KILL);
        while is_alive(group) {
            thread::sleep(TICK);
        }
        say(name)
    }

    fn rm(&self, name: &str) -> io::Result<ExitCode> {
        let failed_before = self.path("rm-failed");
        if self.is("rm-fails") || (self.is("rm-fails-once") && !failed_before.exists()) {
            fs::write(failed_before, "")?;
            complain("Error: driver failed to remove root filesystem: device or resource busy");
            return Ok(ExitCode::from(1));
        }
        if let Some(group) = self.group(name) {
            signal(group, Signal::KILL);
        }
        fs::remove_file(self.container(name))?;
        say(name)
    }

    fn run(&self, options: &[&str]) -> io::Result<ExitCode> {
        if self.is("image-missing") {
            complain("docker: Error response from daemon: No such image");
            return Ok(ExitCode::from(125));
        }
        let (mut name, mut labels, mut env) = ("", Vec::new(), Vec::new());
        let mut mounts = HashMap::new();
        for pair in options.windows(2) {
            match *pair {
                ["--name", value] => name = value,
                ["--label", value] => labels.push(value),
                ["--env", value] => env.extend(value.split_once('=')),
                ["--mount", value] => {
                    let part = |key| value.split(',').find_map(|part| part.strip_prefix(key));
                    if let (Some(host), Some(inside)) = (part("src="), part("dst=")) {
                        mounts.insert(inside, host);
                    }
                }
                _ => {}
            }
        }
        fs::create_dir_all(self.path("containers"))?;
        let container = self.container(name);
        if container.exists() {
            complain("docker: Error response from daemon: Conflict. The name is already in use");
            return Ok(ExitCode::from(125));
        }
        let mut command = self.agent();
        command.env_clear().envs(env).process_group(0);
        // Nothing is mounted here, so the agent is told where things are instead.
        if let Some(ipc) = mounts.get("/workspace/ipc") {
            command.env("FAKE_IPC", ipc);
        }
        if self.is("unshared") {
            fs::create_dir_all(self.path("unshared"))?;
            command.env("FAKE_GROUP", self.path("unshared"));
        } else if let Some(group) = mounts.get("/workspace/group") {
            command.env("FAKE_GROUP", group);
        }
        let mut agent = command.stdin(Stdio::piped()).spawn()?;
        fs::write(&container, format!("{} {}", agent.id(), labels.join(" ")))?;
        if let Some(mut stdin) = agent.stdin.take()
            && let Err(error) = io::copy(&mut io::stdin(), &mut stdin)
        {
            // The agent ended without reading it all.
            complain(&error.to_string());
        }
        let status = agent.wait()?;
        if !self.is("kept") {
            match fs::remove_file(&container) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        while self.is("client-deaf") {
            thread::park();
        }
        // As docker does: 128 + signal.
        Ok(ExitCode::from(status.code().map_or(137, |code| code.to_le_bytes()[0])))
    }

    fn agent(&self) -> Command {
        let beside = || std::env::current_exe().map(|own| own.with_file_name("fake-agent"));
        let program = std::env::var_os("FAKE_AGENT")
            .map_or_else(|| beside().unwrap_or_default(), PathBuf::from);
        if self.is("unread") {
            let mut sleep = Command::new("sleep");
            sleep.arg("60");
            return sleep;
        }
        if self.is("deaf") {
            // What is ignored stays ignored over exec.
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "trap '' TERM; exec \"$0\""]).arg(program);
            return shell;
        }
        Command::new(program)
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn is_alive(group: Pid) -> bool {
    test_kill_process_group(group).is_ok()
}

fn signal(group: Pid, signal: Signal) {
    if kill_process_group(group, signal).is_err() {
        // It ended before.
    }
}

fn say(text: &str) -> io::Result<ExitCode> {
    writeln!(io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

fn complain(text: &str) {
    if writeln!(io::stderr(), "{text}").is_err() {
        // Nobody listens.
    }
}
