//! A home folder of one test, with the engine that its sandboxes are made with.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::{Daemon, Done, part, program, run};

/// What sandboxes are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `tests/fakes`: an engine that is a folder, an agent that echoes.
    Fake,
    Bwrap,
    /// As a user that is not root: the kernel exempts root from its bound of processes.
    BwrapUser,
    Docker,
    Podman,
    /// Podman of a user that is not root.
    Rootless,
}

/// A home of its own; everything in it goes with it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    kind: Kind,
    /// `rust-claw`.
    program: PathBuf,
    env: Vec<(String, String)>,
}

impl Home {
    /// A home whose sandboxes are made by the stand-in.
    pub(crate) fn new() -> Home {
        Home::with(Kind::Fake)
    }

    pub(crate) fn with(kind: Kind) -> Home {
        // Short, since there will be a socket in it. In /tmp, which other users can reach too.
        let folder = tempfile::Builder::new().prefix("rc").tempdir_in("/tmp").expect("a folder");
        let mut home = Home { folder, kind, program: program("rust-claw"), env: Vec::new() };
        for name in ["user", "engine"] {
            fs::create_dir(home.path(name)).expect("a folder");
        }
        symlink(program("fake-engine"), home.path("engine/docker")).expect("a link");
        program("fake-agent");
        let runtime = match kind {
            Kind::Bwrap | Kind::BwrapUser => "bwrap",
            Kind::Fake | Kind::Docker => "docker",
            Kind::Podman | Kind::Rootless => "podman",
        };
        home.set("CONTAINER_RUNTIME", runtime);
        let image = || part("CLAW_TEST_IMAGE");
        match kind {
            Kind::Fake => {
                let cli = home.path("engine/docker").display().to_string();
                home.set("CONTAINER_CLI", &cli);
            }
            Kind::Bwrap | Kind::BwrapUser => {
                part("CLAW_TEST_BWRAP");
                home.set("RUNNER", &program("claw-agent-runner").display().to_string());
            }
            Kind::Docker => {
                part("CLAW_TEST_DOCKER");
                home.set("CONTAINER_IMAGE", &image());
            }
            Kind::Podman => {
                part("CLAW_TEST_PODMAN");
                home.set("CONTAINER_IMAGE", &image());
            }
            Kind::Rootless => {
                home.set("CONTAINER_IMAGE", &image());
            }
        }
        home.own();
        home
    }

    /// Gives all that is there to the user that the home is of, if that is not us.
    pub(crate) fn own(&self) {
        if matches!(self.kind, Kind::Rootless | Kind::BwrapUser) {
            let mut chown = Command::new("chown");
            chown.args(["-R", &part("CLAW_TEST_ROOTLESS_USER")]).arg(self.folder.path());
            run(chown, b"").ok();
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The same with a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Home {
        self.set(name, value);
        self
    }

    /// Sets a variable of the environment of all that starts from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Runs another build of the program from now on.
    pub(crate) fn use_program(&mut self, path: &str) {
        self.program = PathBuf::from(path);
    }

    /// Unsets one again.
    pub(crate) fn unset(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// Something beside the home folder: `home` itself, `engine/…`, `user/…`.
    pub(crate) fn path(&self, sub: &str) -> PathBuf {
        self.folder.path().join(sub)
    }

    /// Something in the home folder.
    pub(crate) fn at(&self, sub: &str) -> PathBuf {
        self.path("home").join(sub)
    }

    /// Writes the file `.env`.
    pub(crate) fn write_env(&self, text: &str) {
        fs::create_dir_all(self.path("home")).expect("a folder");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(self.path("home"), mode).expect("it is ours");
        fs::write(self.at(".env"), text).expect("a file");
    }

    /// `rust-claw --home … ARGS`, in an environment of which nothing is inherited.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let rust_claw = &self.program;
        let mut command = if self.kind == Kind::Rootless {
            let mut command = Command::new("runuser");
            let user = part("CLAW_TEST_ROOTLESS_USER");
            command.args(["-u", &user, "--"]).arg(rust_claw);
            command
        } else if self.kind == Kind::BwrapUser {
            let user = part("CLAW_TEST_ROOTLESS_USER");
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &user, "--regid", &user, "--init-groups", "--"]);
            command.arg(rust_claw);
            command
        } else {
            Command::new(rust_claw)
        };
        command.arg("--home").arg(self.path("home")).args(args);
        self.surround(&mut command);
        if self.kind == Kind::Rootless {
            // Podman's images are in the user's own home.
            command.env("HOME", format!("/home/{}", part("CLAW_TEST_ROOTLESS_USER")));
        }
        command
    }

    /// Runs a line that a person would type.
    pub(crate) fn shell(&self, line: &str, stdin: &str) -> Done {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]);
        self.surround(&mut command);
        run(command, stdin.as_bytes())
    }

    /// The environment of all that is started here.
    fn surround(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("user")).env("USER", "tester");
        command.env("LANG", "C.UTF-8").current_dir(self.folder.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        run(self.command(args), b"")
    }

    /// Runs a command to its end, with `stdin`.
    pub(crate) fn run_with(&self, args: &[&str], stdin: &str) -> Done {
        run(self.command(args), stdin.as_bytes())
    }

    /// The JSON that a command prints.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(args).ok()).expect("JSON")
    }

    /// The daemon, as soon as it is ready.
    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(self.command(&["run"]))
    }

    /// Registers the chat `script:NAME` with a folder of the same name that answers everything.
    pub(crate) fn register(&self, name: &str) -> String {
        let chat = format!("script:{name}");
        self.run(&["register-group", "--jid", &chat, "--folder", name, "--no-trigger-required"])
            .ok();
        chat
    }

    /// Brings in one message of a chat.
    pub(crate) fn inject(&self, chat: &str, text: &str) {
        self.inject_all(&[(chat, text)]);
    }

    /// Brings in messages, in one go.
    pub(crate) fn inject_all(&self, messages: &[(&str, &str)]) {
        let lines: Vec<String> =
            messages.iter().map(|(chat, text)| line(chat, text).to_string()).collect();
        self.run_with(&["inject"], &lines.join("\n")).ok();
    }

    /// The database, to look at.
    pub(crate) fn database(&self) -> Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let path = self.at("store/messages.db");
        let database = Connection::open_with_flags(path, flags).expect("there is a database");
        database.busy_timeout(super::PATIENCE).expect("a time-out");
        database
    }

    /// The database, to do harm in.
    pub(crate) fn edit(&self, sql: &str) {
        let database = Connection::open(self.at("store/messages.db")).expect("a database");
        database.busy_timeout(super::PATIENCE).expect("a time-out");
        database.execute_batch(sql).expect("SQL");
    }

    /// The first column of what `sql` finds.
    pub(crate) fn texts(&self, sql: &str) -> Vec<String> {
        let database = self.database();
        let mut statement = database.prepare(sql).expect("SQL");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.map(|row| row.expect("a text")).collect()
    }

    /// The one number that `sql` finds.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).expect("a number")
    }

    /// The one number that `sql` finds, if there is a database.
    pub(crate) fn number_if_there(&self, sql: &str) -> Option<i64> {
        self.at("store/messages.db").exists().then(|| self.number(sql))
    }

    /// What was answered in a chat, in order, notices too.
    pub(crate) fn answers(&self, chat: &str) -> Vec<String> {
        self.texts(&format!("SELECT text FROM outbox WHERE jid = '{chat}' ORDER BY id"))
    }

    /// Waits until a chat has exactly `expected`, in order.
    pub(crate) fn wait_answers(&self, chat: &str, expected: &[&str]) {
        super::wait_for(&format!("{} answers in {chat}", expected.len()), || {
            expected.len() <= self.answers(chat).len()
        });
        assert_eq!(expected, self.answers(chat));
    }

    /// Waits until no sandbox lives.
    pub(crate) fn wait_no_runs(&self) {
        super::wait_for("the end of all runs", || {
            self.number("SELECT count(*) FROM runs WHERE state IN ('busy', 'idle')") == 0
        });
    }

    /// Waits until no sandbox works.
    pub(crate) fn wait_no_runs_busy(&self) {
        self.wait_runs("busy", 0);
    }

    /// Waits until `count` sandboxes have the state.
    pub(crate) fn wait_runs(&self, state: &str, count: i64) {
        super::wait_for(&format!("{count} runs that are {state}"), || {
            self.number(&format!("SELECT count(*) FROM runs WHERE state = '{state}'")) == count
        });
    }

    /// What the stand-in for an engine does wrong from now on.
    pub(crate) fn engine_mode(&self, mode: &str) {
        fs::write(self.path("engine/mode"), mode).expect("a file");
    }

    /// What the stand-in for an engine was called with, a call a line.
    pub(crate) fn engine_calls(&self) -> String {
        fs::read_to_string(self.path("engine/calls")).unwrap_or_default()
    }

    /// The containers that live: files of the stand-in for an engine.
    pub(crate) fn containers(&self) -> Vec<PathBuf> {
        entries(&self.path("engine/containers"))
    }

    /// The log of the program.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.at("logs/rust-claw.log")).unwrap_or_default()
    }
}

/// A line of `inject`.
pub(crate) fn line(chat: &str, text: &str) -> Value {
    json!({"chat_jid": chat, "sender": "ada@x", "sender_name": "Ada", "text": text})
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = format!("log:\n{}\nengine:\n{}\n", self.log(), self.engine_calls());
            // Where nobody reads it, the panic's own text has to do.
            std::io::stderr().write_all(told.as_bytes()).ok();
        }
        // Containers outlive their client, also here.
        for container in self.containers() {
            let text = fs::read_to_string(container).unwrap_or_default();
            let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
            if let Some(group) = pid.and_then(Pid::from_raw) {
                // It may have ended just now.
                kill_process_group(group, Signal::KILL).ok();
            }
        }
    }
}

/// Paths of what lies in `folder`, sorted; nothing where there is none.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}
