//! The one list of all settings; the help and the README are made from it.

/// A setting, as the help tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Name in the environment and in `.env`.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// What it may be.
    pub allowed: &'static str,
    /// What it is where nobody sets it; empty: nothing.
    pub default: &'static str,
    /// Whether its value must never be shown.
    pub is_secret: bool,
}

const fn variable(
    name: &'static str,
    meaning: &'static str,
    allowed: &'static str,
    default: &'static str,
) -> Variable {
    Variable { name, meaning, allowed, default, is_secret: false }
}

const fn secret(name: &'static str, meaning: &'static str) -> Variable {
    let allowed = "printable characters without spaces";
    Variable { name, meaning, allowed, default: "", is_secret: true }
}

/// All settings, in the order of the help.
pub const VARIABLES: [Variable; 23] = [
    variable(
        "ASSISTANT_NAME",
        "name of the assistant, and the word after `@` that wakes it",
        "1 to 50 characters on one line",
        "Andy",
    ),
    variable(
        "ASSISTANT_HAS_OWN_NUMBER",
        "whether its WhatsApp number is its own, so that answers need no `Name: ` before them",
        "true or false",
        "false",
    ),
    secret("ANTHROPIC_API_KEY", "key of the model API"),
    secret("CLAUDE_CODE_OAUTH_TOKEN", "token made by `claude setup-token`, instead of a key"),
    variable(
        "ANTHROPIC_BASE_URL",
        "where the model API is reached, if not at its own address",
        "an address that starts with http:// or https://",
        "",
    ),
    variable(
        "CREDENTIALS",
        "how a sandbox gets at the model API: through our proxy, or with the key itself",
        "proxy or stdin",
        "proxy",
    ),
    variable(
        "AGENT_ENGINE",
        "who answers: Claude, or the demo without a model; auto: Claude if there is a key",
        "auto, claude or demo",
        "auto",
    ),
    variable(
        "CONTAINER_RUNTIME",
        "what sandboxes are made with; auto: the first that works",
        "auto, docker, podman, container or bwrap",
        "auto",
    ),
    variable(
        "CONTAINER_IMAGE",
        "image of the sandboxes",
        "an image's name, without spaces",
        "rust-claw-agent:latest",
    ),
    variable(
        "CONTAINER_TIMEOUT",
        "longest silence of a sandbox, in milliseconds; at least 30 s more than `IDLE_TIMEOUT`",
        "1000 to 86400000",
        "1800000",
    ),
    variable(
        "IDLE_TIMEOUT",
        "how long a sandbox waits for follow-ups, in milliseconds",
        "1000 to 86400000",
        "1800000",
    ),
    variable(
        "CONTAINER_MAX_OUTPUT_SIZE",
        "bound of what is kept of a sandbox's output, in bytes",
        "65536 to 1073741824",
        "10485760",
    ),
    variable("MAX_CONCURRENT_CONTAINERS", "sandboxes at a time", "1 to 256", "5"),
    variable(
        "TZ",
        "time zone of people and schedules",
        "an IANA name like Europe/Berlin",
        "the system's, else UTC",
    ),
    variable("LOG_LEVEL", "how much is logged", "error, warn, info, debug or trace", "info"),
    variable("KEEP_LOGS_DAYS", "how long logs of runs are kept", "1 to 36500", "30"),
    variable(
        "KEEP_TRANSCRIPTS_DAYS",
        "how long transcripts of ended sessions are kept",
        "1 to 36500",
        "90",
    ),
    variable(
        "KEEP_MESSAGES_DAYS",
        "how long answered messages are kept; 0: for ever",
        "0 to 36500",
        "0",
    ),
    variable(
        "CONTAINER_CLI",
        "program of the container engine, if not the one on the PATH",
        "an absolute path",
        "",
    ),
    variable(
        "CLAUDE_CLI",
        "the Claude Code CLI for bwrap, if not the one on the PATH",
        "an absolute path",
        "",
    ),
    variable(
        "RUNNER",
        "claw-agent-runner for bwrap, if not the one beside this program",
        "an absolute path",
        "",
    ),
    variable(
        "WHATSAPP_VERSION",
        "version of WhatsApp Web to be, if not the one that web.whatsapp.com has",
        "three numbers like 2.3000.1043857760",
        "",
    ),
    variable(
        "WHATSAPP_URL",
        "where WhatsApp is reached",
        "an address that starts with wss://, or with ws:// on this machine",
        "wss://web.whatsapp.com/ws/chat",
    ),
];

/// The setting of that name.
pub(super) fn declared(name: &str) -> &'static Variable {
    VARIABLES.iter().find(|variable| variable.name == name).expect("all settings are declared")
}
