//! All that the servers know, behind one lock: users and their devices, groups, open connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use wacore_binary::{Jid, Node, Server as Space};

use crate::fault::Faults;
use crate::group::Group;
use crate::journal::Journal;
use crate::link::{Link, LinkId, Outgoing};
use crate::noise::Identity;
use crate::phone::Phone;

/// By what users are named: phone number or LID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// `15550001@s.whatsapp.net`
    Pn,
    /// `100000000000001@lid`
    Lid,
}

/// A device of a user; 0 is the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    /// Place in [`State::users`].
    pub(crate) user: usize,
    pub(crate) device: u16,
}

/// The state of everything; changed under a lock, by methods in the file of each part.
pub(crate) struct State {
    pub(crate) identity: Arc<Identity>,
    pub(crate) users: Vec<User>,
    /// By the part before `@g.us`.
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    /// Who wants to be told of whose presence.
    pub(crate) watchers: BTreeSet<(Address, usize)>,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    /// What the HTTP server hands out, by path.
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// `host:port` of that server.
    pub(crate) blob_host: String,
    pub(crate) stopping: bool,
    /// References that a client gets at once.
    pub(crate) ref_count: usize,
    /// How many seconds ago what is said now is to have been said.
    pub(crate) said_ago: u64,
    id_count: u64,
}

/// An account.
pub(crate) struct User {
    /// Digits only.
    pub(crate) number: String,
    pub(crate) lid: String,
    pub(crate) name: String,
    /// Whether companions are told at pairing to address chats by LID.
    pub(crate) is_lid_migrated: bool,
    /// Device 0.
    pub(crate) phone: Phone,
    /// Companions by device number.
    pub(crate) companions: BTreeMap<u16, Companion>,
    /// Highest number that was ever given.
    pub(crate) companion_last: u16,
    /// In seconds since 1970.
    pub(crate) opened_at: u64,
    /// How often its set of devices has changed.
    pub(crate) devices_changed: u64,
}

/// A linked device.
pub(crate) struct Companion {
    /// Static key of its connections, which has to be the one from pairing.
    pub(crate) noise_key: [u8; 32],
    pub(crate) keys: PublicKeys,
    /// `ADVSignedDeviceIdentity` with both signatures, as others are shown it.
    pub(crate) identity_proof: Vec<u8>,
    pub(crate) key_index: u32,
    /// Stanzas that it has not confirmed, oldest first.
    pub(crate) queue: VecDeque<Node>,
    /// Its connection, once logged in.
    pub(crate) link: Option<LinkId>,
    /// Whether it has asked for what waited, and so gets new stanzas at once.
    pub(crate) is_active: bool,
    /// Whether anything was uploaded since pairing, so that the phone can speak to it.
    pub(crate) is_greeted: bool,
}

/// What a companion uploaded so that others can begin a session with it.
#[derive(Clone)]
pub(crate) struct PublicKeys {
    pub(crate) registration: Vec<u8>,
    pub(crate) identity: Vec<u8>,
    pub(crate) signed: SignedKey,
    pub(crate) one_time: VecDeque<OneTimeKey>,
}

#[derive(Clone)]
pub(crate) struct SignedKey {
    pub(crate) id: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

#[derive(Clone)]
pub(crate) struct OneTimeKey {
    pub(crate) id: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl State {
    pub(crate) fn new(blob_host: String) -> State {
        State {
            identity: Arc::new(Identity::new()),
            users: Vec::new(),
            groups: BTreeMap::new(),
            links: BTreeMap::new(),
            watchers: BTreeSet::new(),
            faults: Faults::default(),
            journal: Journal::default(),
            blobs: BTreeMap::new(),
            blob_host,
            stopping: false,
            ref_count: crate::pairing::REFS,
            said_ago: 0,
            id_count: 0,
        }
    }

    /// A stanza id that was not used before.
    pub(crate) fn next_id(&mut self) -> String {
        self.id_count += 1;
        format!("srv-{}", self.id_count)
    }

    /// When what is said now was said.
    pub(crate) fn said_at(&self) -> u64 {
        now_seconds() - self.said_ago
    }

    /// An id as phones make them for messages.
    pub(crate) fn next_message_id(&mut self) -> String {
        self.id_count += 1;
        format!("3A{:018X}", self.id_count)
    }

    /// The user of that phone number.
    ///
    /// # Panics
    /// No account has it: the test is wrong.
    pub(crate) fn user_by_number(&self, number: &str) -> usize {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        self.users
            .iter()
            .position(|user| user.number == digits)
            .unwrap_or_else(|| panic!("no account has the number {number}"))
    }

    /// Whom a name means, by phone number or LID; the device may be one that does not exist.
    pub(crate) fn find(&self, jid: &Jid) -> Option<Address> {
        let user = self.users.iter().position(|user| match jid.server {
            Space::Pn => user.number == jid.user.as_str(),
            Space::Lid => user.lid == jid.user.as_str(),
            _ => false,
        })?;
        Some(Address { user, device: jid.device })
    }

    /// How a device is named.
    pub(crate) fn jid(&self, address: Address, by: Addressing) -> Jid {
        let user = &self.users[address.user];
        match by {
            Addressing::Pn => Jid::pn_device(user.number.as_str(), address.device),
            Addressing::Lid => Jid::lid_device(user.lid.as_str(), address.device),
        }
    }

    /// The phone and all companions of a user.
    pub(crate) fn devices(&self, user: usize) -> Vec<Address> {
        let companions = self.users[user].companions.keys().copied();
        std::iter::once(0).chain(companions).map(|device| Address { user, device }).collect()
    }

    pub(crate) fn companion(&self, address: Address) -> Option<&Companion> {
        self.users[address.user].companions.get(&address.device)
    }

    pub(crate) fn companion_mut(&mut self, address: Address) -> Option<&mut Companion> {
        self.users[address.user].companions.get_mut(&address.device)
    }

    /// Sends a stanza on a connection; one that is gone meanwhile is no error, as on a network.
    pub(crate) fn send(&mut self, link: LinkId, node: Node) {
        let Some(open) = self.links.get(&link) else { return };
        self.journal.trace("S>", &self.label(link), &node);
        open.push(Outgoing::Stanza(node));
    }

    /// How a connection is called in the trace: user and device, or its number.
    pub(crate) fn label(&self, link: LinkId) -> String {
        match self.links.get(&link).and_then(Link::address) {
            Some(Address { user, device }) => {
                format!("{}:{device}", self.users[user].name)
            }
            None => link.to_string(),
        }
    }
}

impl Addressing {
    /// How this name names its user.
    pub(crate) fn of(jid: &Jid) -> Addressing {
        if jid.server == Space::Lid { Addressing::Lid } else { Addressing::Pn }
    }

    pub(crate) fn other(self) -> Addressing {
        match self {
            Addressing::Pn => Addressing::Lid,
            Addressing::Lid => Addressing::Pn,
        }
    }

    /// As group stanzas call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Addressing::Pn => "pn",
            Addressing::Lid => "lid",
        }
    }
}

/// Seconds since 1970, as stanzas carry them.
pub(crate) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}
