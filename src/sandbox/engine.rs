//! The program that makes sandboxes on this machine: found, checked, asked to stop and to list.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rust_claw_protocol::RUNNER_VERSION;
use serde_json::Value;

use super::command::{Answer, NoAnswer, SECRETS, ask};
use super::runtime::{self, Host};
use super::spec::{RuntimeChoice, RuntimeKind, SandboxSpec};
use crate::limits;

/// The image says in this label which runner it holds.
const VERSION_LABEL: &str = "rust-claw.runner-version";
/// Builds the image.
const MEND_IMAGE: &str = "rust-claw setup image";
/// Where programs are besides the `PATH`, of which a service manager gives little.
const PROGRAM_FOLDERS: [&str; 5] =
    ["/usr/local/bin", "/usr/bin", "/bin", "/opt/homebrew/bin", "/usr/local/sbin"];

/// Something that is not as it has to be: what, why, and the one command that mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub what: String,
    /// Why, as far as we know.
    pub why: String,
    /// A command to type.
    pub mend: String,
    /// Whether no agent can run before it is mended.
    pub blocks: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; to mend it: {}", self.what, self.why, self.mend)
    }
}

impl std::error::Error for Finding {}

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It does not answer, or refuses. Later it may.
    #[error("{kind} cannot {doing}: {why}")]
    Refused {
        /// Which engine.
        kind: RuntimeKind,
        /// What was asked.
        doing: &'static str,
        /// What it said.
        why: String,
    },
    /// It says that it did it, and did not.
    #[error("container `{name}` is still there")]
    StillThere {
        /// Its name.
        name: String,
    },
}

/// A runtime that answered.
#[derive(Clone, Debug)]
pub struct Engine {
    kind: RuntimeKind,
    cli: PathBuf,
    host: Host,
}

impl Engine {
    /// Finds the runtime of `choice`; of several the first that answers. Takes at most
    /// [`limits::ENGINE_PROBE_MAX`] for each. `cli` overrides the program's path; with
    /// [`RuntimeChoice::Auto`] its name says what it is, and an unknown one is taken for docker.
    ///
    /// # Errors
    /// What keeps the runtime from answering, or all of them.
    pub fn detect(choice: RuntimeChoice, cli: Option<&Path>) -> Result<Engine, Finding> {
        let named = |cli: &Path| {
            let name = cli.file_name()?.to_str()?;
            RuntimeKind::ALL.into_iter().find(|kind| kind.as_str() == name)
        };
        match (choice, cli) {
            (RuntimeChoice::One(kind), cli) => Engine::probe(kind, cli),
            (RuntimeChoice::Auto, Some(cli)) => {
                Engine::probe(named(cli).unwrap_or(RuntimeKind::Docker), Some(cli))
            }
            (RuntimeChoice::Auto, None) => {
                let mut why = Vec::new();
                for kind in RuntimeKind::ALL {
                    match Engine::probe(kind, None) {
                        Ok(engine) => return Ok(engine),
                        Err(finding) => why.push(format!("{kind}: {}", finding.why)),
                    }
                }
                Err(Finding {
                    what: "there is nothing to make sandboxes with".into(),
                    why: why.join(", "),
                    mend: if cfg!(target_os = "linux") {
                        "sudo apt-get install bubblewrap".into()
                    } else {
                        "container system start".into()
                    },
                    blocks: true,
                })
            }
        }
    }

    fn probe(kind: RuntimeKind, cli: Option<&Path>) -> Result<Engine, Finding> {
        let not_ready = |why: String| Finding {
            what: format!("{kind} does not answer"),
            mend: mend_of(kind, &why).into(),
            why,
            blocks: true,
        };
        let found = match cli {
            Some(cli) => cli.is_file().then(|| cli.to_owned()),
            None => find_program(kind.as_str()),
        };
        let mut engine = Engine {
            kind,
            cli: found.ok_or_else(|| not_ready("not installed".into()))?,
            host: Host::here(),
        };
        let args: &[&str] = match kind {
            RuntimeKind::Docker => {
                &["info", "--format", "{{.ServerVersion}}|{{.CgroupVersion}}|{{.SecurityOptions}}"]
            }
            RuntimeKind::Podman => &[
                "info",
                "--format",
                "{{.Version.Version}}|{{.Host.CgroupsVersion}}|rootless={{.Host.Security.Rootless}}",
            ],
            RuntimeKind::Apple => &["system", "status"],
            RuntimeKind::Bwrap => &["--version"],
        };
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let answer = ask(&engine.cli, &args, limits::ENGINE_PROBE_MAX)
            .map_err(|error| not_ready(error.to_string()))?;
        if !answer.is_ok {
            return Err(not_ready(answer.complaint));
        }
        let mut facts = answer.stdout.split('|');
        let version = facts.next().unwrap_or_default();
        if version.is_empty() && kind != RuntimeKind::Apple {
            return Err(not_ready(answer.complaint));
        }
        engine.host.version = version_in(version);
        let cgroups = facts.next().unwrap_or_default();
        engine.host.is_cgroup_v1 = matches!(cgroups, "1" | "v1");
        let security = facts.next().unwrap_or_default();
        engine.host.is_rootless = match kind {
            RuntimeKind::Docker => security.contains("name=rootless"),
            RuntimeKind::Podman => security == "rootless=true",
            RuntimeKind::Apple | RuntimeKind::Bwrap => false,
        };
        log::debug!("runtime={kind} version={version} cli={}", engine.cli.display());
        Ok(engine)
    }

    /// Which runtime.
    pub fn kind(&self) -> RuntimeKind {
        self.kind
    }

    /// What it cannot cap on this machine, for `doctor` and `status`.
    pub fn uncapped(&self) -> &'static [&'static str] {
        runtime::uncapped(self.kind, &self.host)
    }

    /// Looks whether an agent could run now. `image` is for the runtimes that have images,
    /// `program` (`claw-agent-runner` on the host) for bwrap.
    pub fn preflight(&self, image: &str, program: &Path) -> Vec<Finding> {
        let finding = match self.kind {
            RuntimeKind::Bwrap => self.check_namespaces().or_else(|| check_program(program)),
            RuntimeKind::Docker | RuntimeKind::Podman | RuntimeKind::Apple => {
                self.check_image(image)
            }
        };
        finding.into_iter().collect()
    }

    /// Whether bwrap may make a sandbox.
    fn check_namespaces(&self) -> Option<Finding> {
        let complaint = match ask(&self.cli, &runtime::trial(&self.host), limits::ENGINE_PROBE_MAX)
        {
            Ok(Answer { is_ok: true, .. }) => return None,
            Ok(answer) => answer.complaint,
            Err(error) => error.to_string(),
        };
        Some(runtime::explain(&complaint, |path| {
            fs::read_to_string(Path::new("/proc/sys").join(path)).ok()
        }))
    }

    /// Whether the image is there, with the runner that belongs to us.
    fn check_image(&self, image: &str) -> Option<Finding> {
        let mut args = vec!["image".into(), "inspect".into()];
        if self.kind != RuntimeKind::Apple {
            args.push("--format".into());
            args.push(format!("{{{{index .Config.Labels \"{VERSION_LABEL}\"}}}}").into());
        }
        args.push(image.into());
        let blocking = |why| Finding {
            what: format!("image `{image}` cannot be used"),
            why,
            mend: MEND_IMAGE.into(),
            blocks: true,
        };
        let version = match self.run(&args) {
            Ok(answer) if !answer.is_ok => return Some(blocking(answer.complaint)),
            Err(error) => return Some(blocking(error.to_string())),
            Ok(answer) if self.kind == RuntimeKind::Apple => {
                let json: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
                text_at(&json, VERSION_LABEL).unwrap_or_default().to_owned()
            }
            Ok(answer) => answer.stdout,
        };
        (version != RUNNER_VERSION).then(|| other_runner(&format!("image `{image}`"), &version))
    }

    /// Builds the image from the folder `context`, with its output on our standard error.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn build_image(
        &self,
        image: &str,
        dockerfile: &Path,
        context: &Path,
    ) -> std::io::Result<ExitStatus> {
        let mut command = Command::new(&self.cli);
        command.args(["build", "--tag", image, "--build-arg"]);
        command.arg(format!("RUNNER_VERSION={RUNNER_VERSION}"));
        command.arg("--file").arg(dockerfile).arg(context);
        for secret in SECRETS {
            command.env_remove(secret);
        }
        command.stdin(Stdio::null()).stdout(std::io::stderr()).status()
    }

    /// The arguments of the command line that runs `spec`; the program's own name is not among
    /// them. The same spec gives the same arguments.
    pub fn argv(&self, spec: &SandboxSpec) -> Vec<OsString> {
        runtime::argv(self.kind, &self.host, spec)
    }

    /// The command that runs `spec`.
    pub(super) fn command(&self, spec: &SandboxSpec) -> Command {
        let mut command = Command::new(&self.cli);
        command.args(self.argv(spec));
        if self.kind == RuntimeKind::Bwrap {
            // bwrap's own environment can be read inside, at /proc/1/environ.
            command.env_clear();
        } else {
            for secret in SECRETS {
                command.env_remove(secret);
            }
        }
        command
    }

    /// Names of the containers that belong to a home, running or not. Under bwrap there are none:
    /// a sandbox dies with its thread.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn list_owned(&self, home_label: &str) -> Result<Vec<String>, EngineError> {
        let label = format!("rust-claw.home={home_label}");
        let args: &[&str] = match self.kind {
            RuntimeKind::Bwrap => return Ok(Vec::new()),
            RuntimeKind::Apple => &["list", "--all", "--format", "json"],
            RuntimeKind::Docker | RuntimeKind::Podman => {
                &["ps", "--all", "--filter", &format!("label={label}"), "--format", "{{.Names}}"]
            }
        };
        let answer = self.ask("list its containers", args)?;
        if self.kind == RuntimeKind::Apple {
            return Ok(apple_names(&answer.stdout, home_label));
        }
        Ok(answer.stdout.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Removes a container of this home, whatever it does, and makes sure that it is gone. One
    /// that is not there, or not ours, is left alone.
    ///
    /// # Errors
    /// The engine does not answer, or the container survives.
    pub fn remove(&self, home_label: &str, name: &str) -> Result<(), EngineError> {
        for attempt in 0..=limits::REMOVE_ATTEMPTS_MAX {
            if !self.owns(home_label, name)? {
                return Ok(());
            }
            if attempt == limits::REMOVE_ATTEMPTS_MAX {
                break;
            }
            if attempt != 0 {
                thread::sleep(limits::REMOVE_RETRY);
            }
            // Whether it worked is seen by looking, not by what it says.
            if let Err(error) = self.ask("remove a container", &["rm", "--force", name]) {
                log::debug!("{error}");
            }
        }
        Err(EngineError::StillThere { name: name.to_owned() })
    }

    /// Asks a container of this home to end and waits for that; after `grace` the engine kills it.
    /// False if there is none of that name.
    ///
    /// # Errors
    /// The engine does not answer, or cannot.
    pub(super) fn stop(
        &self,
        home_label: &str,
        name: &str,
        grace: Duration,
    ) -> Result<bool, EngineError> {
        if !self.owns(home_label, name)? {
            return Ok(false);
        }
        let seconds = grace.as_secs().to_string();
        let args = ["stop", "-t", &seconds, name].map(OsString::from);
        let answer = ask(&self.cli, &args, grace + limits::ENGINE_COMMAND_MAX);
        self.judge("stop a container", answer).map(|_| true)
    }

    fn owns(&self, home_label: &str, name: &str) -> Result<bool, EngineError> {
        Ok(self.list_owned(home_label)?.iter().any(|owned| owned == name))
    }

    fn ask(&self, doing: &'static str, args: &[&str]) -> Result<Answer, EngineError> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        self.judge(doing, self.run(&args))
    }

    fn run(&self, args: &[OsString]) -> Result<Answer, NoAnswer> {
        ask(&self.cli, args, limits::ENGINE_COMMAND_MAX)
    }

    fn judge(
        &self,
        doing: &'static str,
        answer: Result<Answer, NoAnswer>,
    ) -> Result<Answer, EngineError> {
        let why = match answer {
            Ok(answer) if answer.is_ok => return Ok(answer),
            Ok(answer) => answer.complaint,
            Err(error) => error.to_string(),
        };
        Err(EngineError::Refused { kind: self.kind, doing, why })
    }

    pub(super) fn cli_text(&self) -> String {
        self.cli.display().to_string()
    }
}

/// The one command for an engine that does not answer.
fn mend_of(kind: RuntimeKind, why: &str) -> &'static str {
    let is_linux = cfg!(target_os = "linux");
    match kind {
        _ if why == "not installed" => match kind {
            RuntimeKind::Docker if is_linux => "sudo apt-get install docker.io",
            RuntimeKind::Docker => "brew install --cask docker",
            RuntimeKind::Podman if is_linux => "sudo apt-get install podman",
            RuntimeKind::Podman => "brew install podman",
            RuntimeKind::Apple => "brew install container",
            RuntimeKind::Bwrap => "sudo apt-get install bubblewrap",
        },
        RuntimeKind::Docker if why.contains("permission denied") => {
            "sudo usermod -aG docker $USER (then log in again)"
        }
        RuntimeKind::Docker if is_linux => "sudo systemctl start docker",
        RuntimeKind::Docker => "open -a Docker",
        RuntimeKind::Podman if is_linux => "podman info",
        RuntimeKind::Podman => "podman machine start",
        RuntimeKind::Apple => "container system start",
        RuntimeKind::Bwrap => "bwrap --version",
    }
}

/// Whether the runner for bwrap is there, and ours.
fn check_program(program: &Path) -> Option<Finding> {
    let what = format!("`{}`", program.display());
    match ask(program, &["--version".into()], limits::ENGINE_PROBE_MAX) {
        Err(error) => Some(Finding {
            what: format!("the agent runner {what} cannot be used"),
            why: error.to_string(),
            mend: "make install".into(),
            blocks: true,
        }),
        Ok(answer) => {
            let version = answer.stdout.rsplit(' ').next().unwrap_or_default();
            (version != RUNNER_VERSION).then(|| other_runner(&what, version))
        }
    }
}

fn other_runner(what: &str, version: &str) -> Finding {
    let version = if version.is_empty() { "of unknown version" } else { version };
    Finding {
        what: format!("{what} holds another agent runner"),
        why: format!("it is {version}, this program is {RUNNER_VERSION}"),
        mend: if what.starts_with("image") { MEND_IMAGE } else { "make install" }.into(),
        blocks: false,
    }
}

/// A program of this name on the `PATH`, or in one of the usual places.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(PROGRAM_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_absolute() && program.is_file())
}

/// First two numbers of a version, after whatever name.
fn version_in(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Names in the answer of `container list --format json` that carry the label.
fn apple_names(json: &str, home_label: &str) -> Vec<String> {
    let list: Vec<Value> = serde_json::from_str(json).unwrap_or_default();
    list.iter()
        .map(|item| &item["configuration"])
        .filter(|item| item["labels"]["rust-claw.home"] == home_label)
        .filter_map(|item| item["id"].as_str().map(str::to_owned))
        .collect()
}

/// The text under `key`, wherever in `json` it is.
fn text_at<'a>(json: &'a Value, key: &str) -> Option<&'a str> {
    match json {
        Value::Object(map) => map
            .get(key)
            .and_then(Value::as_str)
            .or_else(|| map.values().find_map(|value| text_at(value, key))),
        Value::Array(list) => list.iter().find_map(|value| text_at(value, key)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!((0, 8), version_in("bubblewrap 0.8.0"));
        assert_eq!((20, 10), version_in("20.10.24+dfsg1"));
        assert_eq!((0, 0), version_in("none"));
    }

    #[test]
    fn h27_of_apples_list_only_this_homes_names_are_taken() {
        let list = r#"[
            {"status":"running","configuration":{"id":"a","labels":{"rust-claw.home":"1f"}}},
            {"status":"stopped","configuration":{"id":"b","labels":{"rust-claw.home":"2f"}}},
            {"status":"running","configuration":{"id":"c","labels":{}}},
            {"unknown":"shape"}
        ]"#;
        assert_eq!(["a"], *apple_names(list, "1f"));
        assert!(apple_names("not JSON", "1f").is_empty());
    }

    #[test]
    fn a_label_is_found_wherever_the_engine_puts_it() {
        let json =
            serde_json::json!([{"variants": [{"config": {"Labels": {VERSION_LABEL: "1"}}}]}]);
        assert_eq!(Some("1"), text_at(&json, VERSION_LABEL));
        assert_eq!(None, text_at(&json, "other"));
    }

    #[test]
    fn h29_each_failure_has_its_command() {
        let denied = "permission denied while trying to connect to the Docker daemon socket";
        assert!(mend_of(RuntimeKind::Docker, denied).contains("usermod"));
        assert_eq!("container system start", mend_of(RuntimeKind::Apple, "no answer"));
        assert!(mend_of(RuntimeKind::Bwrap, "not installed").contains("bubblewrap"));
    }
}
