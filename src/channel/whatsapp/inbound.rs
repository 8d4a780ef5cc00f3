//! Messages on their way in: committed to the store before the library may acknowledge them. Each
//! stands alone: one that cannot be used, or makes us panic, takes no other with it.
//!
//! What a phone sends of the past, and what waited for us for longer than a day or from before the
//! pairing, is context; it is never answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use wacore::runtime::Runtime;
use wacore::types::events::{
    Event, EventHandler, EventInterest, EventKind, InboundMessage, LazyHistorySync,
};
use wacore_binary::{Jid, Server};
use waproto::whatsapp as wa;
use whatsapp_rust::{Client, InboundDurabilityHook, anyhow};

use super::content::content;
use super::identity::{self, Person};
use super::runtime::Pool;
use crate::config::Settings;
use crate::doorbell::{Doorbell, News};
use crate::home::Home;
use crate::ids::{ChatJid, UnixMs};
use crate::limits::{WHATSAPP_FRESH_MAX, WHATSAPP_HISTORY_MAX};
use crate::store::{self, NewMessage, Store};

/// Under this key the store knows when the phone took us in, in Unix milliseconds.
pub(super) const PAIRED_AT_KEY: &str = "whatsapp.paired_at_ms";

/// Takes messages in.
pub(super) struct Inbound {
    home: Home,
    assistant_name: String,
    has_own_number: bool,
    /// Of the library's own futures, any may bring messages.
    store: Mutex<Store>,
    on_failure: Box<dyn Fn() + Send + Sync>,
}

/// How messages came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the server, which has them until they are acknowledged.
    Server,
    /// From the own phone, since what the server had could not be opened. They may be of any age,
    /// and nobody sends them again.
    Phone,
}

/// A message as it came, from wherever.
struct Incoming<'a> {
    id: &'a str,
    chat: &'a Jid,
    sender: &'a Jid,
    /// Further addresses of the person that a chat of two is with, and of the sender.
    chat_others: Vec<Jid>,
    sender_others: Vec<Jid>,
    is_from_me: bool,
    name: &'a str,
    sent_at: UnixMs,
    history: bool,
    message: &'a wa::Message,
}

impl Inbound {
    /// Has `on_failure` called when messages of the server could not be stored.
    pub(super) fn new(
        home: &Home,
        settings: &Settings,
        on_failure: impl Fn() + Send + Sync + 'static,
    ) -> store::Result<Arc<Inbound>> {
        Ok(Arc::new(Inbound {
            home: home.clone(),
            assistant_name: settings.assistant_name.clone(),
            has_own_number: settings.assistant_has_own_number,
            store: Mutex::new(Store::open(&home.database())?),
            on_failure: Box::new(on_failure),
        }))
    }

    /// Commits messages of the library.
    ///
    /// # Errors
    /// The database: nothing was stored.
    async fn take(&self, client: &Client, batch: &[InboundMessage], way: Way) -> store::Result<()> {
        let me = me(client);
        let mut others = Vec::with_capacity(batch.len());
        for InboundMessage { info, .. } in batch {
            let source = &info.source;
            let beside = if source.is_from_me { &source.recipient_alt } else { &source.sender_alt };
            let chat_others = self.others(client, &source.chat, beside.as_ref()).await;
            others.push((
                chat_others,
                self.others(client, &source.sender, source.sender_alt.as_ref()).await,
            ));
        }
        crate::crash_point("message_received");
        let now = UnixMs::now();
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let paired_at = paired_at(&store)?;
        let mut messages = Vec::with_capacity(batch.len());
        for (InboundMessage { message, info, .. }, (chat_others, sender_others)) in
            batch.iter().zip(others)
        {
            let sent_at = UnixMs(info.timestamp.timestamp_millis());
            let incoming = Incoming {
                id: &info.id,
                chat: &info.source.chat,
                sender: &info.source.sender,
                chat_others,
                sender_others,
                is_from_me: info.source.is_from_me,
                name: &info.push_name,
                sent_at,
                history: (info.is_offline || way == Way::Phone)
                    && !is_fresh(sent_at, now, paired_at),
                message,
            };
            messages.extend(self.new_message(&store, &me, &incoming));
        }
        self.accept(&mut store, &messages, now)?;
        crate::crash_point("message_committed");
        Ok(())
    }

    /// Takes the past that a phone sends after pairing: names of chats, and of those that belong to
    /// a group what was said last.
    ///
    /// # Errors
    /// The database: a part may be stored.
    pub(super) fn take_history(
        &self,
        client: &Client,
        history: &LazyHistorySync,
    ) -> store::Result<()> {
        let me = me(client);
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stream = history.stream();
        loop {
            match stream.next_conversation() {
                Ok(Some(conversation)) => self.take_conversation(&mut store, &me, &conversation)?,
                Ok(None) => return Ok(()),
                Err(error) => {
                    log::warn!("the rest of a history of WhatsApp is not readable: {error}");
                    return Ok(());
                }
            }
        }
    }

    fn take_conversation(
        &self,
        store: &mut Store,
        me: &Person,
        conversation: &wa::Conversation,
    ) -> store::Result<()> {
        let Ok(jid) = conversation.id.parse::<Jid>() else { return Ok(()) };
        if !identity::is_talk(&jid) {
            return Ok(());
        }
        let known = [&conversation.pn_jid, &conversation.lid_jid, &conversation.new_jid];
        let others: Vec<Jid> =
            known.into_iter().flatten().filter_map(|text| text.parse().ok()).collect();
        let Some(chat) = chat_of(store, me, &jid, &others) else { return Ok(()) };
        let at = conversation.last_msg_timestamp.or(conversation.conversation_timestamp);
        let name = conversation.name.as_deref().filter(|name| !name.trim().is_empty());
        store.upsert_chat(&chat, name, jid.server == Server::Group, seconds(at.unwrap_or(0)))?;
        if !is_registered(store, &chat) {
            return Ok(());
        }
        // The newest come first.
        let newest = conversation.messages.iter().take(WHATSAPP_HISTORY_MAX);
        let mut messages = Vec::new();
        for info in newest.rev().filter_map(|message| message.message.as_option()) {
            let (Some(key), Some(message)) = (info.key.as_option(), info.message.as_option())
            else {
                continue;
            };
            let is_from_me = key.from_me.unwrap_or(false);
            let participant = key.participant.as_ref().or(info.participant.as_ref());
            let sender = participant.and_then(|text| text.parse().ok()).unwrap_or(jid.clone());
            messages.extend(self.new_message(
                store,
                me,
                &Incoming {
                    id: key.id.as_deref().unwrap_or_default(),
                    chat: &jid,
                    sender: &sender,
                    chat_others: others.clone(),
                    sender_others: Vec::new(),
                    is_from_me,
                    name: info.push_name.as_deref().unwrap_or_default(),
                    sent_at: seconds(info.message_timestamp.unwrap_or(0)),
                    history: true,
                    message,
                },
            ));
        }
        self.accept(store, &messages, UnixMs::now())
    }

    fn accept(&self, store: &mut Store, messages: &[NewMessage], now: UnixMs) -> store::Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let accepted = store.accept(messages, &self.assistant_name, now)?;
        Doorbell::tell(&self.home, &[News::Message]);
        for (message, accepted) in messages.iter().zip(accepted) {
            log::debug!("chat={} message={} {accepted:?}", message.chat, message.id);
        }
        Ok(())
    }

    /// Which other addresses the person at `jid` has.
    async fn others(&self, client: &Client, jid: &Jid, told: Option<&Jid>) -> Vec<Jid> {
        if let Some(told) = told {
            return vec![told.clone()];
        }
        match client.get_lid_pn_entry(jid).await {
            Ok(Some(entry)) => vec![Jid::pn(&*entry.phone_number), Jid::lid(&*entry.lid)],
            Ok(None) => Vec::new(),
            Err(error) => {
                log::warn!("no other address of {jid}: {error}");
                Vec::new()
            }
        }
    }

    /// The message as the store takes it. `None`: it says nothing, or nobody talks there.
    fn new_message(
        &self,
        store: &Store,
        me: &Person,
        incoming: &Incoming<'_>,
    ) -> Option<NewMessage> {
        let made = catch_unwind(AssertUnwindSafe(|| self.try_new_message(store, me, incoming)));
        made.unwrap_or_else(|_| {
            log::error!("message={} of WhatsApp made us panic; it is left out", incoming.id);
            None
        })
    }

    fn try_new_message(
        &self,
        store: &Store,
        me: &Person,
        incoming: &Incoming<'_>,
    ) -> Option<NewMessage> {
        if !identity::is_talk(incoming.chat) {
            return None;
        }
        let content = content(incoming.message)?;
        let chat = chat_of(store, me, incoming.chat, &incoming.chat_others)?;
        let is_group = incoming.chat.server == Server::Group;
        let sender = if incoming.is_from_me {
            me.clone()
        } else {
            Person::of([incoming.sender].into_iter().chain(&incoming.sender_others))
        };
        let (sender, sender_alt) = sender.names()?;
        let name = incoming.name.trim();
        let (user, _) = sender.split_once('@').unwrap_or((&sender, ""));
        Some(NewMessage {
            chat,
            id: incoming.id.to_owned(),
            sender_name: if name.is_empty() { user } else { name }.to_owned(),
            text: identity::with_name(&content.text, me, &self.assistant_name),
            sent_at: incoming.sent_at,
            // What we sent ourselves is known by its id. The rest was typed on the phone: by the
            // owner where the number is theirs.
            is_from_assistant: incoming.is_from_me && self.has_own_number,
            mentions_assistant: identity::is_mentioned(me, &content.mentioned),
            chat_name: (!is_group && !incoming.is_from_me && !name.is_empty())
                .then(|| name.to_owned()),
            is_group,
            history: incoming.history,
            sender,
            sender_alt,
        })
    }
}

#[async_trait]
impl InboundDurabilityHook for Inbound {
    async fn on_messages(
        &self,
        client: Arc<Client>,
        batch: &[InboundMessage],
    ) -> anyhow::Result<()> {
        // Not acknowledged then, so it comes again, with the next connection.
        self.take(&client, batch, Way::Server).await.inspect_err(|error| {
            log::error!("messages of WhatsApp are not stored yet: {}", crate::chain(error));
            (self.on_failure)();
        })?;
        Ok(())
    }
}

/// Takes what the library brings past its hook: messages that could not be opened, as the own phone
/// has them.
pub(super) struct Recovered {
    inbound: Arc<Inbound>,
    client: Weak<Client>,
    pool: Arc<Pool>,
}

impl Recovered {
    pub(super) fn new(inbound: &Arc<Inbound>, client: &Arc<Client>, pool: &Arc<Pool>) -> Recovered {
        let (inbound, pool) = (Arc::clone(inbound), Arc::clone(pool));
        Recovered { inbound, client: Arc::downgrade(client), pool }
    }
}

impl EventHandler for Recovered {
    fn handle_event(&self, event: Arc<Event>) {
        let Event::Messages(batch) = &*event else { return };
        let Some(client) = self.client.upgrade().filter(|_| !batch.hook_committed) else { return };
        let (event, inbound) = (Arc::clone(&event), Arc::clone(&self.inbound));
        let pool = Arc::downgrade(&self.pool);
        self.pool.spawn_detached(Box::pin(async move {
            let Event::Messages(batch) = &*event else { return };
            for pause in RECOVERED_PAUSES {
                let Err(error) = inbound.take(&client, &batch.messages, Way::Phone).await else {
                    return;
                };
                log::error!("messages from the phone are not stored yet: {}", crate::chain(&error));
                let Some(nap) = pool.upgrade().map(|pool| pool.sleep(pause)) else { return };
                nap.await;
            }
        }));
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(&[EventKind::Messages])
    }
}

/// After which what the phone gave is stored again where that failed.
const RECOVERED_PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(10), Duration::from_mins(1), Duration::ZERO];

/// Who this device is of.
pub(super) fn me(client: &Client) -> Person {
    Person::of([client.pn(), client.lid()].iter().flatten())
}

/// Whether what waited for us is still to be answered.
fn is_fresh(sent_at: UnixMs, now: UnixMs, paired_at: UnixMs) -> bool {
    now.since(sent_at) <= WHATSAPP_FRESH_MAX && paired_at.0 <= sent_at.plus(CLOCKS_APART_MAX).0
}

/// By how much the clock of the server, which dates the messages, may differ from ours.
const CLOCKS_APART_MAX: Duration = Duration::from_mins(1);

fn paired_at(store: &Store) -> store::Result<UnixMs> {
    let at = store.get_state(PAIRED_AT_KEY)?.and_then(|text| text.parse().ok());
    Ok(UnixMs(at.unwrap_or(0)))
}

/// The chat, by the address that is registered.
fn chat_of(store: &Store, me: &Person, chat: &Jid, others: &[Jid]) -> Option<ChatJid> {
    if chat.server == Server::Group {
        return identity::chat_jid(chat);
    }
    let person = Person::of([chat].into_iter().chain(others));
    let person = if me.is(chat) { me } else { &person };
    person.chat(|jid| is_registered(store, jid))
}

/// Whether the chat has a group, be its row corrupt.
fn is_registered(store: &Store, chat: &ChatJid) -> bool {
    store.group_of_chat(chat).map_or(true, |group| group.is_some())
}

fn seconds(unix: u64) -> UnixMs {
    UnixMs(i64::try_from(unix).unwrap_or(0).saturating_mul(1000))
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
