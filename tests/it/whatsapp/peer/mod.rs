//! A friend whose phone is the protocol library that the program is built on, with nothing of the
//! program's around it: a store in memory, a thread for each task, events taken down as they come.
//!
//! Baileys says whether the program speaks as others do. This says whether what the program makes
//! of the library is what the library means, to the last name and id.

mod socket;
mod threads;

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rust_claw_fake_whatsapp::{Server, wa};
use wacore::proto_helpers::MessageExt;
use wacore::store::in_memory::InMemoryBackend;
use wacore::store::traits::DeviceStore;
use wacore::types::events::{Event, EventHandler, InboundMessage, Subscription};
use wacore::types::presence::{ChatPresence, ReceiptType};
use wacore_binary::Jid;
use whatsapp_rust::store::persistence_manager::PersistenceManager;
use whatsapp_rust::{Client, SendOptions};

use self::socket::{NoHttp, Sockets};
use self::threads::{Threads, block_on};
use crate::support::wait_for;

/// Any will do here.
const VERSION: (u32, u32, u32) = (2, 3000, 1_043_857_760);

/// What the library told. Devices are left out of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// To be scanned.
    Code(String),
    Online,
    Text(Said),
    Typing {
        chat: String,
        is_typing: bool,
    },
    /// A message that cannot be read, by its id.
    Unreadable(String),
    /// Messages of ours have arrived, by their ids.
    Delivered(Vec<String>),
}

/// A message with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) id: String,
    pub(super) chat: String,
    pub(super) sender: String,
    pub(super) name: String,
    pub(super) text: String,
    /// Whether it waited for us.
    pub(super) waited: bool,
}

/// All that was told, in order.
#[derive(Clone, Default)]
struct Ears(Arc<Mutex<Vec<Told>>>);

impl EventHandler for Ears {
    fn handle_event(&self, event: Arc<Event>) {
        let mut told = self.0.lock().expect("nobody panics while holding it");
        match &*event {
            Event::PairingQrCode(shown) => told.push(Told::Code(shown.code.clone())),
            Event::Connected(_) => told.push(Told::Online),
            Event::Messages(batch) => told.extend(batch.messages.iter().filter_map(text)),
            Event::ChatPresence(shown) => told.push(Told::Typing {
                chat: shown.source.chat.to_non_ad_string(),
                is_typing: shown.state == ChatPresence::Composing,
            }),
            Event::UndecryptableMessage(it) => told.push(Told::Unreadable(it.info.id.clone())),
            // Of a device that is not in use, they are called inactive.
            Event::Receipt(receipt)
                if matches!(receipt.r#type, ReceiptType::Delivered | ReceiptType::Inactive) =>
            {
                let ids = receipt.message_ids.iter().map(ToString::to_string);
                told.push(Told::Delivered(ids.collect()));
            }
            _ => (),
        }
    }
}

fn text(InboundMessage { message, info, .. }: &InboundMessage) -> Option<Told> {
    Some(Told::Text(Said {
        id: info.id.clone(),
        chat: info.source.chat.to_non_ad_string(),
        sender: info.source.sender.to_non_ad_string(),
        name: info.push_name.clone(),
        text: message.text_content()?.to_owned(),
        waited: info.is_offline,
    }))
}

/// The friend's device. It goes when dropped.
pub(super) struct Peer {
    url: String,
    store: Arc<InMemoryBackend>,
    ears: Ears,
    here: Option<Here>,
}

/// A client that runs.
struct Here {
    client: Arc<Client>,
    running: JoinHandle<()>,
    _subscription: Subscription,
}

impl Peer {
    /// A device that is linked to the account of that number, and online.
    pub(super) fn linked(server: &Server, number: &str) -> Peer {
        let store = Arc::new(InMemoryBackend::new());
        let mut peer = Peer { url: server.url(), store, ears: Ears::default(), here: None };
        peer.connect();
        let code = peer.find("a code to scan", |told| match told {
            Told::Code(code) => Some(code.clone()),
            _ => None,
        });
        server.scan(number, &code).expect("the code is good");
        peer.wait("a connection", |told| told.contains(&Told::Online));
        peer
    }

    /// A client serves until it is told to go; then another takes its store over.
    fn connect(&mut self) {
        let backend = Arc::clone(&self.store);
        let manager = block_on(PersistenceManager::new(backend)).expect("memory does not fail");
        let builder = Client::builder()
            .with_runtime(Threads)
            .with_persistence_manager(Arc::new(manager))
            .with_transport_factory(Sockets { url: self.url.clone() })
            .with_http_client(NoHttp)
            .with_version_override(VERSION)
            .with_skip_history_sync(true);
        let client = block_on(builder.build()).expect("nothing is missing").into_client();
        let subscription = client.subscribe_handler(Arc::new(self.ears.clone()));
        let own = Arc::clone(&client);
        let running = thread::spawn(move || block_on(own.run()));
        self.here = Some(Here { client, running, _subscription: subscription });
    }

    /// Goes offline.
    pub(super) fn leave(&mut self) {
        let here = self.here.take().expect("it is here");
        block_on(here.client.disconnect());
        here.running.join().expect("no panic");
    }

    /// Comes back.
    pub(super) fn come_back(&mut self) {
        let online = |told: &[Told]| told.iter().filter(|it| **it == Told::Online).count();
        let before = online(&self.told());
        self.connect();
        self.wait("a connection", |told| before < online(told));
    }

    /// While it is away, loses all but what it is: the sessions with everybody, the keys of groups,
    /// and the keys that it has left on the server for others to begin with.
    pub(super) fn forget(&mut self) {
        assert!(self.here.is_none(), "it would write them down again");
        let device = block_on(self.store.load()).expect("memory does not fail");
        self.store = Arc::new(InMemoryBackend::new());
        block_on(self.store.save(&device.expect("it is linked"))).expect("memory does not fail");
    }

    // ---- What it says.

    /// Sends a text and gives its id.
    pub(super) fn send(&self, chat: &str, text: &str) -> String {
        let text = wa::Message { conversation: Some(text.to_owned()), ..Default::default() };
        self.send_with(chat, text, SendOptions::default())
    }

    /// Sends any message and gives its id.
    pub(super) fn send_with(
        &self,
        chat: &str,
        message: wa::Message,
        options: SendOptions,
    ) -> String {
        let sent = self.client().send_message_with_options(jid(chat), message, options);
        block_on(sent).expect("it goes out").message_id
    }

    /// Says something else in place of a message that it has sent.
    pub(super) fn edit(&self, chat: &str, id: &str, text: &str) {
        let text = wa::Message { conversation: Some(text.to_owned()), ..Default::default() };
        block_on(self.client().edit_message(jid(chat), id, text)).expect("it goes out");
    }

    fn client(&self) -> &Arc<Client> {
        &self.here.as_ref().expect("it is here").client
    }

    // ---- What it heard.

    /// All that was told so far.
    pub(super) fn told(&self) -> Vec<Told> {
        self.ears.0.lock().expect("nobody panics while holding it").clone()
    }

    /// Waits until what was told is as `is_it` wants it.
    pub(super) fn wait(&self, what: &str, is_it: impl Fn(&[Told]) -> bool) {
        wait_for(what, || is_it(&self.told()));
    }

    fn find<T>(&self, what: &str, pick: impl Fn(&Told) -> Option<T>) -> T {
        let mut found = None;
        wait_for(what, || {
            found = self.told().iter().find_map(&pick);
            found.is_some()
        });
        found.expect("waited for")
    }

    /// The messages with a text, in order.
    pub(super) fn texts(&self) -> Vec<Said> {
        let of = |told| match told {
            Told::Text(text) => Some(text),
            _ => None,
        };
        self.told().into_iter().filter_map(of).collect()
    }

    /// Waits until it has so many texts in all, and gives the last.
    pub(super) fn text(&self, count: usize) -> Said {
        wait_for(&format!("text {count}"), || count <= self.texts().len());
        let texts = self.texts();
        assert_eq!(count, texts.len(), "{texts:#?}");
        texts.into_iter().next_back().expect("counted")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(here) = self.here.take() {
            block_on(here.client.disconnect());
        }
    }
}

fn jid(text: &str) -> Jid {
    text.parse().expect("an address")
}
