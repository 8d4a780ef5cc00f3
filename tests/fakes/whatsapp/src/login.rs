//! Letting a device in, or not.

use wacore_binary::Node;
use waproto::whatsapp::ClientPayload;

use crate::Account;
use crate::fault::Refusal;
use crate::link::{LinkId, Phase};
use crate::phone::Phone;
use crate::state::{Address, Addressing, Companion, PublicKeys, State, User, now_seconds};
use crate::xml::el;

/// The account never had this device, or has it no longer. Source: the clients, which log out.
pub(crate) const UNKNOWN_DEVICE: u16 = 401;
/// The account is banned for a time.
pub(crate) const BANNED: u16 = 402;
/// Why: too many messages to strangers.
const BAN_CODE: u16 = 101;

impl State {
    pub(crate) fn open_account(&mut self, number: &str, name: &str) -> Account {
        let number: String = number.chars().filter(char::is_ascii_digit).collect();
        assert!(
            self.users.iter().all(|user| user.number != number),
            "there is an account {number} already",
        );
        let user = self.users.len();
        self.users.push(User {
            number,
            // Fifteen digits, like real ones; told apart from numbers by their start.
            lid: format!("1000000000{:05}", (user + 1) * 7919 % 100_000),
            name: name.to_owned(),
            is_lid_migrated: false,
            phone: Phone::new(),
            companions: std::collections::BTreeMap::new(),
            companion_last: 0,
            opened_at: now_seconds(),
            devices_changed: 0,
        });
        let phone = Address { user, device: 0 };
        Account { pn: self.jid(phone, Addressing::Pn), lid: self.jid(phone, Addressing::Lid) }
    }

    /// The device that a client says it is.
    pub(crate) fn device_of(&self, payload: &ClientPayload) -> Option<Address> {
        let number = payload.username?.to_string();
        let user = self.users.iter().position(|user| user.number == number)?;
        Some(Address { user, device: u16::try_from(payload.device?).ok()? })
    }

    /// A client says that it is a device of an account.
    pub(crate) fn log_in(&mut self, link: LinkId, noise_key: [u8; 32], payload: &ClientPayload) {
        let device = self.device_of(payload);
        if let Some(info) = self.journal.connection(link) {
            info.device = device.map(|_| {
                wacore_binary::Jid::pn_device(
                    payload.username.unwrap_or_default().to_string(),
                    device.map_or(0, |of| of.device),
                )
            });
        }
        if let Some(refusal) = self.faults.failure(device.map(|of| of.user)) {
            return self.refuse(link, refusal);
        }
        let known = device
            .filter(|&of| self.companion(of).is_some_and(|known| known.noise_key == noise_key));
        let Some(device) = known else {
            return self.refuse(link, Refusal::of(UNKNOWN_DEVICE));
        };
        let older = self.companion(device).and_then(|companion| companion.link);
        if let Some(older) = older {
            self.replace(older);
        }
        if let Some(info) = self.journal.connection(link) {
            info.logged_in = true;
            info.at_once = if older.is_some() { 2 } else { 1 };
        }
        if let Some(open) = self.links.get_mut(&link) {
            open.phase = Phase::Online(device);
        }
        if let Some(companion) = self.companion_mut(device) {
            companion.link = Some(link);
        }
        let success = self.success(device);
        self.send(link, success);
        self.harm(link);
    }

    fn success(&self, device: Address) -> Node {
        el("success")
            .attr("t", now_seconds())
            .attr("props", "27")
            .attr("lid", self.jid(device, Addressing::Lid))
            .attr("abprops", "0")
            .attr("location", "fake")
            .attr("companion_enc_static", "")
            .attr("group_abprops", "0")
            .attr("creation", self.users[device.user].opened_at)
            .build()
    }

    /// Refuses a login.
    pub(crate) fn refuse(&mut self, link: LinkId, refusal: Refusal) {
        let mut failure = el("failure").attr("reason", refusal.reason).attr("location", "fake");
        if refusal.reason == BANNED {
            failure = failure.attr("code", BAN_CODE).attr("expire", refusal.ban_seconds);
        }
        self.send(link, failure.build());
        self.end(link, None);
    }

    pub(crate) fn is_online(&self, user: usize) -> bool {
        self.users[user].companions.values().any(|companion| companion.is_active)
    }
}

impl Companion {
    pub(crate) fn new(
        noise_key: [u8; 32],
        keys: PublicKeys,
        identity_proof: Vec<u8>,
        key_index: u32,
    ) -> Companion {
        Companion {
            noise_key,
            keys,
            identity_proof,
            key_index,
            queue: std::collections::VecDeque::new(),
            link: None,
            is_active: false,
            is_greeted: false,
        }
    }
}
