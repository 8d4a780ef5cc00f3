//! The model API as the host reaches it: address, credential, and which headers pass the wall.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use ureq::Agent;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::route::Route;
use super::wire::{Fault, Head, Length};
use super::{Credential, Error};
use crate::ids::UnixMs;
use crate::limits::{MODEL_CONNECT_MAX, MODEL_SILENCE_MAX, PROXY_COPY_BYTES, PROXY_HEAD_BYTES_MAX};

/// Where the model API is reached if `ANTHROPIC_BASE_URL` says nothing else.
pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";

/// Opts in to OAuth tokens; the Claude Code CLI sends it with each request of a subscription.
const OAUTH_BETA: &str = "oauth-2025-04-20";
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Headers of a request that pass, with [`REQUEST_PREFIXES`]. All others stay outside: those of the
/// connection, every credential, and any that a gateway could take for another address.
const REQUEST_HEADERS: [&str; 6] =
    ["accept", "accept-language", "content-type", "user-agent", "x-app", "x-client-request-id"];
const REQUEST_PREFIXES: [&str; 4] = ["anthropic-", "x-anthropic-", "x-claude-", "x-stainless-"];

/// Headers of an answer that do not pass: those of the connection, and what names the account.
const RESPONSE_HEADERS_KEPT: [&str; 12] = [
    "anthropic-organization-id",
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The model API and what opens it.
#[derive(Clone, Debug)]
pub struct Upstream {
    base_url: String,
    name: HeaderName,
    value: HeaderValue,
    tls: TlsConfig,
}

impl Upstream {
    /// Checks that `credential` can be sent to `base_url`, which may have a path of its own.
    /// `roots` is the `SSL_CERT_FILE` of those who sit behind a gateway with its own certificate;
    /// without it the roots of Mozilla count, which are built in.
    ///
    /// # Errors
    /// [`Error::BaseUrl`], [`Error::Credential`], [`Error::Roots`].
    pub fn new(
        base_url: &str,
        credential: &Credential,
        roots: Option<&Path>,
    ) -> Result<Upstream, Error> {
        let (name, text) = match credential {
            Credential::ApiKey(key) => (API_KEY, key.reveal().to_owned()),
            Credential::OauthToken(token) => {
                (header::AUTHORIZATION, format!("Bearer {}", token.reveal()))
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| Error::Credential)?;
        value.set_sensitive(true);
        let root_certs = roots.map(read_roots).transpose()?.unwrap_or(RootCerts::WebPki);
        let tls = TlsConfig::builder().root_certs(root_certs).build();
        Ok(Upstream { base_url: checked(base_url)?, name, value, tls })
    }

    /// The one at `base_url`, else the API's own, with the certificates that the environment names.
    ///
    /// # Errors
    /// As [`Upstream::new`].
    pub fn here(base_url: Option<&str>, credential: &Credential) -> Result<Upstream, Error> {
        let roots = std::env::var_os("SSL_CERT_FILE");
        let roots = roots.as_deref().filter(|path| !path.is_empty()).map(Path::new);
        Upstream::new(base_url.unwrap_or(DEFAULT_BASE_URL), credential, roots)
    }

    /// A client for one connection of a sandbox. Runs share none: what one run's requests did to a
    /// connection, or to the cookies and sessions of one, cannot reach another's.
    pub(super) fn agent(&self) -> Agent {
        Agent::config_builder()
            .tls_config(self.tls.clone())
            // The way to the model API is the one of the settings; an environment that was made
            // for other programs must not lead the key elsewhere.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent("")
            .accept("")
            .timeout_connect(Some(MODEL_CONNECT_MAX))
            .timeout_per_read(Some(MODEL_SILENCE_MAX))
            .timeout_per_write(Some(MODEL_SILENCE_MAX))
            .max_response_header_size(PROXY_HEAD_BYTES_MAX)
            .input_buffer_size(PROXY_COPY_BYTES)
            .output_buffer_size(PROXY_COPY_BYTES)
            .max_idle_connections(1)
            .build()
            .into()
    }

    /// Asks for the list of models: it costs nothing and needs the credential. Tells the status of
    /// the answer, and the time that the other side says it is.
    ///
    /// # Errors
    /// No answer within `time_max`.
    pub fn probe(&self, time_max: Duration) -> Result<(u16, Option<UnixMs>), ureq::Error> {
        let mut request = Request::get(format!("{}/v1/models?limit=1", self.base_url))
            .header(&self.name, &self.value)
            .header("anthropic-version", "2023-06-01");
        if self.name == header::AUTHORIZATION {
            request = request.header(BETA, OAUTH_BETA);
        }
        let agent = self.agent();
        let request = agent.configure_request(request.body(())?);
        let answer = agent.run(request.timeout_global(Some(time_max)).build())?;
        let said = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let said = said.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        Ok((answer.status().as_u16(), said.map(|at| UnixMs(at.timestamp_millis()))))
    }

    /// The request that goes out in place of `head`.
    pub(super) fn request(&self, head: &Head, route: &Route<'_>) -> Result<Request<()>, Fault> {
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = format!("{}{}", self.base_url, route.target)
            .parse()
            .map_err(|_| Fault::refused(400, "invalid_request_error", "the path is malformed"))?;
        let headers = request.headers_mut();
        for (name, value) in &head.headers {
            let text = name.as_str();
            let passes = REQUEST_HEADERS.contains(&text)
                || REQUEST_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
            if passes {
                headers.append(name.clone(), value.clone());
            }
        }
        // So that the token counts can be read in passing.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Length::Bytes(bytes) = head.length
            && head.method == Method::POST
        {
            headers.insert(header::CONTENT_LENGTH, bytes.into());
        }
        if self.name == header::AUTHORIZATION {
            headers.insert(BETA, with_oauth(headers)?);
        }
        headers.insert(self.name.clone(), self.value.clone());
        Ok(request)
    }
}

/// Whether a header of an answer reaches the sandbox.
pub(super) fn passes_back(name: &HeaderName) -> bool {
    !RESPONSE_HEADERS_KEPT.contains(&name.as_str())
}

/// All betas asked for, on one line, and the one that OAuth needs.
fn with_oauth(headers: &HeaderMap) -> Result<HeaderValue, Fault> {
    let asked = headers.get_all(BETA).iter().map(HeaderValue::as_bytes);
    let mut betas: Vec<&[u8]> = asked
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|beta| !beta.is_empty() && *beta != OAUTH_BETA.as_bytes())
        .collect();
    betas.push(OAUTH_BETA.as_bytes());
    HeaderValue::from_bytes(&betas.join(&b','))
        .map_err(|_| Fault::refused(400, "invalid_request_error", "`anthropic-beta` is malformed"))
}

fn checked(base_url: &str) -> Result<String, Error> {
    let bad = |problem| Error::BaseUrl { problem };
    let base_url = base_url.trim_end_matches('/');
    let uri: Uri = base_url.parse().map_err(|_| bad("is no URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("does not start with `https://` or `http://`"));
    }
    let has_user = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
    if has_user || uri.query().is_some() || base_url.contains('#') {
        return Err(bad("has a user, a query or a fragment: only host, port and path are allowed"));
    }
    Ok(base_url.to_owned())
}

fn read_roots(path: &Path) -> Result<RootCerts, Error> {
    let unusable = |source| Error::Roots { path: path.to_owned(), source };
    let pem = std::fs::read(path).map_err(unusable)?;
    let certs: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certs.is_empty() {
        return Err(unusable(io::Error::new(io::ErrorKind::InvalidData, "no certificate in it")));
    }
    Ok(RootCerts::Specific(Arc::new(certs)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;

    fn key() -> Credential {
        Credential::ApiKey(Secret::from("sk-planted".to_owned()))
    }

    fn check(base_url: &str, expected: Option<&str>) {
        let found = Upstream::new(base_url, &key(), None);
        assert_eq!(expected, found.ok().map(|upstream| upstream.base_url).as_deref(), "{base_url}");
    }

    #[test]
    fn addresses() {
        check("https://api.anthropic.com", Some("https://api.anthropic.com"));
        check("https://gateway.example:8443/claude/", Some("https://gateway.example:8443/claude"));
        check("http://127.0.0.1:1", Some("http://127.0.0.1:1"));
        for bad in [
            "",
            "api.anthropic.com",
            "/v1",
            "ftp://a.example",
            "https://",
            "https://user:password@a.example",
            "https://a.example/?x=y",
            "https://a.example/#x",
            "https://a.example/ x",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn h52_neither_debug_nor_errors_show_a_secret() {
        let upstream = Upstream::new(DEFAULT_BASE_URL, &key(), None).expect("usable");
        assert!(!format!("{upstream:?} {:?}", key()).contains("planted"));
        let broken = Credential::OauthToken(Secret::from("planted\r\nx: y".to_owned()));
        let error = Upstream::new(DEFAULT_BASE_URL, &broken, None).expect_err("line break");
        assert!(!format!("{error} {error:?}").contains("planted"));
        let error = Upstream::new("https://u:planted@a.example", &key(), None).expect_err("user");
        assert!(!format!("{error} {error:?}").contains("planted"));
    }

    #[test]
    fn certificates_come_from_the_named_file_or_not_at_all() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("roots.pem");
        let made = |path: &Path| Upstream::new(DEFAULT_BASE_URL, &key(), Some(path)).is_ok();
        assert!(!made(&path));
        std::fs::write(&path, "nothing").expect("written");
        assert!(!made(&path));
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, pem).expect("written");
        assert!(made(&path));
    }

    #[test]
    fn betas_are_merged() {
        let mut headers = HeaderMap::new();
        let merged = |headers: &HeaderMap| with_oauth(headers).expect("mergeable");
        assert_eq!("oauth-2025-04-20", merged(&headers));
        headers.append(BETA, HeaderValue::from_static("a-1, oauth-2025-04-20,"));
        headers.append(BETA, HeaderValue::from_static("b-2"));
        assert_eq!("a-1,b-2,oauth-2025-04-20", merged(&headers));
    }
}
