//! Encryption on the way to the server, by rustls: over bytes, not over a socket.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, pem};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Why the certificates of those we trust cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The file is missing, or holds something else.
    #[error("cannot use the certificates in `{}`", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The file holds none that is usable.
    #[error("no usable certificate in `{}`", path.display())]
    NoRoots {
        /// The file.
        path: PathBuf,
    },
    /// The library does not support what we ask of it.
    #[error("cannot prepare TLS")]
    Unsupported {
        /// What it said.
        #[from]
        source: rustls::Error,
    },
}

/// The certificates in the file `path` (PEM).
pub(super) fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = |source| TlsError::Roots { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path)
        .map_err(unusable)?
        .map(|der| der.map_err(unusable))
        .collect()
}

/// Trusts the certificates in the file `roots`, or without one those of Mozilla's list, which are
/// built in.
pub(super) fn config(roots: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut store = RootCertStore::empty();
    if let Some(path) = roots {
        // One that is no root of a kind that we know is left out, as others do.
        let (usable_count, _) = store.add_parsable_certificates(read_roots(path)?);
        if usable_count == 0 {
            return Err(TlsError::NoRoots { path: path.to_owned() });
        }
    } else {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// One connection's state, before its first byte.
pub(super) fn connection(config: &Arc<ClientConfig>, host: &str) -> io::Result<ClientConnection> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)
}

/// Decrypts what came from the socket onto the end of `plain`.
pub(super) fn decrypt(
    tls: &mut ClientConnection,
    mut received: &[u8],
    plain: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        if !received.is_empty() {
            tls.read_tls(&mut received)?;
        }
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let count = state.plaintext_bytes_to_read();
        if 0 < count {
            let start = plain.len();
            plain.resize(start + count, 0);
            tls.reader().read_exact(&mut plain[start..])?;
        }
        if received.is_empty() {
            return Ok(());
        }
    }
}

/// Encrypts `plain` to the socket, and whatever else TLS has to say.
pub(super) fn encrypt(
    tls: &mut ClientConnection,
    mut plain: &[u8],
    socket: &mut impl Write,
) -> io::Result<()> {
    loop {
        // Takes no more than its buffer holds.
        let count = tls.writer().write(plain)?;
        plain = &plain[count..];
        while tls.wants_write() {
            tls.write_tls(socket)?;
        }
        if plain.is_empty() {
            return Ok(());
        }
    }
}
