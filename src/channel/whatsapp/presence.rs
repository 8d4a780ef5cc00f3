//! Who sees us typing, and when we count as online: while a turn of a chat runs, and never else,
//! since the owner's phone does not ring while another of the account's devices is online. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::ChatJid;
use crate::limits::{PRESENCE_AGAIN_AFTER, TYPING_REFRESH};

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// We are here; before the first [`Sign::Typing`].
    Available,
    /// We are not; after the last [`Sign::Paused`].
    Unavailable,
    /// We write in this chat.
    Typing(ChatJid),
    /// We do not any more.
    Paused(ChatJid),
}

/// What the others were shown.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// Chats in which we type, and since when it was last said.
    shown: BTreeMap<ChatJid, Duration>,
    is_available: bool,
    /// When to say it again, whatever was said.
    doubted_until: Option<Duration>,
}

impl Presence {
    /// After a login, at which the library says by itself that we are available.
    pub(super) fn after_login() -> Presence {
        Presence { is_available: true, ..Presence::default() }
    }

    /// What to send, so that the others see us typing in `busy` alone. `now` is monotonic.
    pub(super) fn step(&mut self, now: Duration, busy: &[ChatJid]) -> Vec<Sign> {
        let mut signs = Vec::new();
        if self.doubted_until.is_some_and(|at| at <= now) {
            self.doubted_until = None;
            // Said once too often does no harm.
            self.is_available = busy.is_empty();
        }
        let ended: Vec<ChatJid> =
            self.shown.keys().filter(|chat| !busy.contains(chat)).cloned().collect();
        for chat in ended {
            self.shown.remove(&chat);
            signs.push(Sign::Paused(chat));
        }
        if self.is_available == busy.is_empty() {
            self.is_available = !busy.is_empty();
            signs.push(if self.is_available { Sign::Available } else { Sign::Unavailable });
        }
        for chat in busy {
            if self.shown.get(chat).is_none_or(|at| *at + TYPING_REFRESH <= now) {
                self.shown.insert(chat.clone(), now);
                signs.push(Sign::Typing(chat.clone()));
            }
        }
        signs
    }

    /// The others may have been shown something else: the library said it, or we could not.
    /// Whether we are there is said once more, a little later than `now`.
    pub(super) fn doubt(&mut self, now: Duration) {
        self.doubted_until = Some(now + PRESENCE_AGAIN_AFTER);
    }

    /// When something is to be said again.
    pub(super) fn due(&self) -> Option<Duration> {
        let refresh = self.shown.values().min().map(|at| *at + TYPING_REFRESH);
        refresh.into_iter().chain(self.doubted_until).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chat(n: u8) -> ChatJid {
        ChatJid::new(&format!("{n}@lid")).expect("an address")
    }

    #[test]
    fn h70_typing_is_shown_refreshed_and_cleared() {
        let second = Duration::from_secs;
        let mut presence = Presence::after_login();
        assert_eq!(vec![Sign::Unavailable], presence.step(second(0), &[]));
        let begun = vec![Sign::Available, Sign::Typing(chat(1))];
        assert_eq!(begun, presence.step(second(1), &[chat(1)]));
        assert!(presence.step(second(2), &[chat(1)]).is_empty());
        assert_eq!(Some(second(1) + TYPING_REFRESH), presence.due());
        let refreshed = vec![Sign::Typing(chat(1))];
        assert_eq!(refreshed, presence.step(second(1) + TYPING_REFRESH, &[chat(1)]));
        assert_eq!(vec![Sign::Typing(chat(2))], presence.step(second(12), &[chat(1), chat(2)]));
        assert_eq!(vec![Sign::Paused(chat(1))], presence.step(second(13), &[chat(2)]));
        let ended = vec![Sign::Paused(chat(2)), Sign::Unavailable];
        assert_eq!(ended, presence.step(second(14), &[]));
        assert_eq!(None, presence.due());
    }

    #[test]
    fn h67_in_doubt_it_is_said_again() {
        let second = Duration::from_secs;
        let mut presence = Presence::after_login();
        assert_eq!(vec![Sign::Unavailable], presence.step(second(0), &[]));
        presence.doubt(second(1));
        let again = second(1) + PRESENCE_AGAIN_AFTER;
        assert_eq!(Some(again), presence.due());
        assert!(presence.step(second(1), &[]).is_empty(), "the library is about to say it");
        assert_eq!(vec![Sign::Unavailable], presence.step(again, &[]));
        assert_eq!((vec![], None), (presence.step(second(60), &[]), presence.due()));
        presence.doubt(second(60));
        let busy = [chat(1)];
        let begun = vec![Sign::Available, Sign::Typing(chat(1))];
        assert_eq!(begun, presence.step(second(61), &busy));
        let sent = presence.step(second(60) + PRESENCE_AGAIN_AFTER, &busy);
        assert_eq!(vec![Sign::Available], sent);
    }

    proptest! {
        #[test]
        fn h67_available_only_while_typing(
            turns in prop::collection::vec(prop::collection::btree_set(0_u8..4, 0..3), 0..40),
        ) {
            let mut presence = Presence::after_login();
            let (mut is_available, mut typing) = (true, std::collections::BTreeSet::new());
            for (at, busy) in turns.into_iter().enumerate() {
                let busy: Vec<ChatJid> = busy.into_iter().map(chat).collect();
                let now = Duration::from_secs(at as u64);
                for sign in presence.step(now, &busy) {
                    match sign {
                        Sign::Available => is_available = true,
                        Sign::Unavailable => is_available = false,
                        Sign::Typing(chat) => {
                            prop_assert!(is_available, "it is not shown else");
                            typing.insert(chat);
                        }
                        Sign::Paused(chat) => prop_assert!(typing.remove(&chat)),
                    }
                }
                prop_assert_eq!(!busy.is_empty(), is_available);
                prop_assert_eq!(busy, typing.iter().cloned().collect::<Vec<_>>());
            }
        }
    }
}
