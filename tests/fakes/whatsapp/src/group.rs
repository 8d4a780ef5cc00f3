//! Groups: who is in them, how they are called, and what members are told when that changes.

use std::fmt;

use wacore_binary::{Jid, Node, Server as Space};

use crate::link::LinkId;
use crate::server::Server;
use crate::state::{Address, Addressing, State, now_seconds};
use crate::xml::{attr, child, children, content_of, el, is, jid};

/// First of the ids that groups get, counted up. Real ones look like this too.
const FIRST_GROUP: u64 = 120_363_000_000_000_001;

/// A group.
pub(crate) struct Group {
    pub(crate) subject: String,
    pub(crate) addressing: Addressing,
    /// The first is the one who opened it, and its only admin.
    pub(crate) members: Vec<usize>,
    opened_at: u64,
    renamed_at: u64,
}

impl Server {
    /// Opens a group; the first member is its admin. The result is its name,
    /// `120363…@g.us`.
    ///
    /// # Panics
    /// There is no such account, or no member.
    pub fn group(&self, subject: &str, members: &[&str], addressing: Addressing) -> String {
        self.shared().change(|state| {
            let members: Vec<usize> =
                members.iter().map(|number| state.user_by_number(number)).collect();
            let id = state.open_group(subject, &members, addressing);
            format!("{id}@g.us")
        })
    }

    /// The group's admin gives it another subject.
    ///
    /// # Panics
    /// There is no such group.
    pub fn rename_group(&self, group: &str, subject: &str) {
        self.shared().change(|state| {
            let id = group_id(group);
            let actor = state.group(id).members[0];
            state.rename_group(id, actor, subject);
        });
    }

    /// The group's admin adds an account.
    ///
    /// # Panics
    /// There is no such group or account.
    pub fn add_member(&self, group: &str, number: &str) {
        self.shared().change(|state| {
            let (id, user) = (group_id(group), state.user_by_number(number));
            let actor = state.group(id).members[0];
            state.change_member(id, actor, user, Change::Add);
        });
    }

    /// The group's admin removes an account.
    ///
    /// # Panics
    /// There is no such group or account.
    pub fn remove_member(&self, group: &str, number: &str) {
        self.shared().change(|state| {
            let (id, user) = (group_id(group), state.user_by_number(number));
            let actor = state.group(id).members[0];
            state.change_member(id, actor, user, Change::Remove);
        });
    }
}

fn group_id(name: &str) -> &str {
    name.trim_end_matches("@g.us")
}

/// What happens to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Remove,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Add => "add",
            Change::Remove => "remove",
        })
    }
}

impl State {
    /// The group of that id.
    ///
    /// # Panics
    /// There is none: the test is wrong.
    pub(crate) fn group(&self, id: &str) -> &Group {
        self.groups.get(id).unwrap_or_else(|| panic!("there is no group {id}"))
    }

    fn open_group(&mut self, subject: &str, members: &[usize], by: Addressing) -> String {
        assert!(!members.is_empty(), "a group has members");
        let id = (FIRST_GROUP + self.groups.len() as u64).to_string();
        let now = now_seconds();
        let group = Group {
            subject: subject.to_owned(),
            addressing: by,
            members: members.to_vec(),
            opened_at: now,
            renamed_at: now,
        };
        self.groups.insert(id.clone(), group);
        for member in members.iter().copied() {
            let opened = el("create").attr("type", "new").children([self.group_facts(&id)]);
            self.notify_member(&id, members[0], member, &opened.build());
        }
        id
    }

    fn rename_group(&mut self, id: &str, actor: usize, subject: &str) {
        let now = now_seconds();
        let by = self.group(id).addressing;
        let renamed = el("subject")
            .attr("subject", subject)
            .attr("s_t", now)
            .attr("s_o", self.jid(Address { user: actor, device: 0 }, by))
            .build();
        if let Some(group) = self.groups.get_mut(id) {
            subject.clone_into(&mut group.subject);
            group.renamed_at = now;
        }
        self.notify_group(id, actor, &renamed);
    }

    fn change_member(&mut self, id: &str, actor: usize, user: usize, change: Change) {
        let told = self.group(id).members.clone();
        if told.contains(&user) == (change == Change::Add) {
            return; // As it is to be already.
        }
        let participant = self.participant(id, user);
        let changed = match change {
            Change::Add => el("add").children([participant]).build(),
            Change::Remove => el("remove").children([participant]).build(),
        };
        for member in told {
            self.notify_member(id, actor, member, &changed);
        }
        let Some(group) = self.groups.get_mut(id) else { return };
        match change {
            Change::Remove => group.members.retain(|member| *member != user),
            Change::Add => {
                group.members.push(user);
                // Who comes new is told all of it.
                let opened = el("create").children([self.group_facts(id)]).build();
                self.notify_member(id, actor, user, &opened);
            }
        }
    }

    fn notify_group(&mut self, id: &str, actor: usize, what: &Node) {
        for member in self.group(id).members.clone() {
            self.notify_member(id, actor, member, what);
        }
    }

    fn notify_member(&mut self, id: &str, actor: usize, member: usize, what: &Node) {
        let by = self.group(id).addressing;
        let actor = Address { user: actor, device: 0 };
        let name = self.users[actor.user].name.clone();
        for device in self.devices(member).into_iter().skip(1) {
            let mut notification = el("notification")
                .attr("from", Jid::group(id))
                .attr("type", "w:gp2")
                .attr("id", self.next_id())
                .attr("t", now_seconds())
                .attr("participant", self.jid(actor, by))
                .attr("notify", name.as_str())
                .attr("addressing_mode", by.word());
            if by == Addressing::Lid {
                notification = notification.attr("participant_pn", self.jid(actor, Addressing::Pn));
            }
            self.deliver(device, notification.children([what.clone()]).build());
        }
    }

    fn participant(&self, id: &str, user: usize) -> Node {
        let group = self.group(id);
        let phone = Address { user, device: 0 };
        let other = match group.addressing {
            Addressing::Pn => "lid",
            Addressing::Lid => "phone_number",
        };
        let mut participant = el("participant")
            .attr("jid", self.jid(phone, group.addressing))
            .attr(other, self.jid(phone, group.addressing.other()));
        if group.members.first() == Some(&user) {
            participant = participant.attr("type", "superadmin");
        }
        participant.build()
    }

    fn group_facts(&self, id: &str) -> Node {
        let group = self.group(id);
        let admin = Address { user: group.members[0], device: 0 };
        let admin = self.jid(admin, group.addressing);
        let participants: Vec<Node> =
            group.members.iter().map(|&user| self.participant(id, user)).collect();
        el("group")
            .attr("id", id)
            .attr("subject", group.subject.as_str())
            .attr("creation", group.opened_at)
            .attr("creator", admin.clone())
            .attr("s_t", group.renamed_at)
            .attr("s_o", admin)
            .attr("size", participants.len())
            .attr("addressing_mode", group.addressing.word())
            .children(participants)
            .build()
    }

    pub(crate) fn on_group_iq(&mut self, link: LinkId, from: Address, iq: &Node) {
        let to = jid(iq, "to").filter(|to| to.server == Space::Group);
        let Some(to) = to else {
            return self.answer_error(link, iq, 400, "bad-request");
        };
        let id = to.user.as_str();
        if id.is_empty() {
            return self.on_groups_iq(link, from, iq);
        }
        if !self.groups.get(id).is_some_and(|group| group.members.contains(&from.user)) {
            return self.answer_error(link, iq, 404, "item-not-found");
        }
        if is(iq, "type", "get") {
            let facts = self.group_facts(id);
            return self.answer(link, iq, [facts]);
        }
        if let Some(subject) = content_of(iq, "subject") {
            let subject = String::from_utf8_lossy(subject).into_owned();
            self.rename_group(id, from.user, &subject);
        }
        for (tag, change) in [("add", Change::Add), ("remove", Change::Remove)] {
            for user in self.named_users(child(iq, tag)) {
                self.change_member(id, from.user, user, change);
            }
        }
        self.answer(link, iq, []);
    }

    /// What concerns no group that exists: all groups of the one who asks, or a new one.
    fn on_groups_iq(&mut self, link: LinkId, from: Address, iq: &Node) {
        if let Some(create) = child(iq, "create") {
            let mut members = vec![from.user];
            members.extend(self.named_users(Some(create)));
            let subject = attr(create, "subject").unwrap_or_default();
            let id = self.open_group(&subject, &members, Addressing::Lid);
            let facts = self.group_facts(&id);
            return self.answer(link, iq, [facts]);
        }
        let mine = self.groups.iter().filter(|(_, group)| group.members.contains(&from.user));
        let facts: Vec<Node> = mine.map(|(id, _)| self.group_facts(id)).collect();
        self.answer(link, iq, [el("groups").children(facts).build()]);
    }

    fn named_users(&self, list: Option<&Node>) -> Vec<usize> {
        let named = list.map(children).unwrap_or_default().iter();
        named.filter_map(|node| self.find(&jid(node, "jid")?)).map(|of| of.user).collect()
    }
}
