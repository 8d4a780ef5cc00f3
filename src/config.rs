//! Settings: the process's environment, then the file `.env` of the home, then the default.
//!
//! Every value is checked once, here, at start. [`VARIABLES`] is the one list of them, from which
//! the help is made.

mod dotenv;
mod variables;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;

use crate::credentials::{Credential, Secret};
use crate::home::Home;
use crate::ids::{ChannelKind, ChatJid, shown};
use crate::limits::CONCURRENT_RUNS_MAX;
use crate::routing::reply;
use crate::sandbox::RuntimeChoice;
use dotenv::DotEnv;
pub use variables::{VARIABLES, Variable};

/// Range of time-outs, in milliseconds: a second to a day.
pub const TIMEOUT_MS: RangeInclusive<u64> = 1_000..=86_400_000;
const OUTPUT_BYTES: RangeInclusive<u64> = 65_536..=1_073_741_824;
const KEEP_DAYS: RangeInclusive<u64> = 1..=36_500;
const KEEP_OR_NOT: RangeInclusive<u64> = 0..=36_500;
const CONCURRENT_RUNS: RangeInclusive<u64> = 1..=CONCURRENT_RUNS_MAX as u64;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// Claude where there is a key or token, else the demo.
    Auto,
    /// The Claude Code CLI.
    Claude,
    /// The engine without a model.
    Demo,
}

/// Who answers, when all is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentEngine {
    /// The Claude Code CLI.
    Claude,
    /// The engine without a model.
    Demo,
}

/// How a sandbox gets at the model API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsChoice {
    /// Through the credential proxy; the key stays outside.
    Proxy,
    /// The key goes in, on standard input.
    Stdin,
}

/// What the program is told from outside; see [`VARIABLES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `ASSISTANT_NAME`.
    pub assistant_name: String,
    /// `ASSISTANT_HAS_OWN_NUMBER`.
    pub assistant_has_own_number: bool,
    /// `ANTHROPIC_API_KEY`.
    pub anthropic_api_key: Option<Secret>,
    /// `CLAUDE_CODE_OAUTH_TOKEN`.
    pub claude_code_oauth_token: Option<Secret>,
    /// `ANTHROPIC_BASE_URL`, without a slash at its end.
    pub anthropic_base_url: Option<String>,
    /// `CREDENTIALS`.
    pub credentials: CredentialsChoice,
    /// `AGENT_ENGINE`.
    pub agent_engine: EngineChoice,
    /// `CONTAINER_RUNTIME`.
    pub container_runtime: RuntimeChoice,
    /// `CONTAINER_IMAGE`.
    pub container_image: String,
    /// `CONTAINER_TIMEOUT`.
    pub container_timeout: Duration,
    /// `IDLE_TIMEOUT`.
    pub idle_timeout: Duration,
    /// `CONTAINER_MAX_OUTPUT_SIZE`.
    pub output_bytes_max: u64,
    /// `MAX_CONCURRENT_CONTAINERS`, 1 to [`CONCURRENT_RUNS_MAX`].
    pub concurrent_runs_max: usize,
    /// `TZ`.
    pub timezone: Tz,
    /// `LOG_LEVEL`.
    pub log_level: log::LevelFilter,
    /// `KEEP_LOGS_DAYS`.
    pub keep_logs: Duration,
    /// `KEEP_TRANSCRIPTS_DAYS`.
    pub keep_transcripts: Duration,
    /// `KEEP_MESSAGES_DAYS`; `None`: for ever.
    pub keep_messages: Option<Duration>,
    /// `CONTAINER_CLI`.
    pub container_cli: Option<PathBuf>,
    /// `CLAUDE_CLI`.
    pub claude_cli: Option<PathBuf>,
    /// `RUNNER`.
    pub runner: Option<PathBuf>,
    /// `WHATSAPP_VERSION`.
    pub whatsapp_version: Option<(u32, u32, u32)>,
    /// `WHATSAPP_URL`.
    pub whatsapp_url: String,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be changed.
    #[error("cannot change `{}`", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value is not allowed.
    #[error("{place}: {name}: {problem}; allowed: {allowed}")]
    Value {
        /// File and line, or `environment`.
        place: String,
        /// Name of the setting.
        name: &'static str,
        /// What is wrong with it; tells the value unless it is secret.
        problem: String,
        /// What it may be.
        allowed: &'static str,
    },
}

/// Sets a setting in `.env` for the next start, or takes it out. Nothing else in the file changes.
///
/// # Errors
/// [`ConfigError::Unwritable`].
pub fn set(home: &Home, name: &str, value: Option<&str>) -> Result<(), ConfigError> {
    let path = home.env_file();
    dotenv::set(&path, name, value).map_err(|source| ConfigError::Unwritable { path, source })
}

/// Our settings that the environment sets; `.env` does not count for them.
pub fn in_environment(env: impl Fn(&str) -> Option<String>) -> Vec<&'static str> {
    let is_set = |name: &&str| env(name).is_some_and(|value| !value.trim().is_empty());
    VARIABLES.iter().map(|variable| variable.name).filter(is_set).collect()
}

impl Settings {
    /// What of an agent's words is said in a chat; nothing where it only thought. Where it speaks
    /// with somebody else's number, its name stands before: `speaker`, else the assistant's.
    pub fn words_for(&self, chat: &ChatJid, text: &str, speaker: Option<&str>) -> Option<String> {
        let is_prefixed = speaker.is_some()
            || !self.assistant_has_own_number && chat.channel() != ChannelKind::Local;
        reply::reply_text(text, speaker.unwrap_or(&self.assistant_name), is_prefixed)
    }

    /// Reads and checks all settings. `env` is the process's environment. An empty value counts as
    /// none; names in `.env` that are not ours are left alone.
    ///
    /// # Errors
    /// [`ConfigError`]: the first value that cannot be used.
    pub fn load(
        home: &Home,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, ConfigError> {
        Settings::check(&Sources { env, file: DotEnv::read(&home.env_file())? })
    }

    /// The same of what stands, or is to stand, in `.env`.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn of_text(
        home: &Home,
        text: &str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, ConfigError> {
        Settings::check(&Sources { env, file: DotEnv::of(&home.env_file(), text) })
    }

    fn check(from: &Sources<impl Fn(&str) -> Option<String>>) -> Result<Settings, ConfigError> {
        Ok(Settings {
            assistant_name: from.need("ASSISTANT_NAME", assistant_name)?,
            assistant_has_own_number: from.need("ASSISTANT_HAS_OWN_NUMBER", yes_or_no)?,
            anthropic_api_key: from.want("ANTHROPIC_API_KEY", secret_text)?,
            claude_code_oauth_token: from.want("CLAUDE_CODE_OAUTH_TOKEN", secret_text)?,
            anthropic_base_url: from.want("ANTHROPIC_BASE_URL", address)?,
            credentials: from.need("CREDENTIALS", |text| match text {
                "proxy" => Ok(CredentialsChoice::Proxy),
                "stdin" => Ok(CredentialsChoice::Stdin),
                _ => Err(UNKNOWN),
            })?,
            agent_engine: from.need("AGENT_ENGINE", |text| match text {
                "auto" => Ok(EngineChoice::Auto),
                "claude" => Ok(EngineChoice::Claude),
                "demo" => Ok(EngineChoice::Demo),
                _ => Err(UNKNOWN),
            })?,
            container_runtime: from
                .need("CONTAINER_RUNTIME", |text| text.parse().map_err(|()| UNKNOWN))?,
            container_image: from.need("CONTAINER_IMAGE", image)?,
            container_timeout: from.need("CONTAINER_TIMEOUT", timeout)?,
            idle_timeout: from.need("IDLE_TIMEOUT", timeout)?,
            output_bytes_max: from.need("CONTAINER_MAX_OUTPUT_SIZE", |text| {
                number(text, &OUTPUT_BYTES, "is not a number of bytes")
            })?,
            concurrent_runs_max: from.need("MAX_CONCURRENT_CONTAINERS", |text| {
                let count = number(text, &CONCURRENT_RUNS, "is not a number")?;
                usize::try_from(count).map_err(|_| OUT_OF_RANGE)
            })?,
            timezone: match from.want("TZ", timezone)? {
                Some(zone) => zone,
                None => system_timezone(),
            },
            log_level: from.need("LOG_LEVEL", |text| match text.parse() {
                Ok(log::LevelFilter::Off) | Err(_) => Err(UNKNOWN),
                Ok(level) => Ok(level),
            })?,
            keep_logs: from.need("KEEP_LOGS_DAYS", |text| days(text, &KEEP_DAYS))?,
            keep_transcripts: from.need("KEEP_TRANSCRIPTS_DAYS", |text| days(text, &KEEP_DAYS))?,
            keep_messages: Some(from.need("KEEP_MESSAGES_DAYS", |text| days(text, &KEEP_OR_NOT))?)
                .filter(|time| !time.is_zero()),
            container_cli: from.want("CONTAINER_CLI", absolute_path)?,
            claude_cli: from.want("CLAUDE_CLI", absolute_path)?,
            runner: from.want("RUNNER", absolute_path)?,
            whatsapp_version: from.want("WHATSAPP_VERSION", version)?,
            whatsapp_url: from.need("WHATSAPP_URL", socket_address)?,
        })
    }

    /// The key or token of the model API, if there is one.
    pub fn credential(&self) -> Option<Credential> {
        Credential::choose(self.anthropic_api_key.clone(), self.claude_code_oauth_token.clone())
    }

    /// Who answers: the demo where there is no key and nobody asked for Claude.
    pub fn engine(&self) -> AgentEngine {
        match self.agent_engine {
            EngineChoice::Claude => AgentEngine::Claude,
            EngineChoice::Demo => AgentEngine::Demo,
            EngineChoice::Auto => match self.credential() {
                Some(_) => AgentEngine::Claude,
                None => AgentEngine::Demo,
            },
        }
    }
}

/// The settings that a text in the form of `.env` sets, ours or not: name, and value or what is wrong
/// with its quotes.
pub fn env_values(text: &str) -> Vec<(String, Result<String, &'static str>)> {
    dotenv::parse(text).into_iter().map(|(_, name, value)| (name, value)).collect()
}

/// A line of `.env`.
pub fn env_line(name: &str, value: &str) -> String {
    dotenv::line(name, value)
}

const UNKNOWN: &str = "is none of these";
const OUT_OF_RANGE: &str = "is out of range";

struct Sources<E> {
    env: E,
    file: DotEnv,
}

impl<E: Fn(&str) -> Option<String>> Sources<E> {
    /// A setting with a default.
    fn need<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<T, ConfigError> {
        match self.want(name, &parse)? {
            Some(value) => Ok(value),
            None => {
                Ok(parse(variables::declared(name).default).expect("defaults are allowed: tested"))
            }
        }
    }

    /// A setting without one.
    fn want<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, ConfigError> {
        let variable = variables::declared(name);
        let is_set = |value: &String| !value.trim().is_empty();
        let (place, value) = if let Some(value) = (self.env)(name).filter(is_set) {
            ("environment".to_owned(), Ok(value))
        } else if let Some((place, value)) = self.file.get(name) {
            (place, value.clone())
        } else {
            return Ok(None);
        };
        let refused = |problem| ConfigError::Value {
            place,
            name: variable.name,
            problem,
            allowed: variable.allowed,
        };
        match value {
            Err(problem) => Err(refused(problem.to_owned())),
            Ok(value) if !is_set(&value) => Ok(None),
            Ok(value) => parse(value.trim()).map(Some).map_err(|problem| {
                let what =
                    if variable.is_secret { "the value" } else { &format!("`{}`", shown(&value)) };
                refused(format!("{what} {problem}"))
            }),
        }
    }
}

/// A time zone by its IANA name; nothing else, since `TZ=IST-2` means different things to
/// different readers.
///
/// # Errors
/// What is wrong with it.
pub fn timezone(name: &str) -> Result<Tz, &'static str> {
    name.parse().map_err(|_| "is no time zone of the IANA database")
}

fn system_timezone() -> Tz {
    iana_time_zone::get_timezone().ok().and_then(|name| name.parse().ok()).unwrap_or(Tz::UTC)
}

/// A name that an assistant can have.
///
/// # Errors
/// What is wrong with it.
pub fn assistant_name(text: &str) -> Result<String, &'static str> {
    if text.chars().count() > 50 || text.contains(char::is_control) {
        return Err("is too long, or has control characters");
    }
    Ok(text.to_owned())
}

fn yes_or_no(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("is neither"),
    }
}

fn secret_text(text: &str) -> Result<Secret, &'static str> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has characters that no key has");
    }
    Ok(Secret::from(text.to_owned()))
}

fn address(text: &str) -> Result<String, &'static str> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fits = |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
    if !host.is_some_and(fits) {
        return Err("is no such address");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn version(text: &str) -> Result<(u32, u32, u32), &'static str> {
    let mut numbers = text.split('.').map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(second)), Some(Ok(third)), None) => Ok((first, second, third)),
        _ => Err("is no such version"),
    }
}

/// Which hosts may be reached is checked where the connection is made.
fn socket_address(text: &str) -> Result<String, &'static str> {
    let host = text.strip_prefix("wss://").or_else(|| text.strip_prefix("ws://"));
    let fits = |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_some_and(fits) { Ok(text.to_owned()) } else { Err("is no such address") }
}

fn image(text: &str) -> Result<String, &'static str> {
    // A leading dash would be taken for an option.
    if text.starts_with('-') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("is no name of an image");
    }
    Ok(text.to_owned())
}

fn timeout(text: &str) -> Result<Duration, &'static str> {
    number(text, &TIMEOUT_MS, "is not a number of milliseconds").map(Duration::from_millis)
}

fn number(
    text: &str,
    range: &RangeInclusive<u64>,
    problem: &'static str,
) -> Result<u64, &'static str> {
    let number = text.parse().map_err(|_| problem)?;
    if range.contains(&number) { Ok(number) } else { Err(OUT_OF_RANGE) }
}

fn days(text: &str, range: &RangeInclusive<u64>) -> Result<Duration, &'static str> {
    number(text, range, "is not a number of days").map(|days| Duration::from_hours(24 * days))
}

fn absolute_path(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("is no absolute path") }
}

#[cfg(test)]
mod tests;
