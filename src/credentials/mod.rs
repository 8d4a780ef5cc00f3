//! Which secret opens the model API, and the proxy that keeps it outside of every sandbox.
//!
//! A sandbox gets a token from [`ProxyHandle::issue`] and the way to the proxy: on Linux a Unix
//! socket (mount its directory read-only: who can write there can put a socket of their own in its
//! place), elsewhere a loopback port. The proxy takes the model API's requests with a live token,
//! puts the real credential in its place and copies the answer back as it comes.
//!
//! The token is the only identity: who has another run's token is that run, until it ends. Without
//! a token the socket gives nothing but 401.
//!
//! Never here: a secret in a log, an error, an answer or a `Debug`; a request to any other host or
//! path; a decision from what a sandbox says about itself.
//!
//! ```text
//! sandbox → wire (one request, bounded) → registry (whose token?) → route → upstream (headers)
//!         ← exchange (copy, chunk by chunk) ← meter (token counts) ← model API
//! ```

mod exchange;
mod meter;
mod proxy;
mod registry;
mod route;
#[cfg(test)]
mod tests;
mod upstream;
mod wire;

use std::fmt;
use std::io;
use std::path::PathBuf;

use rust_claw_protocol::Secrets;

pub use proxy::{Address, Listen, Proxy};
pub use registry::{ProxyHandle, RunUsage, Token};
pub use upstream::{DEFAULT_BASE_URL, Upstream};

/// A value that never shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value, for the one place that uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Secret {
        Secret(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What opens the model API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `ANTHROPIC_API_KEY`.
    ApiKey(Secret),
    /// `CLAUDE_CODE_OAUTH_TOKEN`.
    OauthToken(Secret),
}

impl Credential {
    /// The one to use of those that are set: an API key wins, since it does not expire.
    pub fn choose(api_key: Option<Secret>, oauth_token: Option<Secret>) -> Option<Credential> {
        api_key.map(Credential::ApiKey).or(oauth_token.map(Credential::OauthToken))
    }

    /// The setting that it comes from.
    pub fn setting(&self) -> &'static str {
        match self {
            Credential::ApiKey(_) => "ANTHROPIC_API_KEY",
            Credential::OauthToken(_) => "CLAUDE_CODE_OAUTH_TOKEN",
        }
    }

    /// The key or token itself.
    pub fn secret(&self) -> &Secret {
        match self {
            Credential::ApiKey(secret) | Credential::OauthToken(secret) => secret,
        }
    }
}

/// What a sandbox is given where the proxy cannot be reached (`CREDENTIALS=stdin`): the credential
/// itself, and nothing else of the settings.
pub fn stdin_secrets(credential: Option<&Credential>) -> Secrets {
    let mut secrets = Secrets::default();
    match credential {
        Some(Credential::ApiKey(key)) => secrets.anthropic_api_key = Some(key.reveal().to_owned()),
        Some(Credential::OauthToken(token)) => {
            secrets.claude_code_oauth_token = Some(token.reveal().to_owned());
        }
        None => (),
    }
    secrets
}

/// Why there is no proxy, or no upstream for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket or port cannot be had.
    #[error("cannot listen on `{place}` for the credential proxy")]
    Listen {
        /// Path or address.
        place: String,
        /// What the system says.
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start the credential proxy")]
    Start {
        /// What the system says.
        source: io::Error,
    },
    /// `ANTHROPIC_BASE_URL` cannot be used. The address is not shown: it may hold a password.
    #[error("the address of the model API {problem}")]
    BaseUrl {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The key or token has characters that no header can carry.
    #[error("the model API's key has a space, a line break or another character no key has")]
    Credential,
    /// `SSL_CERT_FILE` cannot be used.
    #[error("cannot take certificates from `{}`", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}
