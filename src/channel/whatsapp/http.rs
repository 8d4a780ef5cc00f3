//! The few requests beside the connection: the version of WhatsApp's web client, and media.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;
use ureq::Agent;
use ureq::http::uri::Scheme;
use ureq::http::{Request, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use wacore::net::{HttpClient, HttpRequest, HttpResponse};
use wacore::runtime::blocking;
use whatsapp_rust::anyhow;

use super::certificate::{Endpoint, is_loopback};
use super::runtime::Pool;
use super::tls::{self, TlsError};
use crate::limits::{WHATSAPP_HTTP_BYTES_MAX, WHATSAPP_HTTP_MAX};

/// A client for these.
pub(super) struct Http {
    agent: Agent,
    runtime: Arc<Pool>,
    reach: Reach,
}

/// Where requests may go: the server names the hosts, and is not to name those around us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Encrypted, to anywhere.
    Encrypted,
    /// To this machine and in plain, as the connection itself.
    Loopback,
}

impl Http {
    /// For those who are connected to `endpoint`, with the roots of [`super::transport::Sockets`].
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn new(
        endpoint: &Endpoint,
        runtime: Arc<Pool>,
        roots: Option<&Path>,
    ) -> Result<Http, TlsError> {
        let reach = if endpoint.is_tls { Reach::Encrypted } else { Reach::Loopback };
        let roots = roots.map(tls::read_roots).transpose()?.map_or(RootCerts::WebPki, |roots| {
            let owned = |root: &CertificateDer<'_>| Certificate::from_der(root).to_owned();
            RootCerts::from(roots.iter().map(owned))
        });
        let agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(WHATSAPP_HTTP_MAX))
            .max_idle_connections(0)
            .build()
            .into();
        Ok(Http { agent, runtime, reach })
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        let (agent, reach) = (self.agent.clone(), self.reach);
        blocking(&*self.runtime, move || execute(&agent, reach, request)).await
    }
}

fn execute(agent: &Agent, reach: Reach, asked: HttpRequest) -> anyhow::Result<HttpResponse> {
    let mut request = Request::builder().method(asked.method.as_str()).uri(reach.uri(&asked.url)?);
    let mut headers: Vec<_> = asked.headers.into_iter().collect();
    headers.sort();
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut response = match asked.body {
        Some(body) => agent.run(request.body(&body[..])?)?,
        None => agent.run(request.body(())?)?,
    };
    let body = response.body_mut().with_config().limit(WHATSAPP_HTTP_BYTES_MAX).read_to_vec()?;
    Ok(HttpResponse { status_code: response.status().as_u16(), body })
}

impl Reach {
    /// The address as it is asked for: the library writes `https` before whatever host it was told.
    fn uri(self, url: &str) -> anyhow::Result<Uri> {
        let uri: Uri = url.parse()?;
        let is_loopback = uri.host().is_some_and(is_loopback);
        match self {
            Reach::Encrypted if uri.scheme_str() == Some("https") && !is_loopback => Ok(uri),
            Reach::Loopback if is_loopback => {
                let mut parts = uri.into_parts();
                parts.scheme = Some(Scheme::HTTP);
                Ok(Uri::from_parts(parts)?)
            }
            _ => anyhow::bail!("a request to `{}` is not allowed", uri.host().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::super::runtime::block_on;
    use super::*;

    fn check(reach: Reach, url: &str, expected: Option<&str>) {
        assert_eq!(expected, reach.uri(url).ok().map(|uri| uri.to_string()).as_deref(), "{url}");
    }

    #[test]
    fn requests_stay_where_the_connection_is() {
        let far = "https://mmg.whatsapp.net/a?b=c";
        check(Reach::Encrypted, far, Some(far));
        check(Reach::Loopback, far, None);
        check(Reach::Loopback, "https://127.0.0.1:81/a?b=c", Some("http://127.0.0.1:81/a?b=c"));
        for url in ["http://mmg.whatsapp.net/", "https://127.0.0.1:81/", "https://[::1]/", "/a", ""]
        {
            check(Reach::Encrypted, url, None);
        }
    }

    /// Serves one request with `answer`; the client's outcome and what it had asked.
    fn ask(request: HttpRequest, answer: &'static [u8]) -> (anyhow::Result<HttpResponse>, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let url = format!("ws://{}/", listener.local_addr().expect("bound"));
        let request = HttpRequest { url: url.replace("ws:", "https:") + &request.url, ..request };
        let asked = thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let mut head = vec![0; 4096];
            let count = socket.read(&mut head).expect("a request");
            head.truncate(count);
            socket.write_all(answer).unwrap_or_default();
            String::from_utf8(head).expect("text")
        });
        let endpoint = Endpoint::parse(&url, false).expect("this machine");
        let http = Http::new(&endpoint, Pool::start(1).expect("threads"), None).expect("usable");
        (block_on(http.execute(request)), asked.join().expect("asked"))
    }

    #[test]
    fn what_the_server_says_is_an_answer_whatever_it_says() {
        let request = HttpRequest::get("sw.js").with_header("x-y", "z");
        let (answer, asked) = ask(request, b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno");
        let answer = answer.expect("an answer");
        assert_eq!((404, b"no".to_vec()), (answer.status_code, answer.body));
        assert!(asked.starts_with("GET /sw.js HTTP/1.1\r\n") && asked.contains("x-y: z\r\n"));
        let moved = b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n";
        assert_eq!(302, ask(HttpRequest::get(""), moved).0.expect("an answer").status_code);
    }

    #[test]
    fn an_oversized_answer_is_refused() {
        let endless = b"HTTP/1.1 200 OK\r\nContent-Length: 33554433\r\n\r\n";
        ask(HttpRequest::get(""), endless).0.expect_err("too large");
    }
}
