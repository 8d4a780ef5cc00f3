//! Whom we talk to. The protocol library checks the server's certificate against a key of
//! WhatsApp's, unless it was built with a feature that our own tests need. Such a build must never
//! leave this machine, however it came to be: [`certificates_are_checked`] finds out, and
//! [`Endpoint::parse`] then takes addresses of this machine only.

use std::net::IpAddr;

use buffa::Message as _;
use tungstenite::http::Uri;
use wacore::handshake::HandshakeUtils;
use waproto::whatsapp::{CertChain, cert_chain};

/// Why an address is not used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is none.
    #[error("is no address of the form `wss://HOST/PATH`")]
    Malformed,
    /// Anyone could read along.
    #[error("is not encrypted: `ws://` is for addresses like `ws://127.0.0.1:PORT/PATH` only")]
    Plain,
    /// This build takes anyone for WhatsApp.
    #[error(
        "is not on this machine, and this is a test build that checks no certificates: \
         run `cargo build` and use that"
    )]
    Unchecked,
}

/// Where WhatsApp's server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The whole address, for the request.
    pub(super) uri: Uri,
    /// Name or number, without brackets.
    pub(super) host: String,
    /// TCP port.
    pub(super) port: u16,
    /// Whether it is encrypted. Without that, it is on this machine.
    pub(super) is_tls: bool,
}

impl Endpoint {
    /// Checks a `ws://` or `wss://` address; `checked` is [`certificates_are_checked`].
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn parse(url: &str, checked: bool) -> Result<Endpoint, Refused> {
        let uri: Uri = url.parse().map_err(|_| Refused::Malformed)?;
        let is_tls = match uri.scheme_str() {
            Some("wss") => true,
            Some("ws") => false,
            _ => return Err(Refused::Malformed),
        };
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(Refused::Malformed);
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(Refused::Malformed)?;
        if !is_loopback(host) {
            if !is_tls {
                return Err(Refused::Plain);
            }
            if !checked {
                return Err(Refused::Unchecked);
            }
        }
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Endpoint { uri, host, port, is_tls })
    }

    /// Whether it is not on this machine.
    pub(super) fn is_far(&self) -> bool {
        !is_loopback(&self.host)
    }
}

/// Whether a host of an address is this machine. A number only: a name leads where others say.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the library in this build refuses a chain that nobody signed.
pub(crate) fn certificates_are_checked() -> bool {
    let key = [1; 32];
    let signed_by_nobody = |serial, issuer_serial| {
        let details = cert_chain::noise_certificate::Details {
            serial: Some(serial),
            issuer_serial: Some(issuer_serial),
            key: Some(key.to_vec()),
            ..Default::default()
        };
        buffa::MessageField::some(cert_chain::NoiseCertificate {
            details: Some(details.encode_to_vec()),
            signature: Some(vec![0; 64]),
        })
    };
    let chain = CertChain { intermediate: signed_by_nobody(1, 0), leaf: signed_by_nobody(2, 1) };
    HandshakeUtils::verify_server_cert(&chain.encode_to_vec(), &key).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, checked: bool, expected: &Result<(&str, u16, bool), Refused>) {
        let found = Endpoint::parse(url, checked);
        let found = found.as_ref().map(|found| (found.host.as_str(), found.port, found.is_tls));
        assert_eq!(expected.as_ref().copied(), found, "{url}");
    }

    #[test]
    fn without_the_check_only_this_machine_is_talked_to() {
        let real = "wss://web.whatsapp.com/ws/chat";
        check(real, true, &Ok(("web.whatsapp.com", 443, true)));
        check(real, false, &Err(Refused::Unchecked));
        for checked in [true, false] {
            check("ws://127.0.0.1:81/ws/chat", checked, &Ok(("127.0.0.1", 81, false)));
            check("wss://127.9.9.9/", checked, &Ok(("127.9.9.9", 443, true)));
            check("ws://[::1]:81/", checked, &Ok(("::1", 81, false)));
        }
    }

    #[test]
    fn what_only_looks_like_this_machine_is_elsewhere() {
        for host in [
            "localhost",
            "127.0.0.1.example",
            "127.1",
            "2130706433",
            "0.0.0.0",
            "[::ffff:8.8.8.8]",
            "127.0.0.1.",
        ] {
            check(&format!("wss://{host}/"), false, &Err(Refused::Unchecked));
            check(&format!("ws://{host}/"), true, &Err(Refused::Plain));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "",
            "web.whatsapp.com",
            "https://web.whatsapp.com/",
            "wss://",
            "wss:///ws/chat",
            "wss://127.0.0.1@evil.example/",
            "ws://evil.example@127.0.0.1/",
            "wss://a b/",
        ] {
            check(url, true, &Err(Refused::Malformed));
        }
    }

    /// Unit tests are built with the feature, for the sake of the others: the finding must be so.
    #[test]
    fn a_build_without_the_check_is_found_out() {
        assert!(!certificates_are_checked());
    }
}
