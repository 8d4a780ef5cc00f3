//! Linking by a code that the client shows and a person types into the phone.
//!
//! Each side proves that it knows the code by an ephemeral key sealed with it; both then share a
//! secret that stands for the one a QR code has in it.

use std::time::Instant;

use rand::RngExt as _;
use wacore::crypto::{generate_curve_key_pair, hkdf_sha256};
use wacore::libsignal::crypto::aes_256_gcm_decrypt;
use wacore::libsignal::protocol::{KeyPair, PublicKey};
use wacore::pair_code::PairCodeUtils;
use wacore_binary::{Jid, Node};

use crate::link::LinkId;
use crate::noise::key_bytes;
use crate::pairing::PAIRING_PATIENCE;
use crate::server::Server;
use crate::state::{State, now_seconds};
use crate::xml::{content_of, el, is, jid, server_jid};

/// What the key of the bundle is derived for. Source: the clients.
const BUNDLE_KEY_INFO: &[u8] = b"link_code_pairing_key_bundle_encryption_key";
const SECRET_INFO: &[u8] = b"adv_secret";

/// A client shows a code for a number.
pub(crate) struct CodeOffer {
    number: String,
    reference: Vec<u8>,
    /// The client's ephemeral key, sealed with the code.
    sealed_key: Vec<u8>,
    /// What the client sent after the code was typed.
    finish: Option<Finish>,
}

#[derive(Clone)]
struct Finish {
    sealed_bundle: Vec<u8>,
    identity: Vec<u8>,
}

impl Server {
    /// Waits until a client shows a code for that number.
    ///
    /// # Panics
    /// None does in time.
    #[track_caller]
    pub fn wait_code_offer(&self, number: &str) {
        let deadline = Instant::now() + PAIRING_PATIENCE;
        let offered = self.shared().poll(deadline, |state| state.code_offer(number).map(|_| ()));
        assert!(offered.is_some(), "no client shows a code for {number}\n{}", self.trace());
    }

    /// The server wants another code for that number: the one that is shown is no good any more.
    ///
    /// # Panics
    /// No client shows a code for it.
    pub fn refresh_code(&self, number: &str) {
        self.shared().change(|state| state.refresh_code(number));
    }

    /// A person types a code into the phone of that number.
    ///
    /// # Errors
    /// Why the phone would show an error: no client waits, or the code is not the client's.
    pub fn type_code(&self, number: &str, code: &str) -> Result<Jid, String> {
        // Shown in two halves.
        let code = code.replace(['-', ' '], "");
        let (link, sealed_key) = self
            .shared()
            .look(|state| {
                let (link, offer) = state.code_offer(number)?;
                Some((link, offer.sealed_key.clone()))
            })
            .ok_or("no device waits for a code")?;
        // Slow by design, so not while the state is locked.
        let their_key = PairCodeUtils::decrypt_primary_ephemeral_pub(&sealed_key, &code)
            .map_err(|why| why.to_string())?;
        let ephemeral = generate_curve_key_pair();
        let our_key = key_bytes(&ephemeral.public_key);
        let sealed_key = PairCodeUtils::encrypt_ephemeral_pub(&our_key, &code);
        let identity = self.shared().change(|state| state.greet_by_code(link, number, &sealed_key));

        let deadline = Instant::now() + PAIRING_PATIENCE;
        let finish = self
            .shared()
            .poll(deadline, |state| state.code_offer(number)?.1.finish.clone())
            .ok_or("the device did not answer")?;
        let secret = open_bundle(&finish, &ephemeral, &their_key, &identity)?;
        let device = self.shared().change(|state| {
            let user = state.user_by_number(number);
            state.accept(link, user, &secret)
        });
        self.wait_paired(device)
    }
}

/// The secret that both sides now share.
fn open_bundle(
    finish: &Finish,
    ephemeral: &KeyPair,
    their_key: &[u8],
    identity: &KeyPair,
) -> Result<Vec<u8>, String> {
    let text = |why: &dyn std::fmt::Display| why.to_string();
    let agree = |ours: &KeyPair, theirs: &[u8]| {
        let theirs = PublicKey::from_djb_public_key_bytes(theirs).map_err(|why| text(&why))?;
        ours.private_key.calculate_agreement(&theirs).map_err(|why| text(&why))
    };
    let ephemeral_shared = agree(ephemeral, their_key)?;
    let Some((salt, rest)) = finish.sealed_bundle.split_first_chunk::<32>() else {
        return Err("the device's answer is too short".to_owned());
    };
    let Some((iv, sealed)) = rest.split_first_chunk::<12>() else {
        return Err("the device's answer is too short".to_owned());
    };
    let key = hkdf_sha256(&ephemeral_shared, 32, Some(salt), BUNDLE_KEY_INFO)
        .map_err(|why| text(&why))?;
    let key = key.as_slice().try_into().map_err(|why| text(&why))?;
    let mut bundle = Vec::new();
    aes_256_gcm_decrypt(key, iv, b"", sealed, &mut bundle)
        .map_err(|_| "that is not the code which the device shows")?;
    // The device's key, ours, and bytes that it chose.
    let Some(chosen) = bundle.get(64..) else {
        return Err("the device's answer is too short".to_owned());
    };
    let identity_shared = agree(identity, &finish.identity)?;
    let all = [ephemeral_shared.as_slice(), &identity_shared, chosen].concat();
    hkdf_sha256(&all, 32, None, SECRET_INFO).map_err(|why| text(&why))
}

impl State {
    fn code_offer(&self, number: &str) -> Option<(LinkId, &CodeOffer)> {
        // The newest: a client may have come again.
        let offers = self.candidates().filter_map(|(link, it)| Some((link, it.code.as_ref()?)));
        offers.filter(|(_, offer)| offer.number == number).last()
    }

    fn refresh_code(&mut self, number: &str) {
        let (link, offer) = self.code_offer(number).expect("a client shows a code");
        let refresh = el("link_code_companion_reg").attr("stage", "refresh_code").children([el(
            "link_code_pairing_ref",
        )
        .bytes(offer.reference.clone())
        .build()]);
        self.notify_of_code(link, refresh.build());
        if let Some(candidate) = self.candidate_mut(link) {
            candidate.code = None;
        }
    }

    fn notify_of_code(&mut self, link: LinkId, what: Node) {
        let notification = el("notification")
            .attr("from", server_jid())
            .attr("type", "link_code_companion_reg")
            .attr("id", self.next_id())
            .attr("t", now_seconds())
            .children([what]);
        self.send(link, notification.build());
    }

    /// Sends the phone's side to the client; the phone's identity.
    fn greet_by_code(&mut self, link: LinkId, number: &str, sealed_key: &[u8]) -> KeyPair {
        let user = self.user_by_number(number);
        let identity = self.users[user].phone.identity().clone();
        let offer = self.candidate_mut(link).and_then(|candidate| candidate.code.as_mut());
        let reference = offer.map_or_else(Vec::new, |offer| {
            // Of a code that was typed wrong before.
            offer.finish = None;
            offer.reference.clone()
        });
        let hello = el("link_code_companion_reg").attr("stage", "primary_hello").children([
            el("link_code_pairing_wrapped_primary_ephemeral_pub").bytes(sealed_key).build(),
            el("primary_identity_pub").bytes(key_bytes(&identity.public_key)).build(),
            el("link_code_pairing_ref").bytes(reference).build(),
        ]);
        self.notify_of_code(link, hello.build());
        identity
    }

    /// A client's part in linking by code.
    pub(crate) fn on_code_iq(&mut self, link: LinkId, iq: &Node, registration: &Node) {
        let bytes = |tag| content_of(registration, tag).unwrap_or_default().to_vec();
        if is(registration, "stage", "companion_hello") {
            let reference = rand::rng().random::<[u8; 16]>().to_vec();
            let offer = CodeOffer {
                number: jid(registration, "jid").map(|it| it.user.to_string()).unwrap_or_default(),
                reference: reference.clone(),
                sealed_key: bytes("link_code_pairing_wrapped_companion_ephemeral_pub"),
                finish: None,
            };
            if let Some(candidate) = self.candidate_mut(link) {
                candidate.code = Some(offer);
            }
            let answer = el("link_code_companion_reg")
                .attr("stage", "companion_hello")
                .children([el("link_code_pairing_ref").bytes(reference).build()]);
            self.answer(link, iq, [answer.build()]);
        } else {
            let finish = Finish {
                sealed_bundle: bytes("link_code_pairing_wrapped_key_bundle"),
                identity: bytes("companion_identity_public"),
            };
            let offer = self.candidate_mut(link).and_then(|candidate| candidate.code.as_mut());
            if let Some(offer) = offer {
                offer.finish = Some(finish);
            }
            self.answer(link, iq, []);
        }
    }
}
