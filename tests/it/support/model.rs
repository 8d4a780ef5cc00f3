//! The stand-in for the model API, as a program of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Home, part, program};

/// The key that it wants.
pub(crate) const KEY: &str = "sk-ant-planted-real-key";

/// Killed when dropped.
pub(crate) struct Model {
    child: Child,
    log: PathBuf,
}

impl Model {
    /// Starts it and makes `home` use it, with the real Claude Code CLI.
    pub(crate) fn start(home: &mut Home) -> Model {
        let model = Model::start_alone(home);
        home.set("CLAUDE_CLI", &part("CLAW_TEST_CLAUDE"));
        home.write_env(&format!("ANTHROPIC_API_KEY={KEY}\n"));
        model
    }

    /// Starts it and tells `home` where it is.
    pub(crate) fn start_alone(home: &mut Home) -> Model {
        let log = home.path("requests");
        let mut command = Command::new(program("fake-model-api"));
        command.args(["--key", KEY, "--log"]).arg(&log);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut url = String::new();
        let stdout = child.stdout.as_mut().expect("was asked for");
        BufReader::new(stdout).read_line(&mut url).expect("it says where it is");
        home.set("ANTHROPIC_BASE_URL", url.trim());
        Model { child, log }
    }

    /// Requests for a message so far, oldest first: `headers`, `body`, and others.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).expect("it keeps a log");
        let all = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        all.filter(|request: &Value| {
            request["path"].as_str().is_some_and(|path| path.starts_with("/v1/messages"))
        })
        .collect()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
