//! The Signal sessions of a phone, in memory.
//!
//! The library's functions are asynchronous for the sake of stores that wait; these never do, so
//! one look at each future has its result.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use wacore::libsignal::protocol::error::Result;
use wacore::libsignal::protocol::{
    CiphertextMessage, CiphertextMessageType, Direction, GenericSignedPreKey as _, IdentityChange,
    IdentityKey, IdentityKeyPair, IdentityKeyStore, KeyPair, PreKeyBundle, PreKeyId, PreKeyRecord,
    PreKeySignalMessage, PreKeyStore, ProtocolAddress, PublicKey, SenderKeyDistributionMessage,
    SenderKeyName, SenderKeyRecord, SenderKeyStore, SessionRecord, SessionStore, SignalMessage,
    SignalProtocolError, SignedPreKeyId, SignedPreKeyRecord, SignedPreKeyStore, UsePQRatchet,
    create_sender_key_distribution_message, group_decrypt, group_encrypt, message_decrypt,
    message_encrypt, process_prekey_bundle, process_sender_key_distribution_message,
};

use crate::state::{Address, OneTimeKey, PublicKeys};

/// All that a phone keeps about its sessions.
pub(super) struct Store {
    identities: Identities,
    one_time: OneTimeKeys,
    signed: SignedKeys,
    sessions: Sessions,
    group_keys: GroupKeys,
}

struct Identities {
    own: IdentityKeyPair,
    registration: u32,
    known: BTreeMap<String, IdentityKey>,
}

struct OneTimeKeys(BTreeMap<u32, PreKeyRecord>);

struct SignedKeys(SignedPreKeyRecord);

struct Sessions(BTreeMap<String, SessionRecord>);

struct GroupKeys(BTreeMap<String, SenderKeyRecord>);

/// A sealed text and how it is sealed, as the `type` of an `enc` element.
pub(super) struct Sealed {
    pub(super) kind: &'static str,
    pub(super) bytes: Vec<u8>,
}

impl Store {
    pub(super) fn new(own: &KeyPair, registration: u32, signed: SignedPreKeyRecord) -> Store {
        let own = IdentityKeyPair::new(IdentityKey::new(own.public_key), own.private_key.clone());
        Store {
            identities: Identities { own, registration, known: BTreeMap::new() },
            one_time: OneTimeKeys(BTreeMap::new()),
            signed: SignedKeys(signed),
            sessions: Sessions(BTreeMap::new()),
            group_keys: GroupKeys(BTreeMap::new()),
        }
    }

    pub(super) fn add_one_time(&mut self, key: PreKeyRecord) {
        let id = key.id().expect("a new record has an id");
        self.one_time.0.insert(id.into(), key);
    }

    pub(super) fn has_session(&self, with: Address) -> bool {
        self.sessions.0.contains_key(name(with).as_str())
    }

    /// Begins a session with a device, or begins it anew, from what the device published.
    pub(super) fn begin(
        &mut self,
        with: Address,
        keys: &PublicKeys,
        one_time: Option<&OneTimeKey>,
    ) -> Result<()> {
        let one_time = match one_time {
            Some(key) => Some((number(&key.id).into(), public_key(&key.value)?)),
            None => None,
        };
        let bundle = PreKeyBundle::new(
            number(&keys.registration),
            u32::from(with.device).into(),
            one_time,
            number(&keys.signed.id).into(),
            public_key(&keys.signed.value)?,
            keys.signed.signature.clone(),
            IdentityKey::new(public_key(&keys.identity)?),
        )?;
        ready(process_prekey_bundle(
            &name(with),
            &mut self.sessions,
            &mut self.identities,
            &bundle,
            &mut rand::rng(),
            UsePQRatchet::No,
        ))
        .map(|_| ())
    }

    pub(super) fn seal(&mut self, to: Address, plain: &[u8]) -> Result<Sealed> {
        let to = name(to);
        let sealed = ready(message_encrypt(plain, &to, &mut self.sessions, &mut self.identities))?;
        let kind = match sealed.message_type() {
            CiphertextMessageType::PreKey => "pkmsg",
            _ => "msg",
        };
        Ok(Sealed { kind, bytes: sealed.serialize().to_vec() })
    }

    pub(super) fn open(&mut self, from: Address, kind: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let sealed = match kind {
            "pkmsg" => {
                CiphertextMessage::PreKeySignalMessage(PreKeySignalMessage::try_from(sealed)?)
            }
            _ => CiphertextMessage::SignalMessage(SignalMessage::try_from(sealed)?),
        };
        let opened = ready(message_decrypt(
            &sealed,
            &name(from),
            &mut self.sessions,
            &mut self.identities,
            &mut self.one_time,
            &self.signed,
            &mut rand::rng(),
            UsePQRatchet::No,
        ))?;
        if let Some(used) = opened.consumed_prekey_id {
            self.one_time.0.remove(&used.into());
        }
        Ok(opened.plaintext)
    }

    /// The key with which this phone seals for a group, as others are told it.
    pub(super) fn group_key(&mut self, group: &str, own: Address) -> Result<Vec<u8>> {
        let key = ready(create_sender_key_distribution_message(
            &group_key_name(group, own),
            &mut self.group_keys,
            &mut rand::rng(),
        ))?;
        Ok(key.serialized().to_vec())
    }

    pub(super) fn take_group_key(&mut self, group: &str, of: Address, key: &[u8]) -> Result<()> {
        let key = SenderKeyDistributionMessage::try_from(key)?;
        ready(process_sender_key_distribution_message(
            &group_key_name(group, of),
            &key,
            &mut self.group_keys,
        ))
    }

    pub(super) fn seal_for_group(
        &mut self,
        group: &str,
        own: Address,
        plain: &[u8],
    ) -> Result<Sealed> {
        let name = group_key_name(group, own);
        let sealed = ready(group_encrypt(&mut self.group_keys, &name, plain, &mut rand::rng()))?;
        Ok(Sealed { kind: "skmsg", bytes: sealed.serialized().to_vec() })
    }

    pub(super) fn open_in_group(
        &mut self,
        group: &str,
        from: Address,
        sealed: &[u8],
    ) -> Result<Vec<u8>> {
        ready(group_decrypt(sealed, &mut self.group_keys, &group_key_name(group, from)))
    }
}

/// The result of a future that never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("stores in memory do not wait"),
    }
}

/// Only this phone uses the name, so any that is one device's will do.
fn name(of: Address) -> ProtocolAddress {
    ProtocolAddress::new(&format!("user{}", of.user), u32::from(of.device).into())
}

fn group_key_name(group: &str, of: Address) -> SenderKeyName {
    SenderKeyName::from_parts(group, name(of).as_str())
}

fn public_key(bytes: &[u8]) -> Result<PublicKey> {
    Ok(PublicKey::from_djb_public_key_bytes(bytes)?)
}

/// A number of up to four bytes, the highest first.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[async_trait]
impl IdentityKeyStore for Identities {
    async fn get_identity_key_pair(&self) -> Result<IdentityKeyPair> {
        Ok(self.own.clone())
    }

    async fn get_local_registration_id(&self) -> Result<u32> {
        Ok(self.registration)
    }

    async fn save_identity(
        &mut self,
        address: &ProtocolAddress,
        identity: &IdentityKey,
    ) -> Result<IdentityChange> {
        let older = self.known.insert(address.to_string(), *identity);
        Ok(match older {
            Some(older) if older != *identity => IdentityChange::ReplacedExisting,
            _ => IdentityChange::NewOrUnchanged,
        })
    }

    async fn is_trusted_identity(
        &self,
        _: &ProtocolAddress,
        _: &IdentityKey,
        _: Direction,
    ) -> Result<bool> {
        // Phones do not refuse a changed identity; their owners are only told.
        Ok(true)
    }

    async fn get_identity(&self, address: &ProtocolAddress) -> Result<Option<IdentityKey>> {
        Ok(self.known.get(address.as_str()).copied())
    }
}

#[async_trait]
impl PreKeyStore for OneTimeKeys {
    async fn get_pre_key(&self, id: PreKeyId) -> Result<PreKeyRecord> {
        self.0.get(&id.into()).cloned().ok_or(SignalProtocolError::InvalidPreKeyId)
    }

    async fn save_pre_key(&mut self, id: PreKeyId, record: &PreKeyRecord) -> Result<()> {
        self.0.insert(id.into(), record.clone());
        Ok(())
    }

    async fn remove_pre_key(&mut self, id: PreKeyId) -> Result<()> {
        self.0.remove(&id.into());
        Ok(())
    }
}

#[async_trait]
impl SignedPreKeyStore for SignedKeys {
    async fn get_signed_pre_key(&self, id: SignedPreKeyId) -> Result<SignedPreKeyRecord> {
        if self.0.id()? == id {
            return Ok(self.0.clone());
        }
        Err(SignalProtocolError::InvalidSignedPreKeyId)
    }

    async fn save_signed_pre_key(
        &mut self,
        _: SignedPreKeyId,
        record: &SignedPreKeyRecord,
    ) -> Result<()> {
        self.0 = record.clone();
        Ok(())
    }
}

#[async_trait]
impl SessionStore for Sessions {
    async fn load_session(&self, address: &ProtocolAddress) -> Result<Option<SessionRecord>> {
        Ok(self.0.get(address.as_str()).cloned())
    }

    async fn has_session(&self, address: &ProtocolAddress) -> Result<bool> {
        Ok(self.0.contains_key(address.as_str()))
    }

    async fn store_session(
        &mut self,
        address: &ProtocolAddress,
        record: SessionRecord,
    ) -> Result<()> {
        self.0.insert(address.to_string(), record);
        Ok(())
    }
}

#[async_trait]
impl SenderKeyStore for GroupKeys {
    async fn store_sender_key(
        &mut self,
        name: &SenderKeyName,
        record: SenderKeyRecord,
    ) -> Result<()> {
        self.0.insert(name.cache_key().to_owned(), record);
        Ok(())
    }

    async fn load_sender_key(&self, name: &SenderKeyName) -> Result<Option<SenderKeyRecord>> {
        Ok(self.0.get(name.cache_key()).cloned())
    }
}

#[cfg(test)]
mod tests {
    use wacore::crypto::generate_curve_key_pair;
    use wacore::libsignal::protocol::Timestamp;

    use super::*;
    use crate::noise::{key_bytes, sign};
    use crate::state::SignedKey;

    const ALICE: Address = Address { user: 0, device: 0 };
    const BOB: Address = Address { user: 1, device: 0 };

    /// A store, and what its owner publishes.
    fn store() -> (Store, PublicKeys, OneTimeKey) {
        let (identity, signed) = (generate_curve_key_pair(), generate_curve_key_pair());
        let signature = sign(&identity, &signed.public_key.serialize());
        let at = Timestamp::from_epoch_millis(0);
        let record = SignedPreKeyRecord::new(1.into(), at, &signed, &signature);
        let mut store = Store::new(&identity, 5, record);
        let one_time = generate_curve_key_pair();
        store.add_one_time(PreKeyRecord::new(7.into(), &one_time));
        let value = |key: &KeyPair| key_bytes(&key.public_key).to_vec();
        let keys = PublicKeys {
            registration: vec![0, 0, 0, 5],
            identity: value(&identity),
            signed: SignedKey { id: vec![0, 0, 1], value: value(&signed), signature },
            one_time: std::collections::VecDeque::new(),
        };
        (store, keys, OneTimeKey { id: vec![0, 0, 7], value: value(&one_time) })
    }

    #[test]
    fn what_one_seals_the_other_opens_and_each_once() {
        let (mut alice, _, _) = store();
        let (mut bob, keys, one_time) = store();
        alice.begin(BOB, &keys, Some(&one_time)).expect("keys");
        let first = alice.seal(BOB, b"one").expect("sealed");
        assert_eq!("pkmsg", first.kind);
        assert_eq!(b"one", &*bob.open(ALICE, first.kind, &first.bytes).expect("opened"));
        let answer = bob.seal(ALICE, b"two").expect("sealed");
        assert_eq!("msg", answer.kind);
        assert_eq!(b"two", &*alice.open(BOB, answer.kind, &answer.bytes).expect("opened"));
        assert!(alice.open(BOB, answer.kind, &answer.bytes).is_err());
    }

    #[test]
    fn a_group_is_read_with_the_key_that_was_told() {
        let (mut alice, _, _) = store();
        let (mut bob, _, _) = store();
        let key = alice.group_key("g", ALICE).expect("a key");
        let sealed = alice.seal_for_group("g", ALICE, b"all").expect("sealed");
        assert!(bob.open_in_group("g", ALICE, &sealed.bytes).is_err());
        bob.take_group_key("g", ALICE, &key).expect("taken");
        assert_eq!(b"all", &*bob.open_in_group("g", ALICE, &sealed.bytes).expect("opened"));
    }
}
