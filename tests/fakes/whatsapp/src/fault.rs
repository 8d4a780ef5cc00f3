//! What can be made to go wrong.

use std::collections::{BTreeMap, BTreeSet};

use wacore_binary::Node;

use crate::hostile::Hostile;
use crate::link::{LinkId, Outgoing};
use crate::login::BANNED;
use crate::state::{Address, State};
use crate::xml::el;

/// A fault, for all clients or for the devices of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The next messages of clients vanish: not relayed, not acknowledged.
    DropNext(u32),
    /// The next messages of clients are relayed, but the acknowledgement vanishes.
    LoseAcks(u32),
    /// The next message of a client is refused with this code.
    Nack(u16),
    /// The next message that is delivered comes twice.
    Duplicate,
    /// The next two messages that are delivered to one device come in the wrong order.
    Reorder,
    /// The next message that is delivered cannot be decrypted.
    Corrupt,
    /// Connections stay open, but nothing is read or written any more; nothing is accepted.
    Freeze,
    /// Ends [`Fault::Freeze`].
    Thaw,
    /// Connections are cut with no word.
    Hangup,
    /// Connections are closed as the WebSocket protocol has it.
    Close,
    /// The same with this code (1000 to 4999).
    CloseWith(u16),
    /// `<stream:error code>`, then closed.
    StreamError(u16),
    /// `<stream:error>` of a connection that a newer one takes the place of, then closed.
    Replace,
    /// Each login is refused with this reason, until [`Fault::Heal`].
    Failure(u16),
    /// The next login is refused with this reason.
    FailureOnce(u16),
    /// Each login is refused because of a ban of so many seconds, until [`Fault::Heal`].
    Ban(u32),
    /// Whether connections are closed as soon as they are accepted.
    Refuse(bool),
    /// Harms connections, those that there are and those to come, until [`Fault::Heal`].
    Hostile(Hostile),
    /// Ends all that lasts and forgets all that was to come.
    Heal,
}

/// Whom a fault is for: one user, or all.
type Scope = Option<usize>;

/// Why a login is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: u16,
    /// For how many seconds, where it is a ban.
    pub(crate) ban_seconds: u32,
}

/// How long the ban is where a test does not say.
const BAN_SECONDS: u32 = 3600;

impl Refusal {
    pub(crate) fn of(reason: u16) -> Refusal {
        Refusal { reason, ban_seconds: BAN_SECONDS }
    }
}

/// The faults that last or are still to come.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// One-shot faults, oldest first.
    pending: Vec<(Scope, Fault)>,
    frozen: BTreeSet<Scope>,
    failing: BTreeMap<Scope, Refusal>,
    pub(crate) refusing: bool,
    pub(crate) hostile: Option<Hostile>,
    /// Messages that [`Fault::Reorder`] holds back until the next to the same device.
    pub(crate) held: Vec<(Address, Node)>,
}

impl Faults {
    /// Whether connections of this user (or of nobody yet) stand still.
    pub(crate) fn is_frozen(&self, user: Scope) -> bool {
        self.frozen.contains(&None) || user.is_some() && self.frozen.contains(&user)
    }

    /// Why a login is to be refused now.
    pub(crate) fn failure(&mut self, user: Scope) -> Option<Refusal> {
        let once = self.take(user, |fault| match fault {
            Fault::FailureOnce(reason) => Some(Refusal::of(reason)),
            _ => None,
        });
        once.or_else(|| self.failing.get(&user).or_else(|| self.failing.get(&None)).copied())
    }

    /// Takes the oldest fault to come that `pick` wants, for this user or for all.
    pub(crate) fn take<T>(&mut self, user: Scope, pick: impl Fn(Fault) -> Option<T>) -> Option<T> {
        let concerns = |scope: Scope| scope.is_none() || scope == user;
        let (place, taken) =
            self.pending.iter().enumerate().find_map(|(place, &(scope, fault))| {
                Some((place, pick(fault).filter(|_| concerns(scope))?))
            })?;
        match &mut self.pending[place].1 {
            Fault::DropNext(left) | Fault::LoseAcks(left) if *left > 1 => *left -= 1,
            _ => {
                self.pending.remove(place);
            }
        }
        Some(taken)
    }
}

impl State {
    pub(crate) fn cause(&mut self, fault: Fault, scope: Scope) {
        self.journal.note(format!("-- fault {fault:?} for {scope:?}"));
        match fault {
            Fault::DropNext(0) | Fault::LoseAcks(0) => {}
            Fault::DropNext(_)
            | Fault::LoseAcks(_)
            | Fault::Nack(_)
            | Fault::Duplicate
            | Fault::Reorder
            | Fault::Corrupt
            | Fault::FailureOnce(_) => self.faults.pending.push((scope, fault)),
            Fault::Freeze => {
                self.faults.frozen.insert(scope);
            }
            Fault::Thaw => {
                self.faults.frozen.remove(&scope);
            }
            Fault::Failure(reason) => {
                self.faults.failing.insert(scope, Refusal::of(reason));
            }
            Fault::Ban(ban_seconds) => {
                self.faults.failing.insert(scope, Refusal { reason: BANNED, ban_seconds });
            }
            Fault::Refuse(refusing) => self.faults.refusing = refusing,
            Fault::Hostile(hostile) => {
                self.faults.hostile = Some(hostile);
                self.each(scope, |state, link| {
                    if state.links.get(&link).is_some_and(|open| open.address().is_some()) {
                        state.harm(link);
                    } else {
                        state.hang_up(link);
                    }
                });
            }
            Fault::Heal => self.faults = Faults::default(),
            Fault::Hangup => self.each(scope, State::hang_up),
            Fault::Close => self.each(scope, |state, link| state.end(link, None)),
            Fault::CloseWith(code) => {
                self.each(scope, move |state, link| state.end(link, Some(code)));
            }
            Fault::StreamError(code) => self.each(scope, move |state, link| {
                let error = el("stream:error").attr("code", code).build();
                state.send(link, error);
                state.end(link, None);
            }),
            Fault::Replace => self.each(scope, State::replace),
        }
    }

    /// Tells a connection that another has taken its place, and ends it.
    pub(crate) fn replace(&mut self, link: LinkId) {
        let conflict = el("conflict").attr("type", "replaced").build();
        self.send(link, el("stream:error").children([conflict]).build());
        self.end(link, None);
    }

    fn each(&mut self, scope: Scope, act: impl Fn(&mut State, LinkId)) {
        let concerned: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| {
                scope.is_none() || link.address().is_some_and(|of| Some(of.user) == scope)
            })
            .map(|(&id, _)| id)
            .collect();
        for link in concerned {
            act(self, link);
        }
    }

    /// Ends a connection politely, once all that was sent on it is out.
    pub(crate) fn end(&mut self, link: LinkId, code: Option<u16>) {
        if let Some(open) = self.links.get(&link) {
            open.push(Outgoing::Close(code));
        }
        self.detach(link);
    }

    fn hang_up(&mut self, link: LinkId) {
        if let Some(open) = self.links.get(&link) {
            open.cut();
        }
        self.detach(link);
    }
}
