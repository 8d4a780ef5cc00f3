//! The dialogue between a command at the terminal and the link: what a person wants of it, and how
//! far a pairing is. Both are values in the table `state`, and a ring of the bell says that there is
//! something new, so it works from any process, whether or not the daemon ran before.

use serde::{Deserialize, Serialize};
use wacore::types::events::Event;
use whatsapp_rust::pair_code::PairCodeOptions;

use crate::ids::UnixMs;
use crate::store::{self, Store};

/// Where a command says what it wants; taken away by the link.
const WANTED_KEY: &str = "whatsapp.wanted";
/// Where the link shows how far a pairing is; a secret as long as it lasts.
const PAIRING_KEY: &str = "whatsapp.pairing";

/// What a person wants of the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum Wanted {
    /// To be taken in by a phone.
    Pair {
        /// Digits with the country code: a code to be typed on the phone of this number. Without
        /// it, a QR code to be scanned.
        phone: Option<String>,
        /// Tells this pairing from others.
        asked_at_ms: i64,
    },
    /// That there is no pairing after all.
    GiveUp,
    /// That the phone forgets this device.
    Unpair,
    /// A new connection, at once.
    Reconnect,
}

impl Wanted {
    /// Says it. Whoever wanted something before is overruled; a ring of the bell is to follow.
    ///
    /// # Errors
    /// The database.
    pub(crate) fn say(&self, store: &mut Store) -> store::Result<()> {
        store.set_state(WANTED_KEY, &serde_json::json!(self).to_string())
    }

    /// What was said last, once.
    ///
    /// # Errors
    /// The database.
    pub(crate) fn take(store: &mut Store) -> store::Result<Option<Wanted>> {
        let text = store.take_state(WANTED_KEY)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
}

/// How far a pairing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub(crate) enum Step {
    /// The server is being asked.
    Waiting,
    /// To be scanned.
    Qr {
        /// What the QR code says.
        qr: String,
        /// Then another follows, or [`Step::Expired`].
        valid_until_ms: i64,
    },
    /// To be typed.
    Code {
        /// Eight characters.
        code: String,
        /// Then [`Step::Expired`] follows.
        valid_until_ms: i64,
    },
    /// The phone has taken us in; now it says what there is.
    Syncing,
    /// All is there.
    Done {
        /// Digits of the account.
        number: String,
        /// What the account calls itself.
        name: String,
        /// Whether the chat with oneself came to the group main.
        is_attached: bool,
    },
    /// Nobody has scanned or typed it. Who still waits asks again.
    Expired,
    /// It did not work.
    Failed {
        /// On one line.
        error: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Shown {
    asked_at_ms: i64,
    #[serde(flatten)]
    step: Step,
}

impl Step {
    /// Shows it to whoever asked then. A ring of the bell is to follow.
    ///
    /// # Errors
    /// The database.
    pub(crate) fn show(self, store: &mut Store, asked_at: UnixMs) -> store::Result<()> {
        let shown = Shown { asked_at_ms: asked_at.0, step: self };
        store.set_state(PAIRING_KEY, &serde_json::json!(shown).to_string())
    }

    /// What was shown last to the one who asked then.
    ///
    /// # Errors
    /// The database.
    pub(crate) fn shown(store: &Store, asked_at: UnixMs) -> store::Result<Option<Step>> {
        let text = store.get_state(PAIRING_KEY)?;
        let shown: Option<Shown> = text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(shown.filter(|shown| shown.asked_at_ms == asked_at.0).map(|shown| shown.step))
    }

    /// Forgets what was shown.
    ///
    /// # Errors
    /// The database.
    pub(crate) fn hide(store: &mut Store) -> store::Result<()> {
        store.take_state(PAIRING_KEY).map(drop)
    }
}

/// A pairing that somebody asked for, on the side of the link.
#[derive(Debug)]
pub(super) struct Pairing {
    /// Whom the steps are for.
    pub(super) asked_at: UnixMs,
    phone: Option<String>,
    is_code_asked_for: bool,
    code_until: Option<UnixMs>,
}

impl Pairing {
    pub(super) fn new(phone: Option<String>, asked_at: UnixMs) -> Pairing {
        Pairing { asked_at, phone, is_code_asked_for: false, code_until: None }
    }

    /// What an event of the library's means to who asked.
    pub(super) fn heard(&mut self, event: &Event, now: UnixMs) -> Option<Step> {
        let until = |valid| now.plus(valid);
        let failed = |error: &str| Some(Step::Failed { error: error.to_owned() });
        match event {
            Event::PairingQrCode(told) if self.phone.is_none() => {
                Some(Step::Qr { qr: told.code.clone(), valid_until_ms: until(told.timeout).0 })
            }
            Event::PairingCode(told) => {
                self.code_until = Some(until(told.timeout));
                let valid_until_ms = until(told.timeout).0;
                Some(Step::Code { code: told.code.clone(), valid_until_ms })
            }
            Event::PairingCodeRefresh(_) => Some(Step::Expired),
            Event::PairingCodeError(told) => {
                failed(&format!("WhatsApp gives no code for this number now: {}", told.error))
            }
            Event::PairSuccess(_) => {
                self.code_until = None;
                Some(Step::Syncing)
            }
            Event::PairError(told) => failed(&told.error),
            Event::QrScannedWithoutMultidevice(_) => {
                failed("the phone does not allow linked devices: update WhatsApp on it")
            }
            _ => None,
        }
    }

    /// What to ask the library for, once, when the server has begun a pairing: it tells of its QR
    /// codes whether or not they are wanted.
    pub(super) fn code_to_ask_for(&mut self, event: &Event) -> Option<PairCodeOptions> {
        let phone_number = self.phone.clone()?;
        let is_begun = matches!(event, Event::PairingQrCode(_)) && !self.is_code_asked_for;
        self.is_code_asked_for |= is_begun;
        is_begun.then(|| PairCodeOptions { phone_number, ..PairCodeOptions::default() })
    }

    /// Whether a code to type is shown. It is as good as the connection that it was made for.
    pub(super) fn shows_code(&self) -> bool {
        self.code_until.is_some()
    }

    /// Whether a code was shown that nobody has typed in time.
    pub(super) fn is_expired(&self, now: UnixMs) -> bool {
        self.code_until.is_some_and(|until| until <= now)
    }
}

/// Why something is no phone number that a code can be asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no phone number: {problem}; write it with the country code, like +49 170 1234567"
)]
pub(crate) struct NoNumber {
    text: String,
    problem: &'static str,
}

/// The digits of a phone number with its country code, as people write it: with a `+` or `00`
/// before it or neither, and with spaces, dots, dashes, slashes and brackets inside.
///
/// # Errors
/// [`NoNumber`].
pub(crate) fn number(text: &str) -> Result<String, NoNumber> {
    let no = |problem| Err(NoNumber { text: crate::ids::shown(text), problem });
    let written = text.trim();
    let international = written.strip_prefix('+').or_else(|| written.strip_prefix("00"));
    let written = international.unwrap_or(written);
    if written.starts_with('-') {
        return no("it begins with a minus");
    }
    if written.contains("(0)") {
        return no("the 0 in brackets is not dialled from abroad, so leave it out");
    }
    if written.chars().any(|c| !c.is_ascii_digit() && !" .-/()\u{a0}".contains(c)) {
        return no("it has characters other than digits");
    }
    let digits: String = written.chars().filter(char::is_ascii_digit).collect();
    match digits.len() {
        _ if digits.starts_with('0') => no("it begins with a 0, so the country is missing"),
        // Source: ITU-T E.164, of the longest; of the shortest, what the library takes.
        0..7 => no("it has fewer than 7 digits"),
        7..=15 => Ok(digits),
        _ => no("it has more than 15 digits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let found = number(text);
        let found = found.as_ref().map(String::as_str).map_err(|error| error.problem);
        assert_eq!(expected, found, "{text}");
    }

    #[test]
    fn h68_numbers_are_taken_as_people_write_them() {
        for text in [
            "+49 170 1234567",
            "0049 (170) 123-4567",
            "491701234567",
            " +49.170/1234567 ",
            "+49\u{a0}170\u{a0}1234567",
        ] {
            check(text, Ok("491701234567"));
        }
        check("+1 555 000 1234", Ok("15550001234"));
    }

    #[test]
    fn h68_what_cannot_be_a_number_is_refused_with_the_reason() {
        check("0170 1234567", Err("it begins with a 0, so the country is missing"));
        check(
            "+49 (0)170 1234567",
            Err("the 0 in brackets is not dialled from abroad, so leave it out"),
        );
        check("-491701234567", Err("it begins with a minus"));
        check("+49170123456x", Err("it has characters other than digits"));
        check("49170+1234567", Err("it has characters other than digits"));
        check("٤٩١٧٠١٢٣٤٥٦٧", Err("it has characters other than digits"));
        for text in ["", "+", "00", "123456"] {
            check(text, Err("it has fewer than 7 digits"));
        }
        check("1234567890123456", Err("it has more than 15 digits"));
        let told = number("0170 1234567").expect_err("refused").to_string();
        assert!(told.ends_with("write it with the country code, like +49 170 1234567"), "{told}");
    }

    #[test]
    fn what_is_said_is_taken_once_and_what_is_shown_is_for_who_asked() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut store = Store::open(&folder.path().join("messages.db")).expect("opens");
        assert_eq!(None, Wanted::take(&mut store).expect("read"));
        let wanted = Wanted::Pair { phone: Some("49170".to_owned()), asked_at_ms: 5 };
        Wanted::Reconnect.say(&mut store).expect("said");
        wanted.say(&mut store).expect("said");
        assert_eq!(Some(wanted), Wanted::take(&mut store).expect("read"));
        assert_eq!(None, Wanted::take(&mut store).expect("read"));

        let step = Step::Qr { qr: "2@x".to_owned(), valid_until_ms: 7 };
        step.clone().show(&mut store, UnixMs(5)).expect("shown");
        assert_eq!(Some(step), Step::shown(&store, UnixMs(5)).expect("read"));
        assert_eq!(None, Step::shown(&store, UnixMs(4)).expect("read"));
        Step::hide(&mut store).expect("hidden");
        assert_eq!(None, Step::shown(&store, UnixMs(5)).expect("read"));
        // What a later version may write there.
        store.set_state(WANTED_KEY, r#"{"what":"dance"}"#).expect("set");
        assert_eq!(None, Wanted::take(&mut store).expect("read"));
    }
}
