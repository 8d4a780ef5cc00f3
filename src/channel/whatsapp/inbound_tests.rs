use super::*;
use crate::ids::GroupFolder;
use crate::store::{ContainerConfig, NewGroup};

const NOW: UnixMs = UnixMs(1_771_506_300_000);
const HOUR: Duration = Duration::from_hours(1);

struct World {
    _folder: tempfile::TempDir,
    inbound: Arc<Inbound>,
    me: Person,
}

impl World {
    fn new(has_own_number: bool) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path());
        home.create().expect("an empty folder can be a home");
        let settings = Settings::load(&home, |name| {
            (has_own_number && name == "ASSISTANT_HAS_OWN_NUMBER").then(|| "true".to_owned())
        });
        let inbound = Inbound::new(&home, &settings.expect("defaults"), || ()).expect("a database");
        let me = Person::of(&[jid("15550001:1@s.whatsapp.net"), jid("777:1@lid")]);
        World { _folder: folder, inbound, me }
    }

    fn register(&self, chat: &str) {
        let mut store = self.inbound.store.lock().expect("nobody panicked");
        store.ensure_main_group(NOW).expect("an empty database");
        let new = NewGroup {
            jid: ChatJid::new(chat).expect("an address"),
            name: "Main".to_owned(),
            folder: GroupFolder::main(),
            trigger_name: None,
            requires_trigger: false,
            is_main: true,
            attach: true,
            config: ContainerConfig::default(),
        };
        store.register_group(&new, NOW).expect("nothing is taken");
    }

    fn message(&self, chat: &str, is_from_me: bool, text: Option<&str>) -> Option<NewMessage> {
        let (chat, sender) = (jid(chat), jid("99:2@lid"));
        let others = vec![jid("4915@s.whatsapp.net")];
        let message = wa::Message { conversation: text.map(str::to_owned), ..Default::default() };
        let incoming = Incoming {
            id: "A1",
            chat: &chat,
            sender: &sender,
            chat_others: if self.me.is(&chat) { vec![] } else { others.clone() },
            sender_others: others,
            is_from_me,
            name: "Ann",
            sent_at: NOW,
            history: false,
            message: &message,
        };
        let store = self.inbound.store.lock().expect("nobody panicked");
        self.inbound.new_message(&store, &self.me, &incoming)
    }
}

fn jid(text: &str) -> Jid {
    text.parse().expect("an address")
}

#[test]
fn h66_a_person_is_one_chat_and_one_sender_by_either_address() {
    let world = World::new(false);
    let message = world.message("99@lid", false, Some("hi @777")).expect("it says something");
    assert_eq!("4915@s.whatsapp.net", message.chat.as_str());
    assert_eq!("4915@s.whatsapp.net", message.sender);
    assert_eq!(Some("99@lid"), message.sender_alt.as_deref());
    assert_eq!(Some("Ann"), message.chat_name.as_deref());
    assert_eq!("hi @Andy", message.text);
    world.register("99@lid");
    let message = world.message("99@lid", false, Some("hi")).expect("it says something");
    assert_eq!("99@lid", message.chat.as_str());
}

#[test]
fn h15_what_the_owner_types_on_the_phone_is_theirs_unless_the_number_is_not() {
    let typed = |world: &World| {
        let message = world.message("99@lid", true, Some("hi")).expect("it says something");
        assert_eq!("15550001@s.whatsapp.net", message.sender);
        assert_eq!(None, message.chat_name, "the name is ours, not the chat's");
        message.is_from_assistant
    };
    assert!(!typed(&World::new(false)));
    assert!(typed(&World::new(true)));
    // "Message yourself", by whichever address.
    let world = World::new(false);
    for chat in ["15550001@s.whatsapp.net", "777@lid"] {
        let message = world.message(chat, true, Some("hi")).expect("it says something");
        assert_eq!("15550001@s.whatsapp.net", message.chat.as_str());
    }
}

#[test]
fn h13_what_waited_too_long_or_is_older_than_the_pairing_is_context() {
    let paired_at = UnixMs(NOW.0 - 3_600_000 * 48);
    assert!(is_fresh(NOW, NOW, paired_at));
    assert!(is_fresh(UnixMs(NOW.0 - 3_600_000 * 23), NOW, paired_at));
    assert!(!is_fresh(UnixMs(NOW.0 - 3_600_000 * 25), NOW, paired_at));
    assert!(!is_fresh(UnixMs(NOW.0 - 3_600_000), NOW, NOW));
    // The two clocks are not the same.
    assert!(is_fresh(UnixMs(NOW.0 - 30_000), NOW, NOW));
    assert!(is_fresh(NOW.plus(HOUR), NOW, paired_at));
}

#[test]
fn h17_h19_what_says_nothing_is_left_out_and_so_is_what_nobody_talks_in() {
    let world = World::new(false);
    assert_eq!(None, world.message("99@lid", false, None));
    assert_eq!(None, world.message("99@lid", false, Some(" ")));
    assert_eq!(None, world.message("status@broadcast", false, Some("hi")));
}
