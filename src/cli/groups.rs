//! Groups: who is served, and in which folder.

use argh::{ArgsInfo, FromArgs};

use super::{Error, out};
use crate::doorbell::Doorbell;
use crate::home::Home;
use crate::ids::{ChatJid, GroupFolder, UnixMs};
use crate::store::{ContainerConfig, NewGroup, RegisterError};

/// Serve a chat: give it a group (folder, memory, session, sandbox) of its own, or attach it to one.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "register-group")]
pub(super) struct RegisterCommand {
    /// address of the chat: script:NAME, or a WhatsApp address like 123@g.us
    #[argh(option)]
    jid: String,
    /// name of the group
    #[argh(option, default = "String::new()")]
    name: String,
    /// folder of the group: letters, digits, _ and -
    #[argh(option)]
    folder: String,
    /// name that wakes the assistant, without the @ (default: its own)
    #[argh(option)]
    trigger: Option<String>,
    /// answer every message, not just those that start with @NAME
    #[argh(switch)]
    no_trigger_required: bool,
    /// the group is main: it sees all groups' folders and may manage them
    #[argh(switch)]
    main: bool,
    /// the folder exists: the chat becomes a further one of that group
    #[argh(switch)]
    attach: bool,
}

impl RegisterCommand {
    /// # Errors
    /// A name that is none, or one that is taken.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let settings = super::settings(home)?;
        let jid = ChatJid::new(&self.jid)?;
        let folder = GroupFolder::new(&self.folder)?;
        let mut store = super::store_with_main(home)?;
        let name = if self.name.is_empty() { self.folder.clone() } else { self.name };
        let new = NewGroup {
            jid: jid.clone(),
            folder: folder.clone(),
            name: name.clone(),
            trigger_name: self.trigger.map(|text| text.trim_start_matches('@').to_owned()),
            requires_trigger: !self.no_trigger_required && !self.main,
            is_main: self.main,
            attach: self.attach,
            config: ContainerConfig::default(),
        };
        store.register_group(&new, UnixMs::now()).map_err(|error| match error {
            RegisterError::Store(source) => Error::Store(source),
            refused => Error::Refused(crate::chain(&refused)),
        })?;
        home.create_group_folders(&folder, &name, &settings.assistant_name, self.main)?;
        Doorbell::ring(home);
        out::line(&format!("chat {jid} is served by group {folder}"))
    }
}

/// Stop serving a group; its folder stays.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "unregister-group")]
pub(super) struct UnregisterCommand {
    /// folder of the group
    #[argh(option)]
    folder: Option<String>,
    /// just this chat of its group
    #[argh(option)]
    jid: Option<String>,
}

impl UnregisterCommand {
    /// # Errors
    /// No such group or chat; main.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let mut store = super::store_with_main(home)?;
        let refused = |error| match error {
            RegisterError::Store(source) => Error::Store(source),
            refused => Error::Refused(crate::chain(&refused)),
        };
        let done = match (&self.folder, &self.jid) {
            (Some(folder), None) => {
                let folder = GroupFolder::new(folder)?;
                store.unregister_group(&folder, UnixMs::now()).map_err(refused)?;
                format!(
                    "group {folder} is not served any more; its files stay in {}",
                    home.group(&folder).display()
                )
            }
            (None, Some(jid)) => {
                let jid = ChatJid::new(jid)?;
                store.detach_chat(&jid).map_err(refused)?;
                format!("chat {jid} is not served any more")
            }
            _ => {
                return Err(Error::Refused(
                    "name either --folder FOLDER or --jid JID; `rust-claw list-groups` shows both"
                        .to_owned(),
                ));
            }
        };
        Doorbell::ring(home);
        out::line(&done)
    }
}

/// Show the groups and the chats that each serves.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list-groups")]
pub(super) struct ListCommand {
    /// show WhatsApp groups that no group here serves, too
    #[argh(switch)]
    all: bool,
    /// ask WhatsApp for its groups first; implies --all
    #[cfg(feature = "whatsapp")]
    #[argh(switch)]
    refresh: bool,
    /// one JSON array
    #[argh(switch)]
    json: bool,
}

impl ListCommand {
    #[cfg(feature = "whatsapp")]
    fn shows_all(&self) -> bool {
        self.all || self.refresh
    }

    #[cfg(not(feature = "whatsapp"))]
    fn shows_all(&self) -> bool {
        self.all
    }

    /// # Errors
    /// The database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let settings = super::settings(home)?;
        #[cfg(feature = "whatsapp")]
        if self.refresh {
            super::pair::refresh_groups(home)?;
        }
        let store = super::store_with_main(home)?;
        let (groups, corrupt) = store.groups()?;
        for row in corrupt {
            out::complain(&format!(
                "a group in the database cannot be read and is not served: {row}"
            ));
        }
        let mut rows = vec![["folder", "name", "trigger", "chats"].map(str::to_owned).to_vec()];
        let mut list = Vec::new();
        for group in groups {
            let chats: Vec<String> =
                store.chats_of_group(&group.folder)?.iter().map(ToString::to_string).collect();
            let name = group.trigger_name.as_deref().unwrap_or(&settings.assistant_name);
            if self.json {
                list.push(serde_json::json!({
                    "folder": group.folder.as_str(), "name": group.name, "is_main": group.is_main,
                    "trigger": format!("@{name}"), "requires_trigger": group.requires_trigger,
                    "chats": chats, "added_at_ms": group.added_at.0,
                }));
            } else {
                let trigger = match (group.is_main, group.requires_trigger) {
                    (true, _) => "main: every message".to_owned(),
                    (false, false) => "every message".to_owned(),
                    (false, true) => format!("@{name}"),
                };
                let name = out::harmless(&group.name);
                rows.push(vec![group.folder.to_string(), name, trigger, chats.join(" ")]);
            }
        }
        for chat in if self.shows_all() { store.all_chats()? } else { Vec::new() } {
            if !chat.is_group || chat.folder.is_some() {
                continue;
            }
            let (jid, name) = (chat.jid, chat.name.unwrap_or_default());
            if self.json {
                list.push(
                    serde_json::json!({"folder": null, "name": name, "chats": [jid.as_str()]}),
                );
            } else {
                let row = ["-", &out::harmless(&name), "not served", jid.as_str()];
                rows.push(row.map(str::to_owned).to_vec());
            }
        }
        if self.json {
            return out::json(&list.into());
        }
        out::table(&rows).iter().try_for_each(|row| out::line(row))
    }
}
