//! How fast messages go out: never in bursts that no person would type, since accounts are banned
//! for that. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::bucket::{Bucket, Rate};
use crate::ids::ChatJid;
use crate::limits::{
    WHATSAPP_ALL_BURST_MAX, WHATSAPP_ALL_PAUSE_SECONDS, WHATSAPP_CHAT_BURST_MAX,
    WHATSAPP_CHAT_PAUSE_SECONDS,
};

const CHAT: Rate =
    Rate { burst: WHATSAPP_CHAT_BURST_MAX, per_second: 1.0 / WHATSAPP_CHAT_PAUSE_SECONDS as f64 };
const ALL: Rate =
    Rate { burst: WHATSAPP_ALL_BURST_MAX, per_second: 1.0 / WHATSAPP_ALL_PAUSE_SECONDS as f64 };
/// Of so many chats a bucket is remembered before the full ones are let go.
const CHATS_KEPT: usize = 256;

/// What may still go out.
#[derive(Debug)]
pub(super) struct Pace {
    all: Bucket,
    chats: HashMap<ChatJid, Bucket>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Pace {
        Pace { all: Bucket::full(ALL, now), chats: HashMap::new() }
    }

    /// Takes one message to `chat`.
    ///
    /// # Errors
    /// Not yet: how long to wait.
    pub(super) fn take(&mut self, chat: &ChatJid, now: Instant) -> Result<(), Duration> {
        if CHATS_KEPT < self.chats.len() {
            self.chats.retain(|_, bucket| !bucket.is_full(now));
        }
        let known = self.chats.entry(chat.clone()).or_insert_with(|| Bucket::full(CHAT, now));
        let wait = known.wait(now).max(self.all.wait(now));
        if !wait.is_zero() {
            return Err(wait);
        }
        known.take(1);
        self.all.take(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chat(n: usize) -> ChatJid {
        ChatJid::new(&format!("{n}@g.us")).expect("an address")
    }

    #[test]
    fn h69_a_burst_to_one_chat_is_spread_and_holds_up_no_other() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let sent = (0..100).take_while(|_| pace.take(&chat(0), start).is_ok()).count();
        assert_eq!(WHATSAPP_CHAT_BURST_MAX as usize, sent);
        let wait = pace.take(&chat(0), start).expect_err("not yet");
        assert!(pace.take(&chat(1), start).is_ok());
        assert!(pace.take(&chat(0), start + wait).is_ok());
        assert!(pace.take(&chat(0), start + wait).is_err());
    }

    proptest! {
        #[test]
        fn h69_in_any_minute_no_more_than_a_person_writes(
            asked in prop::collection::vec((0_usize..40, 0_u64..3_000), 1..400),
        ) {
            let start = Instant::now();
            let mut pace = Pace::new(start);
            let mut sent: Vec<(usize, Duration)> = Vec::new();
            let mut at = Duration::ZERO;
            for (n, pause_ms) in asked {
                at += Duration::from_millis(pause_ms);
                match pace.take(&chat(n), start + at) {
                    Ok(()) => sent.push((n, at)),
                    Err(wait) => prop_assert!(pace.take(&chat(n), start + at + wait).is_ok()),
                }
            }
            let minute = Duration::from_mins(1);
            for (n, from) in &sent {
                let within = || sent.iter().filter(|(_, at)| (*from..*from + minute).contains(at));
                prop_assert!(within().count() <= 30 + 61);
                prop_assert!(within().filter(|(other, _)| other == n).count() <= 10 + 21);
            }
        }

        #[test]
        fn h69_who_waits_gets_through(chats in prop::collection::vec(0_usize..5, 1..100)) {
            let start = Instant::now();
            let (mut pace, mut at) = (Pace::new(start), start);
            for n in chats {
                if let Err(wait) = pace.take(&chat(n), at) {
                    at += wait;
                    prop_assert!(pace.take(&chat(n), at).is_ok());
                }
            }
        }
    }
}
