//! Who is who. A person has two addresses, phone number (PN) and LID, and a message may name
//! either; here they become one chat and one sender. Pure.

use wacore_binary::{Jid, Server};

use crate::ids::ChatJid;

/// The two addresses of a person, without their devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Person {
    /// By phone number.
    pub(super) pn: Option<Jid>,
    /// By LID.
    pub(super) lid: Option<Jid>,
}

impl Person {
    /// Whatever these addresses tell; the first of a kind wins.
    pub(super) fn of<'a>(addresses: impl IntoIterator<Item = &'a Jid>) -> Person {
        let mut person = Person::default();
        for jid in addresses {
            // A bot's or a hosted device's namespace belongs to the person's.
            if jid.server.is_pn_family() {
                person.pn.get_or_insert_with(|| Jid::pn(jid.user_base()));
            } else if jid.server.is_lid_family() {
                person.lid.get_or_insert_with(|| Jid::lid(jid.user_base()));
            }
        }
        person
    }

    /// Whether `jid` is one of this person's, on whatever device.
    pub(super) fn is(&self, jid: &Jid) -> bool {
        let other = Person::of([jid]);
        (other.pn.is_some() && other.pn == self.pn)
            || (other.lid.is_some() && other.lid == self.lid)
    }

    /// The address by which the person is known here, and the other one.
    pub(super) fn names(&self) -> Option<(String, Option<String>)> {
        let shown = |jid: &Jid| jid.to_non_ad_string();
        match (&self.pn, &self.lid) {
            (Some(pn), lid) => Some((shown(pn), lid.as_ref().map(shown))),
            (None, Some(lid)) => Some((shown(lid), None)),
            (None, None) => None,
        }
    }

    /// Which address stands for the chat with this person: the one that is registered, else the
    /// phone number where it is known.
    pub(super) fn chat(&self, is_registered: impl Fn(&ChatJid) -> bool) -> Option<ChatJid> {
        let all: Vec<ChatJid> =
            [&self.pn, &self.lid].into_iter().flatten().filter_map(chat_jid).collect();
        all.iter().find(|jid| is_registered(jid)).or(all.first()).cloned()
    }
}

/// Whether people talk there: a person or a group; not a status, a newsletter, a broadcast list.
pub(super) fn is_talk(chat: &Jid) -> bool {
    let is_system = chat.user_base() == "0" || chat.user.is_empty();
    (chat.server == Server::Group || Person::of([chat]) != Person::default()) && !is_system
}

/// The address as the store knows it; `None` where it is none.
pub(super) fn chat_jid(jid: &Jid) -> Option<ChatJid> {
    ChatJid::new(&jid.to_non_ad_string()).ok()
}

/// Whether one of `mentioned` is `me`.
pub(super) fn is_mentioned(me: &Person, mentioned: &[String]) -> bool {
    mentioned.iter().filter_map(|text| text.parse::<Jid>().ok()).any(|jid| me.is(&jid))
}

/// `text` with the name in place of the number that a phone writes for a mention of `me`.
pub(super) fn with_name(text: &str, me: &Person, name: &str) -> String {
    let mut named = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        named.push_str(before);
        named.push('@');
        let number = &after[..after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())];
        let is_me = [&me.pn, &me.lid].into_iter().flatten().any(|jid| jid.user_base() == number);
        named.push_str(if is_me { name } else { number });
        rest = &after[number.len()..];
    }
    named + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn jid(text: &str) -> Jid {
        text.parse().expect("an address")
    }

    fn person(all: &[&str]) -> Person {
        Person::of(&all.iter().map(|text| jid(text)).collect::<Vec<_>>())
    }

    #[test]
    fn h66_both_addresses_of_a_person_are_one_chat() {
        let pn_first = person(&["491511234567:3@s.whatsapp.net", "99887766@lid"]);
        let lid_first = person(&["99887766:3@lid", "491511234567@s.whatsapp.net"]);
        assert_eq!(pn_first, lid_first);
        let chat = |registered: &str| {
            pn_first.chat(|jid| jid.as_str() == registered).expect("a chat").as_str().to_owned()
        };
        assert_eq!("491511234567@s.whatsapp.net", chat(""));
        assert_eq!("99887766@lid", chat("99887766@lid"));
        assert_eq!("491511234567@s.whatsapp.net", chat("491511234567@s.whatsapp.net"));
        let lid_only = person(&["99887766@lid"]);
        assert_eq!("99887766@lid", lid_only.chat(|_| false).expect("a chat").as_str());
    }

    #[test]
    fn h66_a_mention_counts_by_either_address() {
        let me = person(&["15550001:1@s.whatsapp.net", "777:1@lid"]);
        for text in ["15550001@s.whatsapp.net", "777@lid", "15550001:0@s.whatsapp.net"] {
            assert!(is_mentioned(&me, &["x".to_owned(), text.to_owned()]), "{text}");
        }
        for text in ["15550002@s.whatsapp.net", "15550001@lid", "777@g.us", ""] {
            assert!(!is_mentioned(&me, &[text.to_owned()]), "{text}");
        }
        assert!(!is_mentioned(&Person::default(), &["0@s.whatsapp.net".to_owned()]));
        assert_eq!("hey @Andy and @Andy", with_name("hey @777 and @15550001", &me, "Andy"));
        assert_eq!("a@b @7771 @Andy", with_name("a@b @7771 @777", &me, "Andy"));
    }

    #[test]
    fn what_nobody_talks_in_is_left_out() {
        for talk in ["1@s.whatsapp.net", "1@lid", "1-2@g.us", "1@g.us"] {
            assert!(is_talk(&jid(talk)), "{talk}");
        }
        for other in ["status@broadcast", "1@newsletter", "1@broadcast", "0@s.whatsapp.net"] {
            assert!(!is_talk(&jid(other)), "{other}");
        }
    }

    proptest! {
        #[test]
        fn hostile_mentions_never_panic(mentioned in prop::collection::vec(".{0,40}", 0..5)) {
            let me = person(&["1@s.whatsapp.net"]);
            let wanted = mentioned.iter().any(|text| text == "1@s.whatsapp.net");
            prop_assert!(!wanted || is_mentioned(&me, &mentioned));
        }
    }
}
