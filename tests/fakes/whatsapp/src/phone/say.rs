//! What the owner of a phone types: sealed for each device of those in the chat.

use std::time::{Duration, Instant};

use wacore::messages::{MessageUtils, wrap_device_sent};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, Server as Space};
use waproto::whatsapp as wa;
use waproto::whatsapp::message::protocol_message::Type;

use super::Sent;
use super::signal::Sealed;
use crate::journal::{Outcome, Seen, SentMessage};
use crate::prekeys::{one_time_key, signed_key};
use crate::server::Server;
use crate::state::{Address, Addressing, OneTimeKey, State};
use crate::xml::{attr, child, content_of, el, is, jid};

impl Server {
    /// The owner of a phone sends a message; the result is its id.
    ///
    /// `to` is a phone number, or a name of a user (`…@s.whatsapp.net`, `…@lid`) or of a group;
    /// the own number is "message yourself".
    ///
    /// # Panics
    /// There is no such account or chat.
    pub fn say(&self, number: &str, to: &str, message: wa::Message) -> String {
        self.say_ago(Duration::ZERO, number, to, message)
    }

    /// [`Server::say`] some time ago: it has waited for those who were not there.
    ///
    /// # Panics
    /// As [`Server::say`].
    pub fn say_ago(&self, ago: Duration, number: &str, to: &str, message: wa::Message) -> String {
        self.shared().change(|state| {
            let user = state.user_by_number(number);
            let (id, chat) = (state.next_message_id(), chat_named(to));
            state.said_ago = ago.as_secs();
            state.say(user, &chat, &id, &message);
            state.said_ago = 0;
            state.users[user].phone.sent.insert(id.clone(), Sent { chat, message });
            id
        })
    }

    /// [`Server::say`] with nothing but a text.
    pub fn say_text(&self, number: &str, to: &str, text: &str) -> String {
        let message = wa::Message { conversation: Some(text.to_owned()), ..wa::Message::default() };
        self.say(number, to, message)
    }

    /// The owner of a phone begins or ends typing: `composing` or `paused`.
    pub fn type_in(&self, number: &str, to: &str, state: &'static str) {
        self.shared().change(|all| {
            let user = all.user_by_number(number);
            let node = el("chatstate").attr("to", chat_named(to)).children([el(state).build()]);
            all.on_chat_state(Address { user, device: 0 }, &node.build());
        });
    }

    /// The owner of a phone has read messages.
    pub fn read(&self, number: &str, author: &str, ids: &[&str]) {
        self.shared().change(|state| {
            let from = Address { user: state.user_by_number(number), device: 0 };
            for id in ids {
                let node = el("receipt").attr("id", *id).attr("type", "read").build();
                state.pass_receipt(from, &chat_named(author), &node);
            }
        });
    }
}

/// The chat that a test means by a number or a name.
fn chat_named(name: &str) -> Jid {
    if name.contains('@') {
        return name.parse().unwrap_or_else(|why| panic!("`{name}` names no chat: {why}"));
    }
    Jid::pn(name.chars().filter(char::is_ascii_digit).collect::<String>())
}

impl State {
    fn say(&mut self, user: usize, chat: &Jid, id: &str, message: &wa::Message) {
        let own = Address { user, device: 0 };
        self.journal.messages.push(SentMessage {
            from: self.jid(own, Addressing::Pn),
            to: chat.clone(),
            id: id.to_owned(),
            at: Instant::now(),
            outcome: Outcome::Accepted,
        });
        if chat.server == Space::Group {
            return self.say_in_group(own, chat, id, message);
        }
        let other = self.find(chat).unwrap_or_else(|| panic!("nobody is called {chat}")).user;
        let by = Addressing::of(chat);
        let mut devices = self.devices(user);
        if other != user {
            devices.extend(self.devices(other));
            self.show(other, self.jid(own, by), self.jid(own, by), id, message);
        }
        for device in devices.into_iter().filter(|device| device.device != 0) {
            self.say_to(own, device, chat, id, message, None);
        }
    }

    /// Seals a message of a chat between two for one device. With `count`, it is said again.
    fn say_to(
        &mut self,
        own: Address,
        device: Address,
        chat: &Jid,
        id: &str,
        message: &wa::Message,
        count: Option<u32>,
    ) {
        let by = Addressing::of(chat);
        let mut stanza = self.said(own, self.jid(own, by), id, message);
        let plain = if device.user == own.user {
            stanza = stanza.attr("recipient", chat.clone());
            let copy = wrap_device_sent(message.clone(), chat.to_string());
            MessageUtils::encode_and_pad(&copy)
        } else {
            stanza = match by {
                Addressing::Pn => stanza.attr("sender_lid", self.jid(own, Addressing::Lid)),
                Addressing::Lid => stanza.attr("sender_pn", self.jid(own, Addressing::Pn)),
            };
            MessageUtils::encode_and_pad(message)
        };
        if let Some(part) = self.sealed_for(own.user, device, &plain, count) {
            self.deliver_message(device, stanza, &[part]);
        }
    }

    fn say_in_group(&mut self, own: Address, chat: &Jid, id: &str, message: &wa::Message) {
        let group = chat.user.as_str();
        let members = self.group(group).members.clone();
        let plain = MessageUtils::encode_and_pad(message);
        let key = self.own_group_key(own, group);
        let phone = &mut self.users[own.user].phone;
        let sealed = phone.store.seal_for_group(group, own, &plain).expect("the key was made");
        let shared = enc(&sealed, None);
        let author = self.jid(own, self.group(group).addressing);
        for user in members {
            if user != own.user {
                self.show(user, chat.clone(), author.clone(), id, message);
            }
            for device in self.devices(user).into_iter().skip(1) {
                let mut parts = Vec::new();
                let keys = &mut self.users[own.user].phone.shared_group_keys;
                if keys.insert((group.to_owned(), device)) {
                    let plain = MessageUtils::encode_and_pad(&key);
                    parts.extend(self.sealed_for(own.user, device, &plain, None));
                }
                parts.push(shared.clone());
                let stanza = self.said_in_group(own, group, id, message);
                self.deliver_message(device, stanza, &parts);
            }
        }
    }

    /// The message that tells a device the phone's key for a group.
    fn own_group_key(&mut self, own: Address, group: &str) -> wa::Message {
        let store = &mut self.users[own.user].phone.store;
        let key = store.group_key(group, own).expect("a key can be made at any time");
        wa::Message {
            sender_key_distribution_message: wa::message::SenderKeyDistributionMessage {
                group_id: Some(format!("{group}@g.us")),
                axolotl_sender_key_distribution_message: Some(key),
            }
            .into(),
            ..wa::Message::default()
        }
    }

    /// Begins the stanza of a message that a phone sends.
    pub(super) fn said(
        &self,
        own: Address,
        shown: Jid,
        id: &str,
        message: &wa::Message,
    ) -> NodeBuilder {
        let stanza = el("message")
            .attr("from", shown)
            .attr("id", id)
            .attr("t", self.said_at())
            .attr("type", stanza_type(message))
            .attr("notify", self.users[own.user].name.as_str());
        match edit_mark(message) {
            Some(mark) => stanza.attr("edit", mark),
            None => stanza,
        }
    }

    fn said_in_group(
        &self,
        own: Address,
        group: &str,
        id: &str,
        message: &wa::Message,
    ) -> NodeBuilder {
        let shown = Jid::group(group);
        self.group_stanza(own, group, &self.said(own, shown, id, message).build())
    }

    /// Seals something for a device, in a session that is begun where there is none yet.
    pub(super) fn sealed_for(
        &mut self,
        user: usize,
        device: Address,
        plain: &[u8],
        count: Option<u32>,
    ) -> Option<Node> {
        if !self.users[user].phone.store.has_session(device) {
            let companion = self.companion_mut(device)?;
            let one_time = companion.keys.one_time.pop_front();
            let keys = companion.keys.clone();
            let phone = &mut self.users[user].phone;
            if let Err(why) = phone.store.begin(device, &keys, one_time.as_ref()) {
                self.journal.note(format!("?? no session with {device:?}: {why}"));
                return None;
            }
        }
        match self.users[user].phone.store.seal(device, plain) {
            Ok(sealed) => Some(enc(&sealed, count)),
            Err(why) => {
                self.journal.note(format!("?? not sealed for {device:?}: {why}"));
                None
            }
        }
    }

    /// A device could not read what the phone said: says it again, in a new session.
    pub(super) fn say_again(&mut self, user: usize, node: &Node) {
        let author = jid(node, "participant").or_else(|| jid(node, "from"));
        let (Some(id), Some(retry)) = (attr(node, "id"), child(node, "retry")) else { return };
        let Some(device) = author.and_then(|jid| self.find(&jid)) else { return };
        let count = attr(retry, "count").and_then(|count| count.parse().ok()).unwrap_or(1);
        let Some(Sent { chat, message }) = self.users[user].phone.sent.get(&id).cloned() else {
            return;
        };
        let Some(companion) = self.companion_mut(device) else { return };
        let mut keys = companion.keys.clone();
        let mut one_time: Option<OneTimeKey> = None;
        if let Some(published) = child(node, "keys") {
            if let Some(signed) = child(published, "skey").and_then(signed_key) {
                keys.signed = signed;
            }
            if let Some(identity) = content_of(published, "identity") {
                keys.identity = identity.to_vec();
            }
            one_time = child(published, "key").and_then(one_time_key);
        } else {
            one_time = one_time.or_else(|| companion.keys.one_time.pop_front());
        }
        let phone = &mut self.users[user].phone;
        if let Err(why) = phone.store.begin(device, &keys, one_time.as_ref()) {
            return self.journal.note(format!("?? no new session with {device:?}: {why}"));
        }
        let own = Address { user, device: 0 };
        if chat.server != Space::Group {
            return self.say_to(own, device, &chat, &id, &message, Some(count));
        }
        let group = chat.user.as_str();
        let mut message = message;
        message.sender_key_distribution_message =
            self.own_group_key(own, group).sender_key_distribution_message;
        let plain = MessageUtils::encode_and_pad(&message);
        if let Some(part) = self.sealed_for(user, device, &plain, Some(count)) {
            let stanza = self.said_in_group(own, group, &id, &message);
            self.deliver_message(device, stanza, &[part]);
        }
    }

    /// Shows a message on the screen of a phone.
    pub(super) fn show(
        &mut self,
        user: usize,
        chat: Jid,
        sender: Jid,
        id: &str,
        message: &wa::Message,
    ) {
        self.journal.seen.push(Seen {
            phone: self.users[user].number.clone(),
            chat,
            sender,
            id: id.to_owned(),
            message: Ok(message.clone()),
            at: Instant::now(),
        });
    }
}

fn enc(sealed: &Sealed, count: Option<u32>) -> Node {
    let mut enc = el("enc").attr("v", "2").attr("type", sealed.kind);
    if let Some(count) = count {
        enc = enc.attr("count", count);
    }
    enc.bytes(sealed.bytes.as_slice()).build()
}

/// The kind of a message that its stanza tells.
fn stanza_type(message: &wa::Message) -> &'static str {
    let media = message.image_message.is_set()
        || message.audio_message.is_set()
        || message.video_message.is_set()
        || message.document_message.is_set()
        || message.sticker_message.is_set();
    match () {
        () if message.reaction_message.is_set() => "reaction",
        () if media => "media",
        () => "text",
    }
}

/// How a stanza tells that it changes an earlier message, or takes it back.
fn edit_mark(message: &wa::Message) -> Option<&'static str> {
    match message.protocol_message.as_option()?.r#type? {
        Type::MESSAGE_EDIT => Some("1"),
        Type::REVOKE => Some("7"),
        _ => None,
    }
}

/// Whether a stanza is a receipt that asks for a message again.
pub(super) fn asks_again(node: &Node) -> bool {
    node.tag == "receipt" && is(node, "type", "retry")
}
