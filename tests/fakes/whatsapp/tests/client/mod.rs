//! A client with no more than the tests need: handshakes, pairing, stanzas. It checks the
//! certificates against the server's own root, which real clients cannot be told to do.

use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use buffa::Message as _;
use rust_claw_fake_whatsapp::{Server, wa};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Bytes, Message, WebSocket};
use wa::handshake_message::{ClientFinish, ClientHello};
use wacore::crypto::{calculate_curve_signature, generate_curve_key_pair};
use wacore::framing::{FrameDecoder, encode_frame};
use wacore::libsignal::protocol::{KeyPair, PublicKey};
use wacore::noise::{NoiseCipher, NoiseHandshake};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::consts::{
    NOISE_PATTERN_IK, NOISE_PATTERN_XX, NOISE_PATTERN_XXFALLBACK, WA_CONN_HEADER,
};
use wacore_binary::marshal::unmarshal_ref;
use wacore_binary::util::unpack;
use wacore_binary::{Jid, Node, NodeContent, marshal};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a device keeps between connections.
pub(crate) struct Device {
    noise: KeyPair,
    identity: KeyPair,
    secret: [u8; 32],
    /// Number of the account and of the device, once paired.
    pub(crate) name: Option<(u64, u32)>,
    /// The server's static key, once known.
    server_key: Option<[u8; 32]>,
}

/// A connection, after the handshake.
pub(crate) struct Client {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    frames: FrameDecoder,
    ciphers: Option<(NoiseCipher, NoiseCipher)>,
    counts: (u32, u32),
}

impl Device {
    pub(crate) fn new() -> Device {
        Device {
            noise: generate_curve_key_pair(),
            identity: generate_curve_key_pair(),
            secret: [7; 32],
            name: None,
            server_key: None,
        }
    }

    /// A device that the phone of this number has scanned.
    pub(crate) fn paired(server: &Server, number: &str) -> Device {
        let mut device = Device::new();
        device.pair(server, number).expect("paired");
        device
    }

    /// Pairs by QR code; the test thread is both the phone's owner and the client.
    pub(crate) fn pair(&mut self, server: &Server, number: &str) -> Result<(), String> {
        let mut client = self.connect(server);
        let qr = self.qr(&reference(&client.expect("iq")));
        std::thread::scope(|scope| {
            let scan = scope.spawn(|| server.scan(number, &qr));
            self.sign(&mut client);
            assert_eq!("515", attr(&client.expect("stream:error"), "code"));
            scan.join().expect("the phone lives").map(|jid| {
                let user = jid.user.as_str().parse().expect("a number");
                self.name = Some((user, u32::from(jid.device)));
            })
        })
    }

    /// The text of the QR code that the device shows with a reference of the server's.
    pub(crate) fn qr(&self, reference: &str) -> String {
        let text = |key: &[u8]| BASE64_STANDARD.encode(key);
        format!(
            "{reference},{},{},{},1",
            text(self.noise.public_key.public_key_bytes()),
            text(self.identity.public_key.public_key_bytes()),
            text(&self.secret),
        )
    }

    /// The device's part: signs the identity that the phone has signed.
    fn sign(&self, client: &mut Client) {
        let success = client.expect("iq");
        let sealed = bytes(child(child(&success, "pair-success"), "device-identity"));
        let sealed = wa::ADVSignedDeviceIdentityHMAC::decode_from_slice(&sealed).expect("sealed");
        let identity = sealed.details.expect("an identity");
        let mut identity =
            wa::ADVSignedDeviceIdentity::decode_from_slice(&identity).expect("an identity");
        let details = identity.details.clone().expect("details");
        let account_key = identity.account_signature_key.take().expect("a key");
        let own = self.identity.public_key.public_key_bytes();
        let signed = [&[6, 1], details.as_slice(), own, &account_key].concat();
        let signature = calculate_curve_signature(&self.identity.private_key, &signed);
        identity.device_signature = Some(signature.expect("signed").to_vec());
        let proof = NodeBuilder::new("device-identity").bytes(identity.encode_to_vec()).build();
        let answer = NodeBuilder::new("iq")
            .attr("type", "result")
            .attr("id", attr(&success, "id"))
            .children([NodeBuilder::new("pair-device-sign").children([proof]).build()]);
        client.send(&answer.build());
    }

    /// Logs in and asks for what waited; the stanzas up to its end are in the result.
    pub(crate) fn log_in(&mut self, server: &Server) -> (Client, Vec<Node>) {
        let mut client = self.connect(server);
        client.expect("success");
        let active = NodeBuilder::new("active").build();
        client.ask("passive", "set", active);
        let mut waited = Vec::new();
        loop {
            let node = client.receive();
            match node.tag.as_ref() {
                "ib" if node.get_optional_child("offline").is_some() => return (client, waited),
                "ib" | "iq" => {}
                _ => waited.push(node),
            }
        }
    }

    /// Connects with the shortest handshake that the device can do.
    pub(crate) fn connect(&mut self, server: &Server) -> Client {
        let (socket, _) = tungstenite::connect(server.url()).expect("a server");
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(PATIENCE)).expect("set");
        }
        let mut client =
            Client { socket, frames: FrameDecoder::new(), ciphers: None, counts: (0, 0) };
        let ephemeral = generate_curve_key_pair();
        match self.server_key {
            None => self.greet(server, &mut client, &ephemeral),
            Some(known) => self.greet_known(server, &mut client, &ephemeral, &known),
        }
        client
    }

    fn greet(&mut self, server: &Server, client: &mut Client, ephemeral: &KeyPair) {
        let hello = ClientHello {
            ephemeral: Some(ephemeral.public_key.public_key_bytes().to_vec()),
            ..ClientHello::default()
        };
        client.send_handshake(
            &wa::HandshakeMessage { client_hello: hello.into(), ..Default::default() },
            true,
        );
        let answer = client.handshake();
        self.finish(server, client, ephemeral, NOISE_PATTERN_XX, &answer);
    }

    fn greet_known(
        &mut self,
        server: &Server,
        client: &mut Client,
        ephemeral: &KeyPair,
        known: &[u8; 32],
    ) {
        let own = ephemeral.public_key.public_key_bytes();
        let mut noise = NoiseHandshake::new(NOISE_PATTERN_IK, &WA_CONN_HEADER).expect("a name");
        noise.authenticate(known);
        noise.authenticate(own);
        mix(&mut noise, ephemeral, known);
        let fixed = noise.encrypt(self.noise.public_key.public_key_bytes()).expect("sealed");
        mix(&mut noise, &self.noise, known);
        let payload = noise.encrypt(&self.payload()).expect("sealed");
        let hello = ClientHello {
            ephemeral: Some(own.to_vec()),
            r#static: Some(fixed),
            payload: Some(payload),
            ..ClientHello::default()
        };
        client.send_handshake(
            &wa::HandshakeMessage { client_hello: hello.into(), ..Default::default() },
            true,
        );
        let answer = client.handshake();
        if answer.r#static.is_some() {
            return self.finish(server, client, ephemeral, NOISE_PATTERN_XXFALLBACK, &answer);
        }
        let theirs = answer.ephemeral.expect("a key");
        noise.authenticate(&theirs);
        mix(&mut noise, ephemeral, &theirs);
        mix(&mut noise, &self.noise, &theirs);
        noise.decrypt(&answer.payload.expect("certificates")).expect("the same transcript");
        client.ciphers = Some(noise.finish().expect("keys"));
    }

    fn finish(
        &mut self,
        server: &Server,
        client: &mut Client,
        ephemeral: &KeyPair,
        pattern: &str,
        answer: &wa::handshake_message::ServerHello,
    ) {
        let mut noise = NoiseHandshake::new(pattern, &WA_CONN_HEADER).expect("a name");
        noise.authenticate(ephemeral.public_key.public_key_bytes());
        let theirs = answer.ephemeral.as_deref().expect("a key");
        noise.authenticate(theirs);
        mix(&mut noise, ephemeral, theirs);
        let fixed = noise.decrypt(answer.r#static.as_deref().expect("a key")).expect("opened");
        mix(&mut noise, ephemeral, &fixed);
        let chain = noise.decrypt(answer.payload.as_deref().expect("a chain")).expect("opened");
        check_certificates(&chain, &server.root_key(), &fixed);
        self.server_key = Some(fixed.try_into().expect("32 bytes"));

        let fixed = noise.encrypt(self.noise.public_key.public_key_bytes()).expect("sealed");
        mix(&mut noise, &self.noise, theirs);
        let payload = noise.encrypt(&self.payload()).expect("sealed");
        let finish = ClientFinish {
            r#static: Some(fixed),
            payload: Some(payload),
            ..ClientFinish::default()
        };
        client.send_handshake(
            &wa::HandshakeMessage { client_finish: finish.into(), ..Default::default() },
            false,
        );
        client.ciphers = Some(noise.finish().expect("keys"));
    }

    fn payload(&self) -> Vec<u8> {
        let mut payload = wa::ClientPayload::default();
        if let Some((number, device)) = self.name {
            payload.username = Some(number);
            payload.device = Some(device);
        } else {
            payload.device_pairing_data = wa::client_payload::DevicePairingRegistrationData {
                e_regid: Some(vec![0, 0, 0, 9]),
                e_ident: Some(self.identity.public_key.public_key_bytes().to_vec()),
                e_skey_id: Some(vec![0, 0, 1]),
                ..signed_key(&self.identity)
            }
            .into();
        }
        payload.encode_to_vec()
    }
}

fn signed_key(identity: &KeyPair) -> wa::client_payload::DevicePairingRegistrationData {
    let key = generate_curve_key_pair().public_key;
    let signature = calculate_curve_signature(&identity.private_key, &key.serialize());
    wa::client_payload::DevicePairingRegistrationData {
        e_skey_val: Some(key.public_key_bytes().to_vec()),
        e_skey_sig: Some(signature.expect("signed").to_vec()),
        ..Default::default()
    }
}

/// The chain has to lead from the root to the key that the server has shown.
fn check_certificates(chain: &[u8], root: &[u8; 32], shown: &[u8]) {
    let chain = wa::CertChain::decode_from_slice(chain).expect("a chain");
    let mut signer = root.to_vec();
    for certificate in [chain.intermediate, chain.leaf] {
        let certificate = certificate.into_option().expect("a certificate");
        let details = certificate.details.expect("details");
        let key = PublicKey::from_djb_public_key_bytes(&signer).expect("a key");
        let signature = certificate.signature.expect("a signature");
        assert!(key.verify_signature(&details, &signature), "signed by its issuer");
        let details = wa::cert_chain::noise_certificate::Details::decode_from_slice(&details);
        signer = details.expect("details").key.expect("a key");
    }
    assert_eq!(shown, signer, "the leaf is for the key of the connection");
}

fn mix(noise: &mut NoiseHandshake, ours: &KeyPair, theirs: &[u8]) {
    noise.mix_shared_secret(ours.private_key.serialize(), theirs).expect("a key");
}

impl Client {
    fn send_handshake(&mut self, message: &wa::HandshakeMessage, is_first: bool) {
        let header = is_first.then_some(WA_CONN_HEADER.as_slice());
        let frame = encode_frame(&message.encode_to_vec(), header).expect("a frame");
        self.socket.send(Message::Binary(Bytes::from(frame))).expect("sent");
    }

    fn handshake(&mut self) -> wa::handshake_message::ServerHello {
        let frame = self.frame().expect("an answer");
        let message = wa::HandshakeMessage::decode_from_slice(&frame).expect("a handshake");
        message.server_hello.into_option().expect("a hello")
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.frames.decode_frame() {
                return Some(frame.to_vec());
            }
            match self.socket.read().ok()? {
                Message::Binary(bytes) => self.frames.feed(&bytes),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Sends a stanza.
    pub(crate) fn send(&mut self, node: &Node) {
        let (write, _) = self.ciphers.as_ref().expect("greeted");
        let plain = marshal(node).expect("a stanza");
        let sealed = write.encrypt_with_counter(self.counts.0, &plain).expect("sealed");
        self.counts.0 += 1;
        let frame = encode_frame(&sealed, None).expect("a frame");
        self.socket.send(Message::Binary(Bytes::from(frame))).expect("sent");
    }

    /// The next stanza; nothing once the connection has ended.
    pub(crate) fn next(&mut self) -> Option<Node> {
        let mut frame = self.frame()?;
        let (_, read) = self.ciphers.as_ref().expect("greeted");
        read.decrypt_in_place_with_counter(self.counts.1, &mut frame).expect("opened");
        self.counts.1 += 1;
        let plain = unpack(&frame).expect("unpacked");
        Some(unmarshal_ref(&plain).expect("a stanza").to_owned())
    }

    pub(crate) fn receive(&mut self) -> Node {
        self.next().expect("a stanza before the end")
    }

    /// The next stanza, which has to be of this kind.
    pub(crate) fn expect(&mut self, tag: &str) -> Node {
        let node = self.receive();
        assert_eq!(tag, node.tag, "{node:?}");
        node
    }

    /// Sends a question whose answer is still to be received.
    pub(crate) fn ask(&mut self, namespace: &str, kind: &str, what: Node) {
        let iq = NodeBuilder::new("iq")
            .attr("xmlns", namespace)
            .attr("type", kind)
            .attr("to", Jid::pn(""))
            .attr("id", "q")
            .children([what]);
        self.send(&iq.build());
    }

    /// Sends a message that only the phone of the one it is for could open.
    pub(crate) fn say(&mut self, id: &str, to: &Jid) {
        let enc = NodeBuilder::new("enc").attr("v", "2").attr("type", "msg").bytes([0; 40]);
        let part = NodeBuilder::new("to").attr("jid", to.clone()).children([enc.build()]);
        let message = NodeBuilder::new("message")
            .attr("id", id)
            .attr("to", to.clone())
            .attr("type", "text")
            .children([NodeBuilder::new("participants").children([part.build()]).build()]);
        self.send(&message.build());
    }

    /// Confirms a message.
    pub(crate) fn confirm(&mut self, message: &Node) {
        let receipt = NodeBuilder::new("receipt")
            .attr("id", attr(message, "id"))
            .attr("to", attr(message, "from").parse::<Jid>().expect("a name"));
        self.send(&receipt.build());
        self.expect("ack");
    }
}

/// The first reference of an offer to pair.
pub(crate) fn reference(offer: &Node) -> String {
    let refs = child(offer, "pair-device").children().expect("references");
    String::from_utf8(bytes(&refs[0])).expect("text")
}

pub(crate) fn attr(node: &Node, key: &str) -> String {
    let value = node.attrs.get(key).unwrap_or_else(|| panic!("no {key} in {node:?}"));
    value.as_str().into_owned()
}

pub(crate) fn child<'a>(node: &'a Node, tag: &str) -> &'a Node {
    node.get_optional_child(tag).unwrap_or_else(|| panic!("no {tag} in {node:?}"))
}

fn bytes(node: &Node) -> Vec<u8> {
    match &node.content {
        Some(NodeContent::Bytes(bytes)) => bytes.clone(),
        Some(NodeContent::String(text)) => text.as_bytes().to_vec(),
        other => panic!("no bytes: {other:?}"),
    }
}
