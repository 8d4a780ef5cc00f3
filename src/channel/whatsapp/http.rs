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
