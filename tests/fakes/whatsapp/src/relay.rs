//! Messages on their way: each device of those in a chat gets the part that is sealed for it.

use std::time::Instant;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeContent, Server as Space};

use crate::fault::Fault;
use crate::journal::{Outcome, SentMessage};
use crate::link::LinkId;
use crate::state::{Address, Addressing, State, now_seconds};
use crate::xml::{attr, child, children, el, is, jid};

/// What a sender outside of a group is told. Source: clients, which show that it was not sent.
const NOT_A_MEMBER: u16 = 403;

impl State {
    /// A device sends a message.
    pub(crate) fn on_message(&mut self, link: LinkId, from: Address, node: &Node) {
        let (Some(id), Some(to)) = (attr(node, "id"), jid(node, "to")) else { return };
        let outcome = self.message_fate(from.user, &to);
        self.journal.messages.push(SentMessage {
            from: self.jid(from, Addressing::Pn),
            to: to.clone(),
            id: id.clone(),
            at: Instant::now(),
            outcome,
        });
        let ack = el("ack")
            .attr("class", "message")
            .attr("id", id)
            .attr("from", to.clone())
            .attr("t", now_seconds());
        match outcome {
            Outcome::Accepted => self.send(link, ack.build()),
            Outcome::Nacked(code) => self.send(link, ack.attr("error", code).build()),
            Outcome::AckLost | Outcome::Dropped => {}
        }
        if matches!(outcome, Outcome::Accepted | Outcome::AckLost) {
            self.relay(from, &to, node);
        }
    }

    /// What is to be done with the next message of a user.
    fn message_fate(&mut self, user: usize, to: &Jid) -> Outcome {
        let is_member = |id| self.groups.get(id).is_some_and(|it| it.members.contains(&user));
        if to.server == Space::Group && !is_member(to.user.as_str()) {
            return Outcome::Nacked(NOT_A_MEMBER);
        }
        let fate = self.faults.take(Some(user), |fault| match fault {
            Fault::DropNext(_) => Some(Outcome::Dropped),
            Fault::LoseAcks(_) => Some(Outcome::AckLost),
            Fault::Nack(code) => Some(Outcome::Nacked(code)),
            _ => None,
        });
        fate.unwrap_or(Outcome::Accepted)
    }

    fn relay(&mut self, from: Address, to: &Jid, node: &Node) {
        if to.server == Space::Group {
            return self.relay_to_group(from, to, node);
        }
        let direct = child(node, "enc").is_some() && child(node, "participants").is_none();
        if direct && let Some(device) = self.find(to) {
            // To one device only: a message to the own phone, or one that was asked for again.
            let stanza = self.direct_stanza(from, device, to, node);
            return self.deliver_message(device, stanza, children(node));
        }
        let sealed = child(node, "participants").map(children).unwrap_or_default();
        for part in sealed {
            let Some(device) = jid(part, "jid").and_then(|jid| self.find(&jid)) else { continue };
            if device == from {
                continue;
            }
            let stanza = self.direct_stanza(from, device, to, node);
            let contents = children(part).iter().chain(child(node, "device-identity"));
            let contents: Vec<Node> = contents.cloned().collect();
            self.deliver_message(device, stanza, &contents);
        }
    }

    /// The message as a device outside of groups gets it, but for what is sealed.
    fn direct_stanza(&self, from: Address, to: Address, chat: &Jid, node: &Node) -> NodeBuilder {
        // Whom the sender names by LID sees the sender by LID too.
        let by = Addressing::of(chat);
        let stanza = self.stanza_start(self.jid(from, by), from, node);
        if to.user == from.user {
            let recipient = jid(node, "recipient").unwrap_or_else(|| chat.to_non_ad());
            return stanza.attr("recipient", recipient);
        }
        let sender = Address { device: 0, ..from };
        match by {
            Addressing::Pn => stanza.attr("sender_lid", self.jid(sender, Addressing::Lid)),
            Addressing::Lid => stanza.attr("sender_pn", self.jid(sender, Addressing::Pn)),
        }
    }

    fn relay_to_group(&mut self, from: Address, to: &Jid, node: &Node) {
        let id = to.user.as_str();
        let group = self.group(id);
        let devices: Vec<Address> =
            group.members.iter().flat_map(|&user| self.devices(user)).collect();
        let keys = child(node, "participants").map(children).unwrap_or_default();
        let asked_again = jid(node, "participant").and_then(|jid| self.find(&jid));
        for device in devices.into_iter().filter(|device| *device != from) {
            if asked_again.is_some_and(|only| only != device) {
                continue;
            }
            let own = keys
                .iter()
                .find(|part| jid(part, "jid").and_then(|jid| self.find(&jid)) == Some(device));
            let own_parts = own.map(children).unwrap_or_default().iter();
            let shared = children(node).iter().filter(|part| part.tag == "enc");
            let contents: Vec<Node> =
                own_parts.chain(shared).chain(child(node, "device-identity")).cloned().collect();
            let stanza = self.group_stanza(from, id, node);
            self.deliver_message(device, stanza, &contents);
        }
    }

    /// The message as a device in a group gets it, but for what is sealed.
    pub(crate) fn group_stanza(&self, from: Address, id: &str, node: &Node) -> NodeBuilder {
        let by = self.group(id).addressing;
        let sender = Address { device: 0, ..from };
        let stanza = self
            .stanza_start(Jid::group(id), from, node)
            .attr("participant", self.jid(from, by))
            .attr("addressing_mode", by.word());
        match by {
            Addressing::Pn => stanza.attr("participant_lid", self.jid(sender, Addressing::Lid)),
            Addressing::Lid => stanza.attr("participant_pn", self.jid(sender, Addressing::Pn)),
        }
    }

    fn stanza_start(&self, shown: Jid, from: Address, node: &Node) -> NodeBuilder {
        let mut stanza = el("message")
            .attr("from", shown)
            .attr("id", attr(node, "id").unwrap_or_default())
            .attr("t", self.said_at())
            .attr("type", attr(node, "type").unwrap_or_else(|| "text".to_owned()))
            .attr("notify", self.users[from.user].name.as_str());
        for kept in ["category", "edit"] {
            if let Some(value) = attr(node, kept) {
                stanza = stanza.attr(kept, value);
            }
        }
        stanza
    }

    /// Hands a message to a device, with what is to go wrong with it.
    pub(crate) fn deliver_message(&mut self, to: Address, stanza: NodeBuilder, parts: &[Node]) {
        let is_first = parts.iter().any(|part| is(part, "type", "pkmsg"));
        let kept = |part: &&Node| match part.tag.as_ref() {
            "enc" => true,
            // Only the beginning of a session needs to prove whose it is.
            "device-identity" => is_first,
            _ => false,
        };
        let mut parts: Vec<Node> = parts.iter().filter(kept).cloned().collect();
        if parts.is_empty() {
            return;
        }
        let user = Some(to.user);
        let spoil = |fault| (fault == Fault::Corrupt).then_some(());
        if self.faults.take(user, spoil).is_some() {
            parts.iter_mut().for_each(corrupt);
        }
        let message = stanza.children(parts).build();
        let twice = |fault| (fault == Fault::Duplicate).then_some(());
        if self.faults.take(user, twice).is_some() {
            self.deliver(to, message.clone());
        }
        let reorder = |fault| (fault == Fault::Reorder).then_some(());
        if let Some(place) = self.faults.held.iter().position(|(device, _)| *device == to) {
            let (_, held) = self.faults.held.remove(place);
            self.deliver(to, message);
            self.deliver(to, held);
        } else if to.device != 0 && self.faults.take(user, reorder).is_some() {
            self.faults.held.push((to, message));
        } else {
            self.deliver(to, message);
        }
    }
}

/// Makes what is sealed impossible to open.
fn corrupt(part: &mut Node) {
    if part.tag != "enc" {
        return;
    }
    if let Some(NodeContent::Bytes(bytes)) = &mut part.content
        && let Some(last) = bytes.last_mut()
    {
        *last ^= 0xff;
    }
}
