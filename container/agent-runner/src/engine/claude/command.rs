//! How the CLI is started: its arguments and environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rust_claw_protocol::{Input, Secrets, env, inside};
use serde_json::json;

use crate::{archive, mcp, shell_env};

/// The CLI's own tools that fight with ours or have no meaning here: schedules that would die with
/// the sandbox, worktrees, remote sessions, questions that nobody is there to answer.
const REFUSED_TOOLS: &str = "CronCreate,CronDelete,CronList,ScheduleWakeup,EnterWorktree,\
                             ExitWorktree,Workflow,RemoteTrigger,AskUserQuestion";

/// Variables of the CLI. Source: its settings documentation; measured with 2.1.197 and 2.1.330.
const ENV: [(&str, &str); 7] = [
    ("CLAUDE_CONFIG_DIR", inside::CLAUDE_CONFIG),
    // Allows `--dangerously-skip-permissions` where uid 0 is only root of the sandbox.
    ("IS_SANDBOX", "1"),
    ("DISABLE_TELEMETRY", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    // A turn is all of its work: else it would end while subagents run, whose outcome comes as a
    // turn that nobody asked for.
    ("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1"),
    // Memory of `--add-dir` folders is read, and read again when a session is continued. A text
    // given by `--append-system-prompt` stays for a session's life as it was at its start.
    ("CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
];

/// What all processes of a run have in common.
pub(super) struct Setup {
    program: String,
    secrets: Secrets,
    timezone: Option<String>,
    assistant_name: Option<String>,
    /// Folders beside the group's own that the agent may use and whose memory it reads.
    folders: Vec<PathBuf>,
    settings: String,
    tools: String,
}

impl Setup {
    /// Takes what `input` and the sandbox say; the model API is reached through `proxy`, if there
    /// is one.
    pub(super) fn of(input: &Input, proxy: Option<SocketAddr>) -> Setup {
        let mut secrets = input.secrets.clone().unwrap_or_default();
        if let Some(address) = proxy {
            secrets.anthropic_base_url = Some(format!("http://{address}"));
        }
        let mut folders = Vec::new();
        if !input.is_main {
            folders.push(PathBuf::from(inside::GLOBAL));
        }
        folders.extend(subfolders(Path::new(inside::EXTRA)));
        Setup {
            program: std::env::var(env::CLAUDE).unwrap_or_else(|_| "claude".to_owned()),
            secrets,
            timezone: input.timezone.clone(),
            assistant_name: input.assistant_name.clone(),
            folders,
            // A token of the proxy is worth nothing elsewhere; the key itself is.
            settings: settings(proxy.is_none()),
            tools: tools(input),
        }
    }

    /// What must not be shown.
    pub(super) fn secrets(&self) -> Vec<String> {
        let Secrets { anthropic_api_key, claude_code_oauth_token, anthropic_base_url: _ } =
            self.secrets.clone();
        let secrets = [anthropic_api_key, claude_code_oauth_token].into_iter().flatten();
        secrets.filter(|secret| !secret.is_empty()).collect()
    }

    /// The command line that continues session `resume`, or begins one.
    pub(super) fn command(&self, resume: Option<&str>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-p", "--verbose", "--replay-user-messages"]);
        command.args(["--input-format", "stream-json", "--output-format", "stream-json"]);
        // The sandbox is the permission.
        command.arg("--dangerously-skip-permissions");
        command.args(["--disallowedTools", REFUSED_TOOLS]);
        command.args(["--settings", &self.settings, "--mcp-config", &self.tools]);
        for folder in &self.folders {
            command.arg("--add-dir").arg(folder);
        }
        if let Some(session) = resume {
            command.args(["--resume", session]);
        }
        command.current_dir(inside::GROUP).envs(ENV);
        if std::env::var_os("HOME").is_none() {
            command.env("HOME", inside::HOME);
        }
        let secrets = &self.secrets;
        for (name, value) in [
            ("ANTHROPIC_API_KEY", &secrets.anthropic_api_key),
            ("CLAUDE_CODE_OAUTH_TOKEN", &secrets.claude_code_oauth_token),
            ("ANTHROPIC_BASE_URL", &secrets.anthropic_base_url),
            ("TZ", &self.timezone),
            (archive::ASSISTANT_NAME, &self.assistant_name),
        ] {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
    }
}

/// Whether `id` can be a session of the CLI: a UUID. Others, such as the demo's, are not asked for.
pub(super) fn is_session(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Where the CLI keeps what was said in session `id`: in a folder named like its working
/// directory, with `-` for `/`.
pub(super) fn transcript(id: &str) -> PathBuf {
    let folder = inside::GROUP.replace('/', "-");
    Path::new(inside::CLAUDE_CONFIG).join("projects").join(folder).join(format!("{id}.jsonl"))
}

/// Settings for this process only: the transcript is archived before it is compacted, and where
/// the key itself is inside, the agent's shell does not get it.
fn settings(has_key: bool) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("claw-agent-runner"));
    let quoted = program.to_string_lossy().replace('\'', r"'\''");
    let hook = |name: &str| json!([{ "type": "command", "command": format!("'{quoted}' {name}") }]);
    let mut hooks = json!({ "PreCompact": [{ "hooks": hook("archive-transcript") }] });
    if has_key {
        hooks["PreToolUse"] = json!([{ "matcher": "Bash", "hooks": hook(shell_env::SUBCOMMAND) }]);
    }
    json!({ "hooks": hooks }).to_string()
}

/// Our own tools, under the name that `NanoClaw`'s have.
fn tools(input: &Input) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("claw-agent-runner"));
    let mut variables = json!({
        env::CHAT_JID: input.chat_jid,
        env::IS_MAIN: if input.is_main { "1" } else { "0" },
    });
    if let Some(timezone) = &input.timezone {
        variables["TZ"] = timezone.as_str().into();
    }
    let server = json!({
        "type": "stdio", "command": program, "args": [mcp::SUBCOMMAND], "env": variables,
    });
    json!({ "mcpServers": { "nanoclaw": server } }).to_string()
}

/// Folders in `parent`, sorted; none where it cannot be listed.
fn subfolders(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(command: &Command) -> Vec<String> {
        command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn main_does_not_read_the_shared_memory_as_its_own() {
        let check = |is_main: bool| {
            let setup = Setup::of(&Input { is_main, ..Input::default() }, None);
            arguments(&setup.command(None)).contains(&inside::GLOBAL.to_owned())
        };
        assert_eq!((true, false), (check(false), check(true)));
    }

    #[test]
    fn the_proxy_is_preferred_and_secrets_are_no_arguments() {
        let secrets = Secrets {
            anthropic_api_key: Some("sk-planted".into()),
            anthropic_base_url: Some("https://example.org".into()),
            ..Secrets::default()
        };
        let input = Input { secrets: Some(secrets), ..Input::default() };
        let setup = Setup::of(&input, Some(([127, 0, 0, 1], 1234).into()));
        assert_eq!(vec!["sk-planted".to_owned()], setup.secrets());
        let command = setup.command(None);
        assert!(!format!("{:?}", arguments(&command)).contains("planted"));
        let url = command.get_envs().find(|(name, _)| *name == "ANTHROPIC_BASE_URL");
        assert_eq!(Some("http://127.0.0.1:1234".as_ref()), url.and_then(|(_, value)| value));
    }

    #[test]
    fn only_uuids_are_sessions() {
        assert!(is_session("5b7cd7cc-26ed-43f1-97e4-5b42d7bc58d2"));
        for id in ["", "demo-0123456789abcdef", "../../../../etc/passwd-000000000000000", "x"] {
            assert!(!is_session(id), "{id}");
        }
    }
}
