//! A conversation in the terminal: the chat `local:{folder}`, through the database like any other
//! chat, with whatever daemon serves the home folder: one that runs already, or one of our own for
//! as long as we last.

use std::time::Duration;

use super::Error;
use super::serve::{self, Server};
use crate::config::{AgentEngine, Settings};
use crate::daemon::Duty;
use crate::doorbell::{Doorbell, News};
use crate::home::{Home, Purpose};
use crate::ids::{ChatJid, GroupFolder, OutboxId, Seq, UnixMs};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::store::{Accepted, NewMessage, OutboxRow, Run, RunKind, RunState, Store};

/// One side of a conversation.
pub(super) struct Talk {
    pub(super) store: Store,
    pub(super) bell: Doorbell,
    pub(super) chat: ChatJid,
    folder: GroupFolder,
    home: Home,
    settings: Settings,
    /// Everything up to here was shown.
    shown: OutboxId,
    server: Server,
}

/// How things stand with a message.
pub(super) enum Standing {
    /// Not answered yet.
    Waiting,
    /// Answered, and the turn is over.
    Answered,
    /// The run failed; the message was not answered.
    Failed(String),
    /// Nothing can run: why, and what mends it.
    NoEngine(String, String),
}

impl Talk {
    /// Opens the conversation with `group`; becomes the daemon, with `duty`, where none serves the
    /// home folder.
    ///
    /// # Errors
    /// No such group; a home folder, database or setting that cannot be used.
    pub(super) fn open(home: &Home, group: Option<&str>, duty: Duty) -> Result<Talk, Error> {
        let settings = super::settings(home)?;
        let store = super::store_with_main(home)?;
        let folder = group.map_or_else(|| Ok(GroupFolder::main()), GroupFolder::new)?;
        if store.group(&folder)?.is_none() {
            return Err(Error::Refused(format!(
                "no group `{folder}`; `rust-claw list-groups` shows those that exist"
            )));
        }
        let bell = Doorbell::new(home)?;
        let server = Server::find(home, &settings, Purpose::Terminal, duty)?;
        let chat = ChatJid::local(&folder);
        let shown = store.newest_outbox_id()?;
        Ok(Talk { store, bell, chat, folder, home: home.clone(), settings, shown, server })
    }

    /// For the first line.
    pub(super) fn banner(&self, home: &Home) -> String {
        let daemon = if self.server.is_own() { "" } else { " · served by the running daemon" };
        let engine = match self.settings.engine() {
            AgentEngine::Claude => String::new(),
            AgentEngine::Demo => format!(
                "\nThe demo engine answers. For Claude put ANTHROPIC_API_KEY=… into\n{} and start again.",
                super::out::path(&home.env_file())
            ),
        };
        format!("group {}{daemon}{engine}", self.folder)
    }

    pub(super) fn folder(&self) -> &GroupFolder {
        &self.folder
    }

    /// Whether the home folder is served by a daemon of our own.
    pub(super) fn is_serving(&self) -> bool {
        self.server.is_own()
    }

    pub(super) fn assistant(&self) -> &str {
        &self.settings.assistant_name
    }

    /// Commits a message and rings.
    ///
    /// # Errors
    /// A text that is no message; the database.
    pub(super) fn send(&mut self, text: &str) -> Result<Seq, Error> {
        if MESSAGE_BYTES_MAX < text.len() {
            let why = format!("the message is longer than {MESSAGE_BYTES_MAX} bytes; not sent");
            return Err(Error::Refused(why));
        }
        let now = UnixMs::now();
        let message = NewMessage {
            chat: self.chat.clone(),
            id: format!("local-{}-{}", now, crate::store::random_hex::<4>()),
            sender: "local".to_owned(),
            sender_alt: None,
            sender_name: std::env::var("USER").unwrap_or_else(|_| "me".to_owned()),
            text: text.to_owned(),
            sent_at: now,
            is_from_assistant: false,
            mentions_assistant: false,
            chat_name: None,
            is_group: false,
            history: false,
        };
        let accepted =
            self.store.accept(&[message], &self.settings.assistant_name, now)?.into_iter().next();
        crate::crash_point("message_committed");
        Doorbell::tell(&self.home, &[News::Message]);
        match accepted {
            Some(Accepted::New { seq, .. }) => Ok(seq),
            Some(Accepted::Empty) => Err(Error::Refused("the message is empty".to_owned())),
            _ => Err(Error::Refused(format!("the group `{}` is gone", self.folder))),
        }
    }

    /// Answers that nobody has shown, and that are not shown here yet; marks them as sent.
    ///
    /// # Errors
    /// The database.
    pub(super) fn news(&mut self) -> Result<Vec<OutboxRow>, Error> {
        let rows = self.store.outbox_after(&self.chat, self.shown, ROWS_MAX)?;
        if let Some(last) = rows.last() {
            self.shown = last.id;
        }
        Ok(rows)
    }

    /// Answers of earlier that nobody was there to read.
    ///
    /// # Errors
    /// The database.
    pub(super) fn missed(&mut self) -> Result<Vec<OutboxRow>, Error> {
        Ok(self.store.unsent_of_chat(&self.chat, ROWS_MAX)?)
    }

    /// The person has it.
    ///
    /// # Errors
    /// The database.
    pub(super) fn shown(&mut self, row: &OutboxRow) -> Result<(), Error> {
        self.store.mark_sent(row.id, UnixMs::now())?;
        Ok(())
    }

    /// The run that works on this chat at the moment.
    ///
    /// # Errors
    /// The database.
    pub(super) fn working(&self) -> Result<Option<Run>, Error> {
        let runs = self.store.alive_runs()?;
        Ok(runs.into_iter().find(|run| {
            run.kind == RunKind::Chat && run.chat == self.chat && run.state == RunState::Busy
        }))
    }

    /// How things stand with the message `seq`, which was sent at `since`.
    ///
    /// # Errors
    /// The database.
    pub(super) fn standing(&self, seq: Seq, since: UnixMs) -> Result<Standing, Error> {
        let settled = self.store.cursor(&self.chat)?.is_none_or(|cursor| seq <= cursor);
        if settled {
            let busy = self.working()?.is_some();
            return Ok(if busy { Standing::Waiting } else { Standing::Answered });
        }
        if let Some(failures) = self.store.failures_in_a_row(&self.chat, 1)?
            && since <= failures.last_at
        {
            return Ok(Standing::Failed(failures.error));
        }
        if let Some((why, mend)) = serve::engine_down(&self.store)? {
            return Ok(Standing::NoEngine(why, mend));
        }
        Ok(Standing::Waiting)
    }

    /// Nobody waits for an answer to `seq` any more.
    ///
    /// # Errors
    /// The database.
    pub(super) fn withdraw(&mut self, seq: Seq) -> Result<(), Error> {
        self.store.withdraw(&self.chat, seq)?;
        Ok(())
    }

    /// # Errors
    /// [`Error::Interrupted`].
    pub(super) fn check_signals(&self) -> Result<(), Error> {
        self.server.check_signals()
    }

    /// Sleeps until something may have changed. Serves from now on, should the daemon have gone.
    ///
    /// # Errors
    /// A daemon of our own that cannot start; [`Error::Interrupted`].
    pub(super) fn wait(&mut self, at_most: Duration) -> Result<(), Error> {
        self.server.check_signals()?;
        if !self.bell.wait(at_most) {
            self.server.stand_in(&self.home, &self.settings)?;
        }
        Ok(())
    }

    /// Ends a daemon of our own.
    ///
    /// # Errors
    /// A core thread that died.
    pub(super) fn close(self) -> Result<(), Error> {
        self.server.close()
    }
}

const ROWS_MAX: usize = 256;
