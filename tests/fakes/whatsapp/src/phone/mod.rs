//! The phone of each account, device 0: its owner can be made to type and to tap, and a test can
//! read the screen.
//!
//! Two phones of this server hand each other their messages unsealed: no client can see that.
//! Everything between a phone and a linked device is sealed as it really is.

mod hear;
mod history;
mod say;
mod signal;

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use wacore::crypto::generate_curve_key_pair;
use wacore::libsignal::protocol::{
    GenericSignedPreKey as _, KeyPair, PreKeyRecord, SignedPreKeyRecord, Timestamp,
};
use wacore_binary::{Jid, Node};
use waproto::whatsapp as wa;

use crate::noise::{key_bytes, sign};
use crate::prekeys::{bundle_start, one_time_node};
use crate::state::{Address, OneTimeKey, SignedKey, now_seconds};
use signal::Store;

/// Id of the only signed key that a phone ever has.
const SIGNED_KEY_ID: u32 = 1;

/// A phone.
pub(crate) struct Phone {
    /// Signs the identities of companions, too.
    identity: KeyPair,
    registration: u32,
    signed: KeyPair,
    signature: Vec<u8>,
    store: Store,
    one_time_last: u32,
    /// What it said, for those who could not read it.
    sent: BTreeMap<String, Sent>,
    /// Devices that have its key for a group.
    shared_group_keys: BTreeSet<(String, Address)>,
    /// How often it asked for a message again.
    asked_again: BTreeMap<String, u32>,
    /// Chunks of history that companions get when they are linked.
    history: Vec<history::Chunk>,
}

/// A message as it was typed.
#[derive(Clone)]
struct Sent {
    chat: Jid,
    message: wa::Message,
}

impl Phone {
    pub(crate) fn new() -> Phone {
        let (identity, signed) = (generate_curve_key_pair(), generate_curve_key_pair());
        let signature = sign(&identity, &signed.public_key.serialize());
        let registration = u32::from(rand::rng().random::<u16>() >> 2) + 1;
        let record = SignedPreKeyRecord::new(
            SIGNED_KEY_ID.into(),
            Timestamp::from_epoch_millis(now_seconds() * 1000),
            &signed,
            &signature,
        );
        Phone {
            store: Store::new(&identity, registration, record),
            identity,
            registration,
            signed,
            signature,
            one_time_last: 0,
            sent: BTreeMap::new(),
            shared_group_keys: BTreeSet::new(),
            asked_again: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    /// The key of the account.
    pub(crate) fn identity(&self) -> &KeyPair {
        &self.identity
    }

    /// What one needs to begin a session with the phone; it never runs out of one-time keys.
    pub(crate) fn bundle(&mut self) -> Vec<Node> {
        self.one_time_last += 1;
        let key = generate_curve_key_pair();
        self.store.add_one_time(PreKeyRecord::new(self.one_time_last.into(), &key));
        let mut parts = bundle_start(
            &self.registration.to_be_bytes(),
            &key_bytes(&self.identity.public_key),
            &SignedKey {
                id: key_id(SIGNED_KEY_ID),
                value: key_bytes(&self.signed.public_key).to_vec(),
                signature: self.signature.clone(),
            },
        );
        parts.push(one_time_node(&OneTimeKey {
            id: key_id(self.one_time_last),
            value: key_bytes(&key.public_key).to_vec(),
        }));
        parts
    }
}

/// Ids of keys have three bytes.
fn key_id(id: u32) -> Vec<u8> {
    id.to_be_bytes()[1..].to_vec()
}
