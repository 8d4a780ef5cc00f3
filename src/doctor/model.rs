//! The key of the model API: what kind it is, whether it is taken, how long it lasts (hazard 77).

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rust_claw_protocol::inside;

use super::command::key_command;
use super::host::{CLOCK_SKEW_MAX, MEND_CLOCK};
use super::{Line, Scene};
use crate::config::{AgentEngine, CredentialsChoice, Settings};
use crate::credentials::{self, Credential, Upstream};
use crate::ids::UnixMs;

/// How long the model API may take to say whether it takes the key.
const ANSWER_MAX: Duration = Duration::from_millis(2500);
/// Of the file in which the Claude Code CLI keeps the login of a person.
const LOGIN_BYTES_MAX: u64 = 64 * 1024;

/// What a credential is, by its look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For programs: does not expire.
    ApiKey,
    /// Of `claude setup-token` (a year) or of a login (hours).
    OauthToken,
    /// For the administration of an account: the model is not behind it.
    AdminKey,
    /// Of a gateway perhaps.
    Unknown,
}

/// The kind by its look. Source: the prefixes that Anthropic gives to its keys.
pub fn kind_of(text: &str) -> Kind {
    let prefixes = [
        ("sk-ant-api", Kind::ApiKey),
        ("sk-ant-oat", Kind::OauthToken),
        ("sk-ant-admin", Kind::AdminKey),
    ];
    let found = prefixes.into_iter().find(|(prefix, _)| text.starts_with(prefix));
    found.map_or(Kind::Unknown, |(_, kind)| kind)
}

/// What the model API says of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes it; the time that it says it is.
    Taken(Option<UnixMs>),
    /// It does not.
    Refused(u16),
    /// It has not said; why.
    Unknown(String),
}

/// Asks the model API whether it takes the credential.
///
/// # Errors
/// An address or a file of certificates that cannot be used.
pub fn ask(base_url: Option<&str>, key: &Credential) -> Result<Verdict, credentials::Error> {
    Ok(match Upstream::here(base_url, key)?.probe(ANSWER_MAX) {
        Ok((200, at)) => Verdict::Taken(at),
        Ok((status @ (401 | 403), _)) => Verdict::Refused(status),
        Ok((status, _)) => Verdict::Unknown(format!("it answers with status {status}")),
        Err(error) => Verdict::Unknown(error.to_string()),
    })
}

/// All of it.
pub(super) fn model(scene: &Scene<'_>) -> Vec<Line> {
    let Ok(settings) = &scene.settings else { return Vec::new() };
    let credential = settings.credential();
    let mend = key_command(scene.home, credential.as_ref(), &scene.environment);
    let Some(credential) = credential else {
        let says = "none, so the demo engine answers";
        return vec![match settings.engine() {
            AgentEngine::Demo => Line::remark("key", says, Some(mend)),
            AgentEngine::Claude => Line::bad("key", "none, and AGENT_ENGINE is `claude`", mend),
        }];
    };
    let mut lines = vec![key(scene, &credential, &mend)];
    match ask(settings.anthropic_base_url.as_deref(), &credential) {
        Ok(Verdict::Taken(at)) => {
            lines.push(Line::good("model", "the model API takes the key"));
            lines.extend(at.map(|at| clock(scene, at)));
        }
        Ok(Verdict::Refused(status)) => {
            let says = format!("the model API refuses the key with status {status}");
            lines.push(Line::bad("model", says, mend));
        }
        Ok(Verdict::Unknown(why)) => {
            let says = format!("whether the model API takes the key is not known: {why}");
            lines.push(Line::remark("model", says, None));
        }
        Err(error @ credentials::Error::Roots { .. }) => {
            lines.push(Line::bad("model", crate::chain(&error), "unset SSL_CERT_FILE"));
        }
        Err(error @ credentials::Error::BaseUrl { .. }) => {
            let mend = scene.own("setup --unset ANTHROPIC_BASE_URL");
            lines.push(Line::bad("model", crate::chain(&error), mend));
        }
        Err(error) => lines.push(Line::bad("model", crate::chain(&error), mend)),
    }
    lines.push(proxy(scene, settings));
    lines
}

fn key(scene: &Scene<'_>, credential: &Credential, mend: &str) -> Line {
    let (name, text) = (credential.setting(), credential.secret().reveal());
    match (credential, kind_of(text)) {
        (Credential::ApiKey(_), Kind::ApiKey) => Line::good("key", "API key, does not expire"),
        (_, Kind::AdminKey) => {
            Line::bad("key", format!("{name} is a key for administration, not for the model"), mend)
        }
        (Credential::ApiKey(_), Kind::OauthToken) => Line::bad(
            "key",
            "ANTHROPIC_API_KEY is an OAuth token; that belongs into CLAUDE_CODE_OAUTH_TOKEN",
            mend,
        ),
        (Credential::OauthToken(_), Kind::ApiKey) => Line::bad(
            "key",
            "CLAUDE_CODE_OAUTH_TOKEN is an API key; that belongs into ANTHROPIC_API_KEY",
            mend,
        ),
        (Credential::ApiKey(_), Kind::Unknown) => {
            Line::good("key", "API key of a kind that is not known, of a gateway perhaps")
        }
        (Credential::OauthToken(_), Kind::OauthToken | Kind::Unknown) => {
            let login = scene.user_home.as_deref().and_then(login);
            let expires = login.filter(|(token, _)| token == text).map(|(_, at)| at);
            match expires {
                Some(at) if at <= scene.now => {
                    let hours = scene.now.since(at).as_secs() / 3600;
                    let says = format!("OAuth token of a login, which expired {hours} h ago");
                    Line::bad("key", says, mend)
                }
                Some(at) => {
                    let hours = at.since(scene.now).as_secs() / 3600;
                    let says = format!(
                        "OAuth token of a login, expires in {hours} h; an API key does not, and \
                         a token of `claude setup-token` lasts a year"
                    );
                    Line::remark("key", says, Some(mend.to_owned()))
                }
                None => Line::good(
                    "key",
                    "OAuth token; of `claude setup-token` it lasts a year, of a login some hours, \
                     an API key for ever",
                ),
            }
        }
    }
}

/// Token of the login that the Claude Code CLI keeps, and when it expires.
fn login(user_home: &Path) -> Option<(String, UnixMs)> {
    let mut text = String::new();
    let file = File::open(user_home.join(".claude/.credentials.json")).ok()?;
    file.take(LOGIN_BYTES_MAX).read_to_string(&mut text).ok()?;
    let login: serde_json::Value = serde_json::from_str(&text).ok()?;
    let login = &login["claudeAiOauth"];
    Some((login["accessToken"].as_str()?.to_owned(), UnixMs(login["expiresAt"].as_i64()?)))
}

/// The clock, held against the other side's.
fn clock(scene: &Scene<'_>, theirs: UnixMs) -> Line {
    let apart = scene.now.since(theirs).max(theirs.since(scene.now));
    if apart <= CLOCK_SKEW_MAX {
        return Line::good("clock", "agrees with the model API's");
    }
    Line::bad("clock", format!("it is {} s off the model API's", apart.as_secs()), MEND_CLOCK)
}

/// The way of a sandbox to the model API.
fn proxy(scene: &Scene<'_>, settings: &Settings) -> Line {
    if settings.credentials == CredentialsChoice::Stdin {
        let says = "CREDENTIALS=stdin: the key is inside every sandbox; the proxy keeps it out";
        return Line::remark("proxy", says, Some(scene.own("setup --unset CREDENTIALS")));
    }
    let name = Path::new(inside::PROXY_SOCKET).file_name().expect("a path with a name");
    let socket = scene.home.proxy().join(name);
    match (scene.holder, UnixStream::connect(&socket)) {
        (None, _) => Line::good("proxy", "starts with the daemon"),
        (Some(_), Ok(_)) => Line::good("proxy", "answers"),
        (Some(_), Err(error)) => {
            Line::remark("proxy", format!("the daemon that runs offers none: {error}"), None)
        }
    }
}
