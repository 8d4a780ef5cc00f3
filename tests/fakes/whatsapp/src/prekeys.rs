//! The keys that devices publish, so that others can begin a session with them.

use wacore::prekeys::compute_key_bundle_digest;
use wacore_binary::{Jid, Node};

use crate::link::LinkId;
use crate::state::{Address, Companion, OneTimeKey, SignedKey, State};
use crate::xml::{child, children, content_of, el, is, jid};

/// Kind of all keys: Curve25519.
const KEY_TYPE: [u8; 1] = [5];

impl State {
    pub(crate) fn on_keys_iq(&mut self, link: LinkId, from: Address, iq: &Node) {
        if is(iq, "type", "set") {
            self.take_keys(from, iq);
            self.answer(link, iq, []);
            self.phone_greets(from);
        } else if child(iq, "count").is_some() {
            let count = self.companion(from).map_or(0, |known| known.keys.one_time.len());
            self.answer(link, iq, [el("count").attr("value", count).build()]);
        } else if child(iq, "digest").is_some() {
            let digest = self.companion(from).map(digest);
            self.answer(link, iq, digest);
        } else {
            let asked: Vec<Jid> = child(iq, "key")
                .map(children)
                .unwrap_or_default()
                .iter()
                .filter_map(|user| jid(user, "jid"))
                .collect();
            let bundles: Vec<Node> = asked.iter().map(|jid| self.bundle(jid)).collect();
            self.answer(link, iq, [el("list").children(bundles).build()]);
        }
    }

    /// A companion uploads one-time keys, or renews its signed one.
    fn take_keys(&mut self, from: Address, iq: &Node) {
        let Some(companion) = self.companion_mut(from) else { return };
        let uploaded = child(iq, "rotate").unwrap_or(iq);
        if let Some(signed) = child(uploaded, "skey").and_then(signed_key) {
            companion.keys.signed = signed;
        }
        let list = child(uploaded, "list").map(children).unwrap_or_default();
        companion.keys.one_time.extend(list.iter().filter_map(one_time_key));
    }

    /// What one needs to begin a session with a device; a one-time key is given out only once.
    fn bundle(&mut self, jid: &Jid) -> Node {
        let user = el("user").attr("jid", jid.clone());
        let known = self.find(jid).filter(|&of| of.device == 0 || self.companion(of).is_some());
        let Some(address) = known else {
            let error = el("error").attr("code", "406").attr("text", "not-acceptable").build();
            return user.children([error]).build();
        };
        if address.device == 0 {
            return user.children(self.users[address.user].phone.bundle()).build();
        }
        let companion = self.companion_mut(address).expect("it was found above");
        let keys = &mut companion.keys;
        let mut parts = bundle_start(&keys.registration, &keys.identity, &keys.signed);
        parts.extend(keys.one_time.pop_front().as_ref().map(one_time_node));
        parts.push(el("device-identity").bytes(companion.identity_proof.as_slice()).build());
        user.children(parts).build()
    }
}

/// The parts of a bundle that every device has.
pub(crate) fn bundle_start(registration: &[u8], identity: &[u8], signed: &SignedKey) -> Vec<Node> {
    vec![
        el("registration").bytes(registration).build(),
        el("type").bytes(KEY_TYPE).build(),
        el("identity").bytes(identity).build(),
        signed_node(signed),
    ]
}

pub(crate) fn one_time_node(key: &OneTimeKey) -> Node {
    let parts = [
        el("id").bytes(key.id.as_slice()).build(),
        el("value").bytes(key.value.as_slice()).build(),
    ];
    el("key").children(parts).build()
}

fn signed_node(key: &SignedKey) -> Node {
    let parts = [
        el("id").bytes(key.id.as_slice()).build(),
        el("value").bytes(key.value.as_slice()).build(),
        el("signature").bytes(key.signature.as_slice()).build(),
    ];
    el("skey").children(parts).build()
}

pub(crate) fn signed_key(node: &Node) -> Option<SignedKey> {
    Some(SignedKey {
        id: content_of(node, "id")?.to_vec(),
        value: content_of(node, "value")?.to_vec(),
        signature: content_of(node, "signature")?.to_vec(),
    })
}

pub(crate) fn one_time_key(node: &Node) -> Option<OneTimeKey> {
    Some(OneTimeKey {
        id: content_of(node, "id")?.to_vec(),
        value: content_of(node, "value")?.to_vec(),
    })
}

/// What the server has of a device, by which the device checks that both still agree.
fn digest(companion: &Companion) -> Node {
    let keys = &companion.keys;
    let values: Vec<&[u8]> = keys.one_time.iter().map(|key| key.value.as_slice()).collect();
    let hash = compute_key_bundle_digest(
        &keys.identity,
        &keys.signed.value,
        &keys.signed.signature,
        &values,
    );
    let ids = keys.one_time.iter().map(|key| el("id").bytes(key.id.as_slice()).build());
    let mut parts = bundle_start(&keys.registration, &keys.identity, &keys.signed);
    parts.push(el("list").children(ids).build());
    parts.push(el("hash").bytes(hash).build());
    el("digest").children(parts).build()
}
