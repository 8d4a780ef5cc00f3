//! How a device becomes one of an account: QR codes, and the identity that the phone signs for it.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use buffa::Message as _;
use rand::RngExt as _;
use wacore::libsignal::crypto::hmac_sha256;
use wacore::libsignal::protocol::PublicKey;
use wacore_binary::{Jid, Node};
use waproto::whatsapp as wa;

use crate::link::{LinkId, Phase};
use crate::login::UNKNOWN_DEVICE;
use crate::noise::{key_bytes, sign};
use crate::pair_code::CodeOffer;
use crate::server::Server;
use crate::state::{Address, Addressing, Companion, PublicKeys, SignedKey, State, now_seconds};
use crate::xml::{self, attr, child, el, is, server_jid};

/// References that a client gets at once, where a test does not say; it shows one after the other
/// as a QR code.
pub(crate) const REFS: usize = 6;
/// How long the first of them can be scanned, and each further one after the one before it.
/// Source: the clients, which show them for so long.
const REF_VALID: [Duration; 2] = [Duration::from_mins(1), Duration::from_secs(20)];
/// How long a phone waits for a client's part in a pairing.
pub(crate) const PAIRING_PATIENCE: Duration = Duration::from_secs(20);
/// First bytes of what the phone signs for a device, and of what the device signs in turn.
/// Source: the clients' check of device identities.
const ACCOUNT_SIGNATURE: [u8; 2] = [6, 0];
const DEVICE_SIGNATURE: [u8; 2] = [6, 1];

/// A client without an account, on its connection.
pub(crate) struct Candidate {
    noise_key: [u8; 32],
    keys: PublicKeys,
    refs: Vec<String>,
    offered: Instant,
    pub(crate) code: Option<CodeOffer>,
    /// What was signed for it, once a phone has accepted it.
    accepted: Option<Accepted>,
}

/// A phone has accepted the device; its own signature is still to come.
struct Accepted {
    iq: String,
    device: Address,
    details: Vec<u8>,
    account_signature: Vec<u8>,
}

impl Candidate {
    /// Since when a reference is no good any more, if it was one of these.
    fn end_of(&self, reference: &str) -> Option<Instant> {
        let further = self.refs.iter().position(|known| known == reference)?;
        let [first, each] = REF_VALID;
        Some(self.offered + first + each * u32::try_from(further).unwrap_or(u32::MAX))
    }
}

impl Server {
    /// How many references clients get at once from now on: when all are expired, they have to
    /// come again.
    pub fn set_refs(&self, count: usize) {
        self.shared().change(|state| state.ref_count = count);
    }

    /// The phone of that number scans a QR code, given as the text in it.
    ///
    /// # Errors
    /// Why the phone would show an error: nobody shows this code, it is expired, or the
    /// client did not finish.
    pub fn scan(&self, number: &str, qr: &str) -> Result<Jid, String> {
        // Some clients wrap it in an address.
        let code = qr.rsplit('#').next().unwrap_or(qr);
        let [reference, noise_key, identity, secret, ..] = code.split(',').collect::<Vec<_>>()[..]
        else {
            return Err(format!("not a code to link a device: {qr}"));
        };
        let secret = BASE64_STANDARD.decode(secret).map_err(|why| why.to_string())?;
        let device = self.shared().change(|state| {
            let (link, candidate, end) = state
                .candidates()
                .find_map(|(link, it)| Some((link, it, it.end_of(reference)?)))
                .ok_or("nobody shows this code any more")?;
            if end <= Instant::now() {
                return Err("this code is expired".to_owned());
            }
            let told = |key: &[u8], text: &str| BASE64_STANDARD.encode(key) == text;
            if !told(&candidate.noise_key, noise_key) || !told(&candidate.keys.identity, identity) {
                return Err("the keys in the code are not those of its connection".to_owned());
            }
            let user = state.user_by_number(number);
            Ok(state.accept(link, user, &secret))
        })?;
        self.wait_paired(device)
    }

    /// Waits until a device that a phone has accepted has done its part.
    pub(crate) fn wait_paired(&self, device: Address) -> Result<Jid, String> {
        let deadline = Instant::now() + PAIRING_PATIENCE;
        let paired = |state: &State| state.companion(device).map(|_| ());
        match self.shared().poll(deadline, paired) {
            Some(()) => Ok(self.shared().look(|state| state.jid(device, Addressing::Pn))),
            None => Err(format!("the device did not sign its identity\n{}", self.trace())),
        }
    }

    /// The phone of that number unlinks a companion.
    ///
    /// # Panics
    /// It has no such device.
    pub fn unlink(&self, number: &str, device: u16) {
        self.shared().change(|state| {
            let address = Address { user: state.user_by_number(number), device };
            assert!(state.companion(address).is_some(), "{number} has no device {device}");
            state.unlink(address);
        });
    }
}

impl State {
    /// A client without an account connected.
    pub(crate) fn offer_pairing(
        &mut self,
        link: LinkId,
        noise_key: [u8; 32],
        payload: &wa::ClientPayload,
    ) {
        if let Some(refusal) = self.faults.failure(None) {
            return self.refuse(link, refusal);
        }
        let Some(data) = payload.device_pairing_data.as_option() else { return };
        let bytes = |field: &Option<Vec<u8>>| field.clone().unwrap_or_default();
        let keys = PublicKeys {
            registration: bytes(&data.e_regid),
            identity: bytes(&data.e_ident),
            signed: SignedKey {
                id: bytes(&data.e_skey_id),
                value: bytes(&data.e_skey_val),
                signature: bytes(&data.e_skey_sig),
            },
            one_time: std::collections::VecDeque::new(),
        };
        let random = |_| BASE64_STANDARD.encode(rand::rng().random::<[u8; 24]>());
        let refs: Vec<String> = (0..self.ref_count).map(random).collect();
        let shown = refs.iter().map(|text| el("ref").bytes(text.as_bytes()).build());
        let offer = el("pair-device").children(shown).build();
        let offered = Instant::now();
        let candidate = Candidate { noise_key, keys, refs, offered, code: None, accepted: None };
        if let Some(open) = self.links.get_mut(&link) {
            open.phase = Phase::Pairing(Box::new(candidate));
        }
        let id = self.next_id();
        self.request(link, id, offer);
    }

    /// Clients that wait to be paired.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = (LinkId, &Candidate)> {
        self.links.iter().filter_map(|(&id, link)| match &link.phase {
            Phase::Pairing(candidate) => Some((id, candidate.as_ref())),
            _ => None,
        })
    }

    pub(crate) fn candidate_mut(&mut self, link: LinkId) -> Option<&mut Candidate> {
        match &mut self.links.get_mut(&link)?.phase {
            Phase::Pairing(candidate) => Some(candidate),
            _ => None,
        }
    }

    /// The phone signs an identity for the device and sends it there, sealed with the secret that
    /// only the two of them know.
    pub(crate) fn accept(&mut self, link: LinkId, user: usize, secret: &[u8]) -> Address {
        let owner = &mut self.users[user];
        owner.companion_last += 1;
        let device = Address { user, device: owner.companion_last };
        let details = wa::ADVDeviceIdentity {
            raw_id: Some(owner.raw_id()),
            timestamp: Some(now_seconds()),
            key_index: Some(u32::from(device.device)),
            account_type: Some(wa::ADVEncryptionType::E2EE),
            device_type: Some(wa::ADVEncryptionType::E2EE),
        }
        .encode_to_vec();
        let name = owner.name.clone();
        let props = wa::ClientPairingProps {
            is_chat_db_lid_migrated: Some(owner.is_lid_migrated),
            ..wa::ClientPairingProps::default()
        };
        let phone_key = owner.phone.identity().clone();
        let iq = self.next_id();
        let (pn, lid) = (self.jid(device, Addressing::Pn), self.jid(device, Addressing::Lid));
        let Some(candidate) = self.candidate_mut(link) else { return device };
        let signed = [&ACCOUNT_SIGNATURE, details.as_slice(), &candidate.keys.identity].concat();
        let account_signature = sign(&phone_key, &signed);
        let identity = wa::ADVSignedDeviceIdentity {
            details: Some(details.clone()),
            account_signature_key: Some(key_bytes(&phone_key.public_key).to_vec()),
            account_signature: Some(account_signature.clone()),
            ..wa::ADVSignedDeviceIdentity::default()
        }
        .encode_to_vec();
        candidate.accepted = Some(Accepted { iq: iq.clone(), device, details, account_signature });
        let sealed = wa::ADVSignedDeviceIdentityHMAC {
            hmac: Some(hmac_sha256(secret, &identity).to_vec()),
            details: Some(identity),
            ..wa::ADVSignedDeviceIdentityHMAC::default()
        };
        let success = el("pair-success").children([
            el("device-identity").bytes(sealed.encode_to_vec()).build(),
            el("biz").attr("name", name).build(),
            el("platform").attr("name", "android").build(),
            el("device").attr("jid", pn).attr("lid", lid).build(),
            el("client-props").bytes(props.encode_to_vec()).build(),
        ]);
        self.request(link, iq, success.build());
        device
    }

    /// A question or an answer from a client that is not paired yet.
    pub(crate) fn on_pairing_iq(&mut self, link: LinkId, node: &Node) {
        if let Some(registration) = child(node, "link_code_companion_reg") {
            return self.on_code_iq(link, node, registration);
        }
        let Some(proof) = child(node, "pair-device-sign")
            .and_then(|answer| xml::content_of(answer, "device-identity"))
        else {
            if is(node, "type", "get") || is(node, "type", "set") {
                self.answer(link, node, []);
            }
            return;
        };
        let answered = attr(node, "id");
        let Some(candidate) = self.candidate_mut(link) else { return };
        let Some(accepted) = candidate.accepted.take_if(|it| Some(&it.iq) == answered.as_ref())
        else {
            return;
        };
        let (noise_key, keys) = (candidate.noise_key, candidate.keys.clone());
        match self.check_proof(&accepted, &keys.identity, proof) {
            Ok(identity_proof) => {
                let key_index = u32::from(accepted.device.device);
                let companion = Companion::new(noise_key, keys, identity_proof, key_index);
                self.register(accepted.device, companion);
                // The client has to come again as the device that it now is.
                let restart = el("stream:error").attr("code", "515").build();
                self.send(link, restart);
            }
            Err(why) => self.journal.note(format!("-- pairing failed: {why}")),
        }
        self.end(link, None);
    }

    /// Checks the device's signature below its identity; the identity as others are shown it.
    fn check_proof(
        &self,
        accepted: &Accepted,
        identity: &[u8],
        proof: &[u8],
    ) -> Result<Vec<u8>, String> {
        let mut proof =
            wa::ADVSignedDeviceIdentity::decode_from_slice(proof).map_err(|why| why.to_string())?;
        let account_key = self.users[accepted.device.user].phone.identity().public_key;
        let account_key = key_bytes(&account_key);
        let signed = [&DEVICE_SIGNATURE, accepted.details.as_slice(), identity, &account_key];
        let key = PublicKey::from_djb_public_key_bytes(identity).map_err(|why| why.to_string())?;
        let signature = proof.device_signature.as_deref().unwrap_or_default();
        if !key.verify_signature(&signed.concat(), signature) {
            return Err("the device's signature is wrong".to_owned());
        }
        // Clients leave out what the server knows already.
        proof.details = Some(accepted.details.clone());
        proof.account_signature = Some(accepted.account_signature.clone());
        proof.account_signature_key = Some(account_key.to_vec());
        Ok(proof.encode_to_vec())
    }

    fn register(&mut self, device: Address, companion: Companion) {
        let owner = &mut self.users[device.user];
        owner.companions.insert(device.device, companion);
        owner.devices_changed += 1;
        let name = owner.name.clone();
        self.journal.note(format!("-- paired {name}:{}", device.device));
        self.announce_device(device, "add");
    }

    /// Takes a device off its account: its connection is told, its next login refused.
    pub(crate) fn unlink(&mut self, device: Address) {
        let removed = self.users[device.user].companions.remove(&device.device);
        self.users[device.user].devices_changed += 1;
        if let Some(link) = removed.and_then(|companion| companion.link) {
            let conflict = el("conflict").attr("type", "device_removed").build();
            let error = el("stream:error").attr("code", UNKNOWN_DEVICE).children([conflict]);
            self.send(link, error.build());
            self.end(link, None);
        }
        self.announce_device(device, "remove");
    }

    /// Tells every linked device of everybody that an account has another set of devices now.
    fn announce_device(&mut self, device: Address, change: &'static str) {
        let everybody: Vec<Address> = (0..self.users.len())
            .flat_map(|user| self.devices(user))
            .filter(|other| other.device != 0 && *other != device)
            .collect();
        let (pn, lid) = (self.jid(device, Addressing::Pn), self.jid(device, Addressing::Lid));
        for other in everybody {
            let key_list = match change {
                "add" => self.users[device.user].key_index_list(),
                _ => el("key-index-list").attr("ts", self.users[device.user].changed_at()).build(),
            };
            let changed = el("device")
                .attr("jid", pn.clone())
                .attr("key-index", device.device)
                .attr("lid", lid.clone())
                .build();
            let notification = el("notification")
                .attr("from", pn.to_non_ad())
                .attr("id", self.next_id())
                .attr("t", now_seconds())
                .attr("type", "devices")
                .attr("lid", lid.to_non_ad())
                .children([el(change).children([changed, key_list]).build()]);
            self.deliver(other, notification.build());
        }
    }

    /// Asks a client something.
    pub(crate) fn request(&mut self, link: LinkId, id: String, what: Node) {
        let iq = el("iq")
            .attr("from", server_jid())
            .attr("type", "set")
            .attr("id", id)
            .attr("xmlns", "md")
            .attr("t", now_seconds())
            .children([what]);
        self.send(link, iq.build());
    }
}
