//! What crosses the wall of a sandbox: the types, file names and paths on which the host and
//! [`claw-agent-runner`](../claw_agent_runner/index.html) must agree, and nothing else.
//!
//! The shapes are `NanoClaw`'s as of 2026-02-19; fields of our own are optional on both sides, so
//! that its runner works under our host and ours under its host. Everything read from the other
//! side is hostile: whoever parses bounds it first.

use serde::{Deserialize, Serialize};

/// Stands alone on the line before the JSON of a frame on the runner's standard output.
pub const OUTPUT_START: &str = "---NANOCLAW_OUTPUT_START---";
/// Stands alone on the line after the JSON of a frame.
pub const OUTPUT_END: &str = "---NANOCLAW_OUTPUT_END---";
/// Version of our additions, sent as [`Input::protocol`].
pub const PROTOCOL: u32 = 2;
/// The runner's version; the image carries it as label `rust-claw.runner-version`.
pub const RUNNER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Paths as they are seen inside a sandbox.
pub mod inside {
    /// The group's own folder, writable; the agent's working directory.
    pub const GROUP: &str = "/workspace/group";
    /// Memory shared by all groups; writable for main alone.
    pub const GLOBAL: &str = "/workspace/global";
    /// Parent of [`INPUT`], `messages/`, `tasks/`, `responses/` and the snapshots.
    pub const IPC: &str = "/workspace/ipc";
    /// Follow-ups from the host, and [`super::CLOSE_FILE`].
    pub const INPUT: &str = "/workspace/ipc/input";
    /// Parent of additional mounts.
    pub const EXTRA: &str = "/workspace/extra";
    /// All groups' folders, read-only; main alone.
    pub const PROJECT: &str = "/workspace/project";
    /// Home of the agent.
    pub const HOME: &str = "/home/node";
    /// Sessions, transcripts and settings of the Claude Code CLI.
    pub const CLAUDE_CONFIG: &str = "/home/node/.claude";
    /// Directory with the socket of the credential proxy.
    pub const PROXY_DIR: &str = "/run/claw";
    /// Socket of the credential proxy.
    pub const PROXY_SOCKET: &str = "/run/claw/proxy.sock";
}

/// Names of environment variables that the host sets for the runner.
pub mod env {
    /// `claude` or `demo`: which engine answers.
    pub const ENGINE: &str = "CLAW_ENGINE";
    /// Path inside of the Claude Code CLI, where it is not `claude` on the `PATH`.
    pub const CLAUDE: &str = "CLAW_CLAUDE";
    /// Chat of the conversation, for the tools.
    pub const CHAT_JID: &str = "CLAW_CHAT_JID";
    /// `1` in the main group, for the tools.
    pub const IS_MAIN: &str = "CLAW_IS_MAIN";
    /// Folder shared with the host, where it is not [`super::inside::IPC`].
    pub const IPC: &str = "CLAW_IPC";
    /// Upper bound of processes, set by the runner on itself where the sandbox cannot.
    pub const PIDS_MAX: &str = "CLAW_PIDS_MAX";
    /// Upper bound of open files per process, likewise.
    pub const OPEN_FILES_MAX: &str = "CLAW_OPEN_FILES_MAX";
}

/// In [`inside::INPUT`]: asks the runner to finish its turn and exit.
pub const CLOSE_FILE: &str = "_close";

/// First line of a scheduled task's prompt; what is asked begins after the first empty line. The
/// wording is `NanoClaw`'s.
pub const TASK_HEAD: &str = "[SCHEDULED TASK - The following message was sent automatically and is \
                             not coming directly from the user or group.]";

/// What a run starts with: one JSON object on standard input, then end of file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Text of the first turn.
    pub prompt: String,
    /// Session to continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Folder of the group; for the agent's information, never for the host's decisions.
    pub group_folder: String,
    /// Chat that the answer goes to; likewise.
    pub chat_jid: String,
    /// Whether the group is main; likewise.
    pub is_main: bool,
    /// Whether a schedule and not a person asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_scheduled_task: Option<bool>,
    /// Environment for the agent: the key, or the token of the credential proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Secrets>,
    /// Name that the assistant goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assistant_name: Option<String>,
    /// IANA time zone of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// [`PROTOCOL`] of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// Shell script that decides whether the agent is woken at all (scheduled tasks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
}

/// The only secrets that may cross, under the names of environment variables.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// A key of the model API, or the credential proxy's token for this run.
    #[serde(rename = "ANTHROPIC_API_KEY", default, skip_serializing_if = "Option::is_none")]
    pub anthropic_api_key: Option<String>,
    /// A token of the Claude Code CLI.
    #[serde(rename = "CLAUDE_CODE_OAUTH_TOKEN", default, skip_serializing_if = "Option::is_none")]
    pub claude_code_oauth_token: Option<String>,
    /// Where the model API is reached, if not at its own address.
    #[serde(rename = "ANTHROPIC_BASE_URL", default, skip_serializing_if = "Option::is_none")]
    pub anthropic_base_url: Option<String>,
}

impl std::fmt::Debug for Secrets {
    /// Says which are there, never what they are.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets")
            .field("anthropic_api_key", &self.anthropic_api_key.is_some())
            .field("claude_code_oauth_token", &self.claude_code_oauth_token.is_some())
            .field("anthropic_base_url", &self.anthropic_base_url)
            .finish()
    }
}

/// Whether a frame reports success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The turn goes well, or ended well.
    Success,
    /// The turn failed; [`Output::error`] says why.
    Error,
}

/// What sort of failure a frame reports, as far as the host acts differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The key or token is refused (401, 403).
    Credential,
    /// No credit left.
    Billing,
    /// Too many requests, or the model is overloaded (429, 529).
    RateLimit,
    /// The conversation does not fit the model any more.
    Overflow,
    /// The session to continue does not exist.
    SessionUnknown,
    /// Anything else; also what a newer runner says and we do not know.
    #[serde(other)]
    Other,
}

/// Tokens and money of one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Tokens read by the model, without those of the cache.
    pub input_tokens: u64,
    /// Tokens written by the model.
    pub output_tokens: u64,
    /// Tokens read from the cache.
    pub cache_read_tokens: u64,
    /// Tokens written to the cache.
    pub cache_write_tokens: u64,
    /// US dollars.
    pub cost_usd: f64,
}

/// One frame: what the runner reports, between [`OUTPUT_START`] and [`OUTPUT_END`], as one line of
/// JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// How the turn goes.
    pub status: Status,
    /// Text for the chat; several frames of a turn may carry one.
    pub result: Option<String>,
    /// Session to continue next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_session_id: Option<String>,
    /// What failed, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What failed, for the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<ErrorKind>,
    /// Whether the turn is over and the runner waits. A runner that never says so (`NanoClaw`'s)
    /// ends a turn with each frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_end: Option<bool>,
    /// Names of the follow-up files taken since the last frame that belong to this turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumed: Option<Vec<String>>,
    /// Cost of the turn; with `turn_end` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether [`Input::script`] decided that the agent is not woken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<bool>,
}

impl Output {
    /// A frame that says nothing but `status`.
    pub fn new(status: Status) -> Output {
        Output {
            status,
            result: None,
            new_session_id: None,
            error: None,
            error_kind: None,
            turn_end: None,
            consumed: None,
            usage: None,
            skipped: None,
        }
    }
}

/// A follow-up: content of `input/{seq}-{n}.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FollowUp {
    /// Text of a further turn.
    Message {
        /// The text.
        text: String,
    },
}

/// Writes `output` as a frame: three lines, the JSON on one.
///
/// # Errors
/// What `out` reports.
///
/// # Panics
/// Never: a frame has no map with keys that JSON refuses.
pub fn write_frame(out: &mut impl std::io::Write, output: &Output) -> std::io::Result<()> {
    let json = serde_json::to_string(output).expect("strings, numbers and lists always serialise");
    out.write_all(format!("{OUTPUT_START}\n{json}\n{OUTPUT_END}\n").as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_line_even_if_the_answer_quotes_markers_and_newlines() {
        let output = Output {
            result: Some(format!("a\n{OUTPUT_END}\nb")),
            turn_end: Some(true),
            ..Output::new(Status::Success)
        };
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &output).expect("a vector takes all");
        let text = String::from_utf8(bytes).expect("frames are UTF-8");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(3, lines.len());
        assert_eq!(output, serde_json::from_str(lines[1]).expect("own output parses"));
    }

    #[test]
    fn nanoclaws_own_frame_parses() {
        let output: Output =
            serde_json::from_str(r#"{"status":"success","result":null,"newSessionId":"s-1"}"#)
                .expect("the documented shape");
        assert_eq!((None, None), (output.turn_end, output.consumed));
        assert_eq!(Some("s-1"), output.new_session_id.as_deref());
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        let secrets =
            Secrets { anthropic_api_key: Some("sk-planted".into()), ..Secrets::default() };
        assert!(!format!("{secrets:?}").contains("planted"));
    }
}
