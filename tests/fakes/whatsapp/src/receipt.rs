//! What follows a message: receipts and acknowledgements; and what is only shown: typing, presence.

use std::time::Instant;

use wacore_binary::{Jid, Node, Server as Space};

use crate::journal::{ChatState, Presence, Receipt};
use crate::link::LinkId;
use crate::state::{Address, Addressing, State, now_seconds};
use crate::xml::{attr, child, children, el, is, jid};

impl State {
    /// A device has received messages, or has read them, or cannot read them.
    pub(crate) fn on_receipt(&mut self, link: LinkId, from: Address, node: &Node) {
        let (Some(id), Some(to)) = (attr(node, "id"), jid(node, "to")) else { return };
        let more = child(node, "list").map(children).unwrap_or_default();
        let mut ids = vec![id.clone()];
        ids.extend(more.iter().filter_map(|item| attr(item, "id")));
        self.confirm(from, "message", &ids);
        let kind = attr(node, "type");
        self.journal.receipts.push(Receipt {
            from: self.jid(from, Addressing::Pn),
            to: to.clone(),
            kind: kind.clone(),
            ids,
            at: Instant::now(),
        });
        let mut ack = el("ack").attr("class", "receipt").attr("id", id).attr("from", to.clone());
        if let Some(participant) = jid(node, "participant") {
            ack = ack.attr("participant", participant);
        }
        if let Some(kind) = kind {
            ack = ack.attr("type", kind);
        }
        self.send(link, ack.build());
        self.pass_receipt(from, &to, node);
    }

    /// Hands a receipt to the devices of the one who wrote the message.
    pub(crate) fn pass_receipt(&mut self, from: Address, to: &Jid, node: &Node) {
        let named = jid(node, "participant").unwrap_or_else(|| to.clone());
        let Some(author) = self.find(&named) else { return };
        let shown = match to.server {
            Space::Group => to.clone(),
            _ => self.jid(from, Addressing::of(to)),
        };
        let mut receipt = el("receipt")
            .attr("from", shown)
            .attr("id", attr(node, "id").unwrap_or_default())
            .attr("t", now_seconds());
        if to.server == Space::Group {
            receipt = receipt.attr("participant", self.jid(from, Addressing::of(&named)));
        }
        for kept in ["type", "recipient"] {
            if let Some(value) = node.attrs.get(kept) {
                receipt = receipt.attr(kept, value.clone());
            }
        }
        let receipt = receipt.apply_content(node.content.clone()).build();
        let told = if is(node, "type", "retry") { vec![author] } else { self.devices(author.user) };
        for device in told.into_iter().filter(|device| *device != from) {
            self.deliver(device, receipt.clone());
        }
    }

    /// A device has a stanza.
    pub(crate) fn on_ack(&mut self, from: Address, node: &Node) {
        if let (Some(kind), Some(id)) = (attr(node, "class"), attr(node, "id")) {
            self.confirm(from, &kind, &[id]);
        }
    }

    /// Somebody types, or stopped.
    pub(crate) fn on_chat_state(&mut self, from: Address, node: &Node) {
        let (Some(to), Some(what)) = (jid(node, "to"), children(node).first()) else { return };
        self.journal.chat_states.push(ChatState {
            from: self.jid(from, Addressing::Pn),
            to: to.clone(),
            state: what.tag.to_string(),
            at: Instant::now(),
        });
        let phone = Address { device: 0, ..from };
        let users: Vec<usize> = match (to.server, self.groups.get(to.user.as_str())) {
            (Space::Group, Some(group)) => group.members.clone(),
            _ => self.find(&to).map(|of| of.user).into_iter().collect(),
        };
        let by = match self.groups.get(to.user.as_str()) {
            Some(group) => group.addressing,
            None => Addressing::of(&to),
        };
        let mut state = el("chatstate");
        state = match to.server {
            Space::Group => state.attr("from", to).attr("participant", self.jid(phone, by)),
            _ => state.attr("from", self.jid(phone, by)),
        };
        let state = state.children([what.clone()]).build();
        for user in users.into_iter().filter(|user| *user != from.user) {
            self.send_now(user, &state);
        }
    }

    /// A device shows itself as there or not, or wants to be told of somebody else.
    pub(crate) fn on_presence(&mut self, from: Address, node: &Node) {
        let available = match attr(node, "type").as_deref() {
            Some("available") => true,
            Some("unavailable") => false,
            Some("subscribe") => {
                let watched = jid(node, "to").and_then(|to| self.find(&to));
                self.watchers.extend(watched.map(|of| (from, of.user)));
                return;
            }
            // A name only.
            _ => return,
        };
        self.journal.presences.push(Presence {
            from: self.jid(from, Addressing::Pn),
            available,
            at: Instant::now(),
        });
        let shown = self.jid(Address { device: 0, ..from }, Addressing::Pn);
        let mut presence = el("presence").attr("from", shown);
        if !available {
            presence = presence.attr("type", "unavailable").attr("last", now_seconds());
        }
        let presence = presence.build();
        let watchers: Vec<Address> = self
            .watchers
            .iter()
            .filter(|(_, watched)| *watched == from.user)
            .map(|(watcher, _)| *watcher)
            .collect();
        for watcher in watchers {
            if let Some(link) = self.companion(watcher).and_then(|it| it.link) {
                self.send(link, presence.clone());
            }
        }
    }

    /// Sends to the devices of a user that are there; others never hear of it.
    pub(crate) fn send_now(&mut self, user: usize, node: &Node) {
        let companions = self.users[user].companions.values();
        let links: Vec<LinkId> =
            companions.filter(|it| it.is_active).filter_map(|it| it.link).collect();
        for link in links {
            self.send(link, node.clone());
        }
    }
}
