//! The Noise handshake as the server sees it, and the certificates that a client checks in it.
//!
//! A client that never met the server does XX; one that remembers the server's key does IK, and is
//! led to `XXfallback` where that key is no longer the right one.

use std::io;

use buffa::Message as _;
use wacore::crypto::{calculate_curve_signature, generate_curve_key_pair};
use wacore::libsignal::protocol::{KeyPair, PublicKey};
use wacore::noise::{NoiseCipher, NoiseHandshake};
use wacore_binary::consts::{
    NOISE_PATTERN_IK, NOISE_PATTERN_XX, NOISE_PATTERN_XXFALLBACK, WA_CONN_HEADER,
};
use waproto::whatsapp::cert_chain::NoiseCertificate;
use waproto::whatsapp::cert_chain::noise_certificate::Details;
use waproto::whatsapp::handshake_message::{ClientHello, ServerHello};
use waproto::whatsapp::{CertChain, ClientPayload, HandshakeMessage};

use crate::wire::{Reader, Writer};

/// Serial of the intermediate certificate; the leaf names it as its issuer.
const INTERMEDIATE_SERIAL: u32 = 1;
const LEAF_SERIAL: u32 = 2;
/// Validity of the certificates, in seconds since 1970: all of this century.
const VALID_SECONDS: (u64, u64) = (946_684_800, 4_102_444_800);

/// Which handshake a connection was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Nothing known beforehand.
    Xx,
    /// The client knew the server's key.
    Ik,
    /// The client knew a key that is no longer the server's.
    XxFallback,
}

/// The server's keys: a root that signs, and the static key of connections.
pub(crate) struct Identity {
    root: KeyPair,
    fixed: KeyPair,
    certificates: Vec<u8>,
}

impl Identity {
    pub(crate) fn new() -> Identity {
        Identity::below(generate_curve_key_pair())
    }

    /// A new static key below the same root: what clients remember of the old one is now wrong.
    pub(crate) fn renewed(&self) -> Identity {
        Identity::below(self.root.clone())
    }

    fn below(root: KeyPair) -> Identity {
        let (intermediate, fixed) = (generate_curve_key_pair(), generate_curve_key_pair());
        let certificates = CertChain {
            intermediate: certificate(INTERMEDIATE_SERIAL, 0, &intermediate, &root).into(),
            leaf: certificate(LEAF_SERIAL, INTERMEDIATE_SERIAL, &fixed, &intermediate).into(),
        };
        Identity { root, fixed, certificates: certificates.encode_to_vec() }
    }

    /// Public key that signs the intermediate certificate; a client has to be told to trust it.
    pub(crate) fn root_key(&self) -> [u8; 32] {
        key_bytes(&self.root.public_key)
    }
}

fn certificate(serial: u32, issuer: u32, key: &KeyPair, signer: &KeyPair) -> NoiseCertificate {
    let details = Details {
        serial: Some(serial),
        issuer_serial: Some(issuer),
        key: Some(key.public_key.public_key_bytes().to_vec()),
        not_before: Some(VALID_SECONDS.0),
        not_after: Some(VALID_SECONDS.1),
    }
    .encode_to_vec();
    let signature = sign(signer, &details);
    NoiseCertificate { details: Some(details), signature: Some(signature) }
}

/// `XEdDSA` signature of `signer`, as certificates and device identities have it.
pub(crate) fn sign(signer: &KeyPair, message: &[u8]) -> Vec<u8> {
    calculate_curve_signature(&signer.private_key, message).expect("any key signs").to_vec()
}

pub(crate) fn key_bytes(key: &PublicKey) -> [u8; 32] {
    key.public_key_bytes().try_into().expect("a Curve25519 key has 32 bytes")
}

/// What a finished handshake says of the client.
pub(crate) struct Greeting {
    pub(crate) pattern: Pattern,
    /// The client's static key, which it has to show again at each login.
    pub(crate) client_key: [u8; 32],
    pub(crate) payload: ClientPayload,
    /// Opens what comes from the client.
    pub(crate) incoming: NoiseCipher,
    /// Seals what goes to the client.
    pub(crate) outgoing: NoiseCipher,
}

/// Leads a client through the handshake that it asks for.
///
/// # Errors
/// The socket failed, or the client does not speak the protocol.
pub(crate) fn greet(
    identity: &Identity,
    reader: &mut Reader,
    writer: &mut Writer,
) -> io::Result<Greeting> {
    let hello = decode(&reader.frame()?)?.client_hello.into_option().ok_or_else(malformed)?;
    let ephemeral = hello.ephemeral.as_deref().ok_or_else(malformed)?.to_vec();
    if hello.r#static.is_none() {
        return greet_new(identity, Pattern::Xx, &ephemeral, reader, writer);
    }
    match greet_known(identity, &hello, &ephemeral, writer)? {
        Some(greeting) => Ok(greeting),
        None => greet_new(identity, Pattern::XxFallback, &ephemeral, reader, writer),
    }
}

/// XX, and `XXfallback`, which is the same with another name.
fn greet_new(
    identity: &Identity,
    pattern: Pattern,
    their_ephemeral: &[u8],
    reader: &mut Reader,
    writer: &mut Writer,
) -> io::Result<Greeting> {
    let name = match pattern {
        Pattern::XxFallback => NOISE_PATTERN_XXFALLBACK,
        Pattern::Xx | Pattern::Ik => NOISE_PATTERN_XX,
    };
    let ephemeral = generate_curve_key_pair();
    let mut noise = NoiseHandshake::new(name, &WA_CONN_HEADER).map_err(io::Error::other)?;
    noise.authenticate(their_ephemeral);
    noise.authenticate(ephemeral.public_key.public_key_bytes());
    mix(&mut noise, &ephemeral, their_ephemeral)?;
    let fixed = seal(&mut noise, identity.fixed.public_key.public_key_bytes())?;
    mix(&mut noise, &identity.fixed, their_ephemeral)?;
    let certificates = seal(&mut noise, &identity.certificates)?;
    writer.frame(&server_hello(&ephemeral, Some(fixed), certificates))?;

    let finish = decode(&reader.frame()?)?.client_finish.into_option().ok_or_else(malformed)?;
    let client_key = open(&mut noise, finish.r#static.as_deref())?;
    mix(&mut noise, &ephemeral, &client_key)?;
    let payload = open(&mut noise, finish.payload.as_deref())?;
    finished(pattern, noise, &client_key, &payload)
}

/// IK; nothing where the client counts on another static key than ours.
fn greet_known(
    identity: &Identity,
    hello: &ClientHello,
    their_ephemeral: &[u8],
    writer: &mut Writer,
) -> io::Result<Option<Greeting>> {
    let ephemeral = generate_curve_key_pair();
    let mut noise =
        NoiseHandshake::new(NOISE_PATTERN_IK, &WA_CONN_HEADER).map_err(io::Error::other)?;
    noise.authenticate(identity.fixed.public_key.public_key_bytes());
    noise.authenticate(their_ephemeral);
    mix(&mut noise, &identity.fixed, their_ephemeral)?;
    let Ok(client_key) = open(&mut noise, hello.r#static.as_deref()) else {
        return Ok(None);
    };
    mix(&mut noise, &identity.fixed, &client_key)?;
    let payload = open(&mut noise, hello.payload.as_deref())?;
    noise.authenticate(ephemeral.public_key.public_key_bytes());
    mix(&mut noise, &ephemeral, their_ephemeral)?;
    mix(&mut noise, &ephemeral, &client_key)?;
    let certificates = seal(&mut noise, &identity.certificates)?;
    writer.frame(&server_hello(&ephemeral, None, certificates))?;
    finished(Pattern::Ik, noise, &client_key, &payload).map(Some)
}

fn finished(
    pattern: Pattern,
    noise: NoiseHandshake,
    client_key: &[u8],
    payload: &[u8],
) -> io::Result<Greeting> {
    // Named as the client sees them.
    let (write, read) = noise.finish().map_err(io::Error::other)?;
    Ok(Greeting {
        pattern,
        client_key: client_key.try_into().map_err(|_| malformed())?,
        payload: ClientPayload::decode_from_slice(payload).map_err(|_| malformed())?,
        incoming: write,
        outgoing: read,
    })
}

fn server_hello(ephemeral: &KeyPair, fixed: Option<Vec<u8>>, payload: Vec<u8>) -> Vec<u8> {
    HandshakeMessage {
        server_hello: ServerHello {
            ephemeral: Some(ephemeral.public_key.public_key_bytes().to_vec()),
            r#static: fixed,
            payload: Some(payload),
            ..ServerHello::default()
        }
        .into(),
        ..HandshakeMessage::default()
    }
    .encode_to_vec()
}

fn mix(noise: &mut NoiseHandshake, ours: &KeyPair, theirs: &[u8]) -> io::Result<()> {
    noise.mix_shared_secret(ours.private_key.serialize(), theirs).map_err(io::Error::other)
}

fn seal(noise: &mut NoiseHandshake, plain: &[u8]) -> io::Result<Vec<u8>> {
    noise.encrypt(plain).map_err(io::Error::other)
}

fn open(noise: &mut NoiseHandshake, sealed: Option<&[u8]>) -> io::Result<Vec<u8>> {
    noise.decrypt(sealed.ok_or_else(malformed)?).map_err(io::Error::other)
}

fn decode(frame: &[u8]) -> io::Result<HandshakeMessage> {
    HandshakeMessage::decode_from_slice(frame).map_err(|_| malformed())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed handshake")
}
