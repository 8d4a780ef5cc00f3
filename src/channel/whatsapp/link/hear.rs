//! What the link hears: of the library, and of people through the store.

use std::sync::Arc;

use serde_json::json;
use wacore::runtime::Runtime;
use wacore::types::events::Event as Told;
use wacore_binary::Jid;

use super::super::ears::Word as Heard;
use super::super::groups;
use super::super::inbound::{self, PAIRED_AT_KEY};
use super::super::line::Online;
use super::super::pairing::{Pairing, Step, Wanted};
use super::super::presence::Presence;
use super::super::state::{End, Event, Meaning, State, meaning};
use super::Link;
use crate::doorbell::Doorbell;
use crate::ids::{ChannelKind, ChatJid, UnixMs};
use crate::store::{self, ContainerConfig, NewGroup};

/// Under this key the store knows the owner's own chat, if we have attached it to main.
const OWN_CHAT_KEY: &str = "whatsapp.own_chat";

impl Link<'_> {
    /// A word of the library's.
    pub(super) fn hear(&mut self, word: Heard) -> Result<(), store::Error> {
        match word {
            Heard::Line(end) => {
                if let Some(run) = &mut self.run {
                    run.line_end = Some(end);
                }
                Ok(())
            }
            Heard::Code(code) => {
                self.ends(End::Code(code));
                // The library keeps the connection and waits for the server to end it.
                if matches!(meaning(code), Meaning::Again | Meaning::Slower) {
                    self.drop_session();
                }
                Ok(())
            }
            Heard::NotKept => {
                self.end_unkept();
                Ok(())
            }
            Heard::Groups(told) => {
                self.groups.done(&mut self.store, told)?;
                Doorbell::ring(&self.given.home);
                Ok(())
            }
            Heard::Event(event) => self.hear_event(&event),
        }
    }

    /// Ends the connection: the server sends what is not acknowledged to the next one only. How
    /// soon that may be is said by the growing pauses between attempts.
    pub(super) fn end_unkept(&mut self) {
        self.ends(End::Lost("a message cannot be stored".to_owned()));
        self.drop_session();
    }

    /// Notes why the connection will be over, unless that is known.
    fn ends(&mut self, end: End) {
        if let Some(run) = &mut self.run {
            run.end.get_or_insert(end);
        }
    }

    fn hear_event(&mut self, event: &Told) -> Result<(), store::Error> {
        self.hear_of_pairing(event)?;
        match event {
            Told::Connected(_) => self.come_online()?,
            Told::PairSuccess(_) => {
                self.store.set_state(PAIRED_AT_KEY, &UnixMs::now().to_string())?;
                self.tell(Event::Paired)?;
            }
            Told::LoggedOut(out) if out.on_connect => {
                self.ends(End::Code(u16::try_from(out.reason.code()).unwrap_or(401)));
            }
            Told::LoggedOut(_) => self.ends(End::Removed),
            Told::StreamReplaced(_) => self.ends(End::Replaced),
            Told::TemporaryBan(ban) => self.ends(End::Banned(ban.expire.to_std().ok())),
            Told::ClientOutdated(_) => self.ends(End::Outdated),
            Told::ConnectFailure(failure) => {
                self.ends(End::Code(u16::try_from(failure.reason.code()).unwrap_or(0)));
            }
            // Else the connection goes on, for the code to type that is shown beside them.
            Told::PairingQrCodesExhausted(told) if told.disconnected => self.ends(End::Unscanned),
            Told::GroupUpdate(update) => {
                if let Some(renamed) = groups::renamed(update) {
                    self.store.name_groups(&[renamed])?;
                    Doorbell::ring(&self.given.home);
                }
            }
            Told::HistorySync(history) => {
                if let Some(session) = &self.session {
                    session.inbound.take_history(&session.client, history)?;
                }
            }
            // The library then says by itself that we are there.
            Told::SelfPushNameUpdated(_) => self.presence.doubt(self.started.elapsed()),
            _ => {}
        }
        Ok(())
    }

    fn hear_of_pairing(&mut self, event: &Told) -> Result<(), store::Error> {
        let Some(mut pairing) = self.pairing.take() else { return Ok(()) };
        if let Some(options) = pairing.code_to_ask_for(event)
            && let Some(session) = &self.session
        {
            let client = Arc::clone(&session.client);
            session.pool.spawn_detached(Box::pin(async move {
                if let Err(error) = client.pair_with_code(options).await {
                    // The link is told by an event, too.
                    log::debug!("no code to pair with: {error}");
                }
            }));
        }
        let step = pairing.heard(event, UnixMs::now());
        let is_last = matches!(step, Some(Step::Failed { .. } | Step::Expired));
        if let Some(step) = step {
            self.show_step(&pairing, step)?;
        }
        if is_last {
            return self.tell(Event::PairingOver);
        }
        self.pairing = Some(pairing);
        Ok(())
    }

    fn come_online(&mut self) -> Result<(), store::Error> {
        let (Some(session), Some(run)) = (&self.session, &self.run) else { return Ok(()) };
        let client = Arc::clone(&session.client);
        let me = inbound::me(&client);
        let address = |jid: &Option<Jid>| jid.as_ref().map(Jid::to_non_ad_string);
        self.identity = json!({
            "number": me.pn.as_ref().map(|pn| pn.user_base().to_owned()),
            "lid": address(&me.lid),
            "name": client.push_name(),
        });
        let online = Online { client, pool: Arc::clone(&session.pool), number: run.number };
        self.presence = Presence::after_login();
        self.tell(Event::Online)?;
        if *self.machine.state() != State::Online {
            return Ok(());
        }
        self.given.line.show(Some(online));
        let Some(pairing) = self.pairing.take() else { return Ok(()) };
        let is_attached = self.attach_own_chat(address(&me.pn))?;
        let text = |key: &str| self.identity[key].as_str().unwrap_or_default().to_owned();
        let done = Step::Done { number: text("number"), name: text("name"), is_attached };
        self.show_step(&pairing, done)
    }

    /// "Message yourself" is how one talks to main, where the number is the owner's.
    /// Tells whether it came to be. Whose number it was before is nobody special any more.
    fn attach_own_chat(&mut self, own: Option<String>) -> Result<bool, store::Error> {
        let Some(jid) = own.and_then(|own| ChatJid::new(&own).ok()) else { return Ok(false) };
        let main = self.main_group()?;
        let mut chats = self.store.chats_of_group(&main)?;
        let before = self.store.get_state(OWN_CHAT_KEY)?;
        let is_before = |chat: &ChatJid| *chat != jid && Some(chat.as_str()) == before.as_deref();
        if let Some(at) = chats.iter().position(is_before) {
            match self.store.detach_chat(&chats[at]) {
                Ok(()) => log::warn!("chat={} is not main any more", chats.swap_remove(at)),
                Err(error) => log::error!("chat={} is main: {}", chats[at], crate::chain(&error)),
            }
        }
        let is_reached = chats.iter().any(|chat| chat.channel() == ChannelKind::Whatsapp);
        if self.given.settings.assistant_has_own_number || is_reached {
            return Ok(false);
        }
        let new = NewGroup {
            jid,
            name: "Main".to_owned(),
            folder: main,
            trigger_name: None,
            requires_trigger: false,
            is_main: true,
            attach: true,
            config: ContainerConfig::default(),
        };
        match self.store.register_group(&new, UnixMs::now()) {
            Ok(_) => {
                log::info!("chat={} is attached to main", new.jid);
                self.store.set_state(OWN_CHAT_KEY, new.jid.as_str())?;
            }
            Err(error) => {
                log::warn!("own chat not attached: {}", crate::chain(&error));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What somebody asks for, by a command.
    pub(super) fn want(&mut self, wanted: Wanted) -> Result<(), store::Error> {
        match wanted {
            Wanted::Pair { phone, asked_at_ms } => {
                let pairing = Pairing::new(phone, UnixMs(asked_at_ms));
                if self.machine.is_paired() {
                    let error = "it is linked already: `rust-claw unpair` ends that first";
                    return self.show_step(&pairing, Step::Failed { error: error.to_owned() });
                }
                self.show_step(&pairing, Step::Waiting)?;
                self.pairing = Some(pairing);
                self.tell(Event::Pair)
            }
            Wanted::GiveUp => {
                self.pairing = None;
                Step::hide(&mut self.store)?;
                self.tell(Event::PairingOver)
            }
            Wanted::Unpair => self.tell(Event::Unpair),
            Wanted::Reconnect => self.tell(Event::Reconnect),
        }
    }
}
