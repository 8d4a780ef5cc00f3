//! What comes to a phone: it opens messages, shows them, says that it has them, or asks again.

use std::time::Instant;

use wacore::messages::{decode_plaintext, unwrap_device_sent};
use wacore_binary::{Jid, Node, Server as Space};
use waproto::whatsapp as wa;

use super::say::asks_again;
use crate::journal::Seen;
use crate::state::{Address, State, now_seconds};
use crate::xml::{attr, children, content, el, is, jid};

/// How often a phone asks for a message again before it gives up. Source: the clients.
const ASK_AGAIN_MAX: u32 = 5;
/// From which time on it sends keys for a new session along. Source: the clients.
const KEYS_FROM: u32 = 2;
/// How messages are padded.
const PADDING_VERSION: u8 = 2;

impl State {
    /// A stanza for the phone of a user.
    pub(crate) fn phone_hears(&mut self, user: usize, node: &Node) {
        if asks_again(node) {
            self.say_again(user, node);
        } else if node.tag == "message" {
            self.phone_reads(user, node);
        }
    }

    fn phone_reads(&mut self, user: usize, node: &Node) {
        let (Some(id), Some(from)) = (attr(node, "id"), jid(node, "from")) else { return };
        let in_group = from.server == Space::Group;
        let sender = if in_group { jid(node, "participant") } else { Some(from.clone()) };
        let Some(sender) = sender else { return };
        let Some(author) = self.find(&sender) else { return };
        let chat = match jid(node, "recipient") {
            _ if in_group => from.clone(),
            Some(recipient) => recipient,
            None => from.to_non_ad(),
        };
        match self.open_parts(user, &chat, author, node) {
            Ok(None) => {}
            Ok(Some(message)) => {
                let message = unwrap_device_sent(message);
                // What devices of one account tell each other is not shown.
                if message.protocol_message.is_unset() && !is(node, "category", "peer") {
                    self.show(user, chat, sender.clone(), &id, &message);
                }
                self.confirm_reading(user, author, &from, &sender, &id);
            }
            Err(why) => {
                self.journal.seen.push(Seen {
                    phone: self.users[user].number.clone(),
                    chat,
                    sender: sender.clone(),
                    id: id.clone(),
                    message: Err(why),
                    at: Instant::now(),
                });
                self.ask_again(user, &from, &sender, &id);
            }
        }
    }

    /// Opens all sealed parts of a message; nothing where they only bring keys.
    fn open_parts(
        &mut self,
        user: usize,
        chat: &Jid,
        author: Address,
        node: &Node,
    ) -> Result<Option<wa::Message>, String> {
        let group = chat.user.as_str();
        let store = &mut self.users[user].phone.store;
        let mut shown = None;
        for part in children(node).iter().filter(|part| part.tag == "enc") {
            let kind = attr(part, "type").unwrap_or_default();
            let sealed = content(part).unwrap_or_default();
            let plain = match kind.as_str() {
                "skmsg" => store.open_in_group(group, author, sealed),
                kind => store.open(author, kind, sealed),
            }
            .map_err(|why| format!("{kind}: {why}"))?;
            let mut message =
                decode_plaintext(&plain, PADDING_VERSION).map_err(|why| why.to_string())?;
            if let Some(key) = message.sender_key_distribution_message.take() {
                let key = key.axolotl_sender_key_distribution_message.unwrap_or_default();
                store.take_group_key(group, author, &key).map_err(|why| why.to_string())?;
                message.message_context_info = buffa::MessageField::default();
                if message == wa::Message::default() {
                    continue;
                }
            }
            shown = Some(message);
        }
        Ok(shown)
    }

    /// The phone tells the author's devices that it has a message.
    fn confirm_reading(
        &mut self,
        user: usize,
        author: Address,
        from: &Jid,
        sender: &Jid,
        id: &str,
    ) {
        if author.user == user {
            return;
        }
        let mut receipt = el("receipt").attr("id", id);
        if from.server == Space::Group {
            receipt = receipt.attr("participant", sender.clone());
        }
        self.pass_receipt(Address { user, device: 0 }, from, &receipt.build());
    }

    /// The phone could not open a message ("waiting for this message").
    fn ask_again(&mut self, user: usize, from: &Jid, sender: &Jid, id: &str) {
        let phone = &mut self.users[user].phone;
        let count = phone.asked_again.entry(id.to_owned()).or_default();
        *count += 1;
        let count = *count;
        if count > ASK_AGAIN_MAX {
            return;
        }
        let retry = el("retry")
            .attr("count", count)
            .attr("id", id)
            .attr("t", now_seconds())
            .attr("v", "1")
            .build();
        let registration =
            el("registration").bytes(phone.registration.to_be_bytes().as_slice()).build();
        let mut parts = vec![retry, registration];
        if count >= KEYS_FROM {
            let keys = phone.bundle().into_iter().filter(|part| part.tag != "registration");
            parts.push(el("keys").children(keys).build());
        }
        let mut receipt = el("receipt").attr("id", id).attr("type", "retry");
        if from.server == Space::Group {
            receipt = receipt.attr("participant", sender.clone());
        }
        let receipt = receipt.children(parts).build();
        self.pass_receipt(Address { user, device: 0 }, from, &receipt);
    }
}
