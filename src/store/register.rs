//! How groups come and go, and chats come to them: what is taken is refused.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::{ContainerConfig, Error, Result, Signal, Store, failed, task_runs};
use crate::ids::{ChatJid, GroupFolder, UnixMs, shown};

/// Characters of a group's name and of its trigger.
const NAME_CHARS_MAX: usize = 100;

/// A group that is to be, or a further chat for one.
#[derive(Clone, Debug, PartialEq)]
pub struct NewGroup {
    /// The chat; `local:{folder}` for a group of the terminal alone.
    pub jid: ChatJid,
    /// What people call it.
    pub name: String,
    /// Its folder.
    pub folder: GroupFolder,
    /// See [`Group::trigger_name`](super::Group::trigger_name).
    pub trigger_name: Option<String>,
    /// See [`Group::requires_trigger`](super::Group::requires_trigger).
    pub requires_trigger: bool,
    /// See [`Group::is_main`](super::Group::is_main). Never to be set on the word of a sandbox.
    pub is_main: bool,
    /// The group exists and gets a further chat; of the rest only `jid` and `folder` count.
    pub attach: bool,
    /// See [`Group::config`](super::Group::config).
    pub config: ContainerConfig,
}

/// What a registration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The group is new.
    Created,
    /// The group has a further chat.
    Attached,
}

/// Why groups and chats stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The chat has a group already.
    #[error("chat `{jid}` belongs to group `{name}` (folder `{folder}`) already")]
    ChatTaken {
        /// The chat.
        jid: ChatJid,
        /// What its group is called.
        name: String,
        /// Folder of its group.
        folder: String,
    },
    /// The chat is the terminal's of another folder.
    #[error("chat `{jid}` is the terminal of its own folder, not of `{folder}`")]
    ChatOfOther {
        /// The chat.
        jid: ChatJid,
        /// The folder that asked for it.
        folder: GroupFolder,
    },
    /// The folder has a group already.
    #[error(
        "folder `{folder}` belongs to group `{name}` already; `--attach` adds the chat to that \
         group"
    )]
    FolderTaken {
        /// The folder, as it is registered.
        folder: String,
        /// What its group is called.
        name: String,
    },
    /// There is a main group already.
    #[error("group `{folder}` is main already, there can be only one")]
    MainTaken {
        /// Folder of the main group.
        folder: String,
    },
    /// No such group.
    #[error("there is no group with folder `{folder}`")]
    NoSuchGroup {
        /// The folder.
        folder: GroupFolder,
    },
    /// The chat has no group.
    #[error("chat `{jid}` belongs to no group")]
    NotAttached {
        /// The chat.
        jid: ChatJid,
    },
    /// Main stays.
    #[error("group `{folder}` is main and stays")]
    MainStays {
        /// Its folder.
        folder: GroupFolder,
    },
    /// The terminal's chat stays as long as its group.
    #[error("chat `{jid}` is the terminal of its group and stays as long as the group")]
    LocalStays {
        /// The chat.
        jid: ChatJid,
    },
    /// Name or trigger cannot be used.
    #[error("{field} `{text}` is not allowed: 1 to {NAME_CHARS_MAX} characters on one line")]
    Name {
        /// `name` or `trigger`.
        field: &'static str,
        /// What was given, made fit for a line.
        text: String,
    },
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<rusqlite::Error> for RegisterError {
    fn from(source: rusqlite::Error) -> RegisterError {
        RegisterError::Store(failed("changing the groups")(source))
    }
}

impl Store {
    /// Registers a group with its chat and its terminal `local:{folder}`, or attaches a chat to a
    /// group. What was said before counts as settled.
    ///
    /// # Errors
    /// [`RegisterError`]; nothing was changed then.
    pub fn register_group(
        &mut self,
        new: &NewGroup,
        now: UnixMs,
    ) -> std::result::Result<Registered, RegisterError> {
        check_names(new)?;
        if new.jid.as_str().starts_with("local:") && new.jid != ChatJid::local(&new.folder) {
            let (jid, folder) = (new.jid.clone(), new.folder.clone());
            return Err(RegisterError::ChatOfOther { jid, folder });
        }
        let tx = self.write("registering a group")?;
        refuse_taken_chat(&tx, &new.jid)?;
        let registered = if new.attach {
            if is_main(&tx, &new.folder)?.is_none() {
                return Err(RegisterError::NoSuchGroup { folder: new.folder.clone() });
            }
            Registered::Attached
        } else {
            create(&tx, new, now)?;
            attach(&tx, &ChatJid::local(&new.folder), new, now)?;
            Registered::Created
        };
        attach(&tx, &new.jid, new, now)?;
        tx.commit()?;
        Ok(registered)
    }

    /// For the first start: makes the group `main` unless there is a main group. Tells whether it
    /// did.
    ///
    /// # Errors
    /// [`RegisterError`]: another group has the folder `main`.
    pub fn ensure_main_group(&mut self, now: UnixMs) -> std::result::Result<bool, RegisterError> {
        if self.has_main_group()? {
            return Ok(false);
        }
        let folder = GroupFolder::main();
        let main = NewGroup {
            jid: ChatJid::local(&folder),
            name: "Main".to_owned(),
            folder,
            trigger_name: None,
            requires_trigger: false,
            is_main: true,
            attach: false,
            config: ContainerConfig::default(),
        };
        match self.register_group(&main, now) {
            Ok(_) => Ok(true),
            // Another process was faster.
            Err(_) if self.has_main_group()? => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends a group: its chats are nobody's again, its session is forgotten, its dead letters are
    /// dropped, and what waits of its tasks is taken back. Stored messages and files stay.
    ///
    /// # Errors
    /// [`RegisterError::MainStays`], [`RegisterError::NoSuchGroup`], [`RegisterError::Store`].
    pub fn unregister_group(
        &mut self,
        folder: &GroupFolder,
        now: UnixMs,
    ) -> std::result::Result<(), RegisterError> {
        let tx = self.write("removing a group")?;
        match is_main(&tx, folder)? {
            None => return Err(RegisterError::NoSuchGroup { folder: folder.clone() }),
            Some(true) => return Err(RegisterError::MainStays { folder: folder.clone() }),
            Some(false) => (),
        }
        tx.execute(
            "UPDATE dead_letters SET state = 'dropped' WHERE folder = ? AND state = 'open'",
            [folder],
        )?;
        tx.execute("DELETE FROM groups WHERE folder = ?", [folder])?;
        task_runs::withdraw_all(&tx, folder, "its group was removed", now)?;
        Signal::GroupRemoved.give(&tx)?;
        Ok(tx.commit()?)
    }

    /// Takes a chat away from its group, and drops the dead letters of it.
    ///
    /// # Errors
    /// [`RegisterError::LocalStays`], [`RegisterError::NotAttached`], [`RegisterError::Store`].
    pub fn detach_chat(&mut self, jid: &ChatJid) -> std::result::Result<(), RegisterError> {
        let tx = self.write("detaching a chat")?;
        if jid.as_str().starts_with("local:") {
            return Err(RegisterError::LocalStays { jid: jid.clone() });
        }
        tx.execute(
            "UPDATE dead_letters SET state = 'dropped' WHERE chat_jid = ? AND state = 'open'",
            [jid],
        )?;
        if tx.execute("DELETE FROM group_chats WHERE jid = ?", [jid])? == 0 {
            return Err(RegisterError::NotAttached { jid: jid.clone() });
        }
        Ok(tx.commit()?)
    }

    /// Replaces what a group sets for its own sandbox.
    ///
    /// # Errors
    /// [`RegisterError::NoSuchGroup`], [`RegisterError::Store`].
    pub fn set_group_config(
        &mut self,
        folder: &GroupFolder,
        config: &ContainerConfig,
    ) -> std::result::Result<(), RegisterError> {
        let sql = "UPDATE groups SET container_config = ? WHERE folder = ?";
        if self.change(sql, (json(config), folder), "changing a group")? == 0 {
            return Err(RegisterError::NoSuchGroup { folder: folder.clone() });
        }
        Ok(())
    }

    fn has_main_group(&self) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM groups WHERE is_main = 1)";
        self.one(sql, [], "looking for the main group", |row| row.get(0))
    }
}

fn check_names(new: &NewGroup) -> std::result::Result<(), RegisterError> {
    let fits = |text: &str| {
        !text.trim().is_empty()
            && text.chars().count() <= NAME_CHARS_MAX
            && !text.contains(char::is_control)
    };
    let refused = |field, text| Err(RegisterError::Name { field, text: shown(text) });
    match trigger_name(new) {
        _ if new.attach => Ok(()),
        Some(trigger) if !fits(trigger) => refused("trigger", trigger),
        _ if !fits(&new.name) => refused("name", &new.name),
        _ => Ok(()),
    }
}

/// People write the trigger with its `@`, `NanoClaw` stores it so.
fn trigger_name(new: &NewGroup) -> Option<&str> {
    new.trigger_name.as_deref().map(|name| name.trim().trim_start_matches('@'))
}

fn refuse_taken_chat(conn: &Connection, jid: &ChatJid) -> std::result::Result<(), RegisterError> {
    let sql = "SELECT g.name, g.folder FROM group_chats gc JOIN groups g ON g.folder = gc.folder
               WHERE gc.jid = ?";
    let taken =
        conn.query_row(sql, [jid], |row| Ok((row.get("name")?, row.get("folder")?))).optional()?;
    match taken {
        None => Ok(()),
        Some((name, folder)) => Err(RegisterError::ChatTaken { jid: jid.clone(), name, folder }),
    }
}

/// `None`: there is no such group.
fn is_main(conn: &Connection, folder: &GroupFolder) -> rusqlite::Result<Option<bool>> {
    conn.query_row("SELECT is_main FROM groups WHERE folder = ?", [folder], |row| row.get(0))
        .optional()
}

fn create(
    conn: &Connection,
    new: &NewGroup,
    now: UnixMs,
) -> std::result::Result<(), RegisterError> {
    // As on a file system that ignores case.
    let sql = "SELECT folder, name FROM groups WHERE folder = ? COLLATE NOCASE";
    let taken = conn
        .query_row(sql, [&new.folder], |row| Ok((row.get("folder")?, row.get("name")?)))
        .optional()?;
    if let Some((folder, name)) = taken {
        return Err(RegisterError::FolderTaken { folder, name });
    }
    if new.is_main {
        let sql = "SELECT folder FROM groups WHERE is_main = 1";
        let main = conn.query_row(sql, [], |row| row.get("folder")).optional()?;
        if let Some(folder) = main {
            return Err(RegisterError::MainTaken { folder });
        }
    }
    let sql = "INSERT INTO groups (folder, name, trigger_name, requires_trigger, is_main,
                                   container_config, added_at_ms)
               VALUES (:folder, :name, :trigger_name, :requires_trigger, :is_main, :config, :now)";
    conn.execute(
        sql,
        named_params! {
            ":folder": new.folder,
            ":name": new.name.trim(),
            ":trigger_name": trigger_name(new),
            ":requires_trigger": new.requires_trigger,
            ":is_main": new.is_main,
            ":config": json(&new.config),
            ":now": now,
        },
    )?;
    Ok(())
}

/// As [`Store::register_group`] in a transaction of others; a main group that is there takes the
/// new one's name and chat, any other group just the chat.
pub(super) fn import(
    conn: &Connection,
    new: &NewGroup,
    added_at: UnixMs,
) -> std::result::Result<(), RegisterError> {
    check_names(new)?;
    if new.jid.as_str().starts_with("local:") {
        let (jid, folder) = (new.jid.clone(), new.folder.clone());
        return Err(RegisterError::ChatOfOther { jid, folder });
    }
    refuse_taken_chat(conn, &new.jid)?;
    match is_main(conn, &new.folder)? {
        Some(is_main) if is_main != new.is_main => {
            return Err(RegisterError::FolderTaken {
                folder: new.folder.to_string(),
                name: new.name.clone(),
            });
        }
        Some(_) if new.attach => {}
        Some(_) => {
            let sql = "UPDATE groups SET name = ?, container_config = ? WHERE folder = ?";
            conn.execute(sql, (new.name.trim(), json(&new.config), &new.folder))?;
        }
        None => {
            create(conn, new, added_at)?;
            attach(conn, &ChatJid::local(&new.folder), new, added_at)?;
        }
    }
    Ok(attach(conn, &new.jid, new, added_at)?)
}

/// Puts the chat into the group; its cursor starts behind all that was said. A row that is there
/// is the group's own, or one whose group is gone.
fn attach(conn: &Connection, jid: &ChatJid, new: &NewGroup, now: UnixMs) -> rusqlite::Result<()> {
    let sql = "INSERT INTO chats (jid, name, is_group) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    let name = (!new.attach).then_some(new.name.trim());
    conn.execute(sql, (jid, name, jid.as_str().ends_with("@g.us")))?;
    let sql = "INSERT INTO group_chats (jid, folder, cursor_seq, added_at_ms)
               SELECT :jid, :folder, coalesce(max(seq), 0), :now FROM messages WHERE true
               ON CONFLICT (jid) DO UPDATE SET
                   folder = excluded.folder, cursor_seq = excluded.cursor_seq";
    conn.execute(sql, named_params! { ":jid": jid, ":folder": new.folder, ":now": now }).map(drop)
}

fn json(config: &ContainerConfig) -> String {
    serde_json::to_string(config).expect("numbers, strings and lists always serialise")
}
