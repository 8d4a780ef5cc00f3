//! Names of things: types that cannot hold a value that is not one.

use std::fmt;

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};

/// Why a text is no name of a thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not a folder's name.
    #[error(
        "folder `{text}` is not allowed: 1 to 64 letters, digits, `_` or `-`, not starting with \
         `_` or `-`, and not `global` or `errors`"
    )]
    Folder {
        /// What was given, shortened and without control characters.
        text: String,
    },
    /// Not a chat's address.
    #[error(
        "chat `{text}` is not allowed: `local:FOLDER`, `script:NAME`, or a WhatsApp address like \
         `123@g.us`, at most 255 bytes, without spaces"
    )]
    Chat {
        /// What was given, shortened and without control characters.
        text: String,
    },
    /// Not an id of a task.
    #[error(
        "task `{text}`: 1 to 64 letters, digits, `-` and `_` are expected, for example `k3v9x2aa`; \
         `rust-claw list-tasks` shows those that exist"
    )]
    Task {
        /// What was given, shortened and without control characters.
        text: String,
    },
}

/// Makes hostile text fit for an error of one line.
pub fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Name of a group's folder, which is also the group's key: `[A-Za-z0-9][A-Za-z0-9_-]{0,63}` and
/// neither `global` nor `errors`, which have a meaning of their own beside the folders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupFolder(String);

impl GroupFolder {
    /// The group that the first start creates.
    pub fn main() -> GroupFolder {
        GroupFolder("main".to_owned())
    }

    /// Checks `text`.
    ///
    /// # Errors
    /// [`Invalid::Folder`].
    pub fn new(text: &str) -> Result<GroupFolder, Invalid> {
        let bytes = text.as_bytes();
        let fits = (1..=64).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            // File systems that ignore case would make `Global` the same folder.
            && !text.eq_ignore_ascii_case("global")
            && !text.eq_ignore_ascii_case("errors");
        if !fits {
            return Err(Invalid::Folder { text: shown(text) });
        }
        Ok(GroupFolder(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which transport a chat belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelKind {
    /// The terminal: `local:{folder}`.
    Local,
    /// Any program: `script:{name}`.
    Script,
    /// `WhatsApp`: `…@…`.
    Whatsapp,
}

impl ChannelKind {
    /// As stored in `outbox.channel`.
    pub fn as_str(self) -> &'static str {
        match self {
            ChannelKind::Local => "local",
            ChannelKind::Script => "script",
            ChannelKind::Whatsapp => "whatsapp",
        }
    }
}

/// Address of a chat. The channel is known by its form alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChatJid(String);

impl ChatJid {
    /// The terminal's chat of a group.
    pub fn local(folder: &GroupFolder) -> ChatJid {
        ChatJid(format!("local:{folder}"))
    }

    /// Checks `text`.
    ///
    /// # Errors
    /// [`Invalid::Chat`].
    pub fn new(text: &str) -> Result<ChatJid, Invalid> {
        let refused = || Invalid::Chat { text: shown(text) };
        if text.len() > 255 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(refused());
        }
        let fits = if let Some(folder) = text.strip_prefix("local:") {
            GroupFolder::new(folder).is_ok()
        } else if let Some(name) = text.strip_prefix("script:") {
            !name.is_empty()
        } else {
            text.split_once('@').is_some_and(|(user, server)| {
                !user.is_empty()
                    && !server.is_empty()
                    && !server.contains('@')
                    && !user.contains(':')
            })
        };
        if fits { Ok(ChatJid(text.to_owned())) } else { Err(refused()) }
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which transport it belongs to.
    pub fn channel(&self) -> ChannelKind {
        if self.0.starts_with("local:") {
            ChannelKind::Local
        } else if self.0.starts_with("script:") {
            ChannelKind::Script
        } else {
            ChannelKind::Whatsapp
        }
    }
}

/// Key of a task: short enough to be typed, and any unique beginning of it will do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(String);

impl TaskId {
    /// A new one: eight of 32 characters, none of which looks like another.
    ///
    /// # Panics
    /// Where the system has no random bytes, which is before it has booted.
    pub fn random() -> TaskId {
        const DIGITS: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the system gives random bytes once it has booted");
        TaskId(random.iter().map(|byte| char::from(DIGITS[usize::from(byte % 32)])).collect())
    }

    /// Checks `text`. `NanoClaw`'s ids pass too.
    ///
    /// # Errors
    /// [`Invalid::Task`].
    pub fn new(text: &str) -> Result<TaskId, Invalid> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !fits {
            return Err(Invalid::Task { text: shown(text) });
        }
        Ok(TaskId(text.to_owned()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Key of a row of `task_runs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskRunId(pub i64);

/// Order of arrival of a message, over all chats; the first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub i64);

/// Key of a row of `runs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub i64);

/// Key of a row of `outbox`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxId(pub i64);

/// Wall-clock time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The wall clock. For the shells around the pure parts alone.
    pub fn now() -> UnixMs {
        UnixMs(chrono::Utc::now().timestamp_millis())
    }

    /// This time moved on; stays at the end of time rather than wrapping.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> UnixMs {
        UnixMs(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// From `earlier` to this; zero where the clock went back.
    pub fn since(self, earlier: UnixMs) -> std::time::Duration {
        let ms = u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0);
        std::time::Duration::from_millis(ms)
    }
}

macro_rules! text_column {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.0.to_sql()
            }
        }

        impl FromSql for $name {
            /// Checks what the database says too: it may be older than the rule, or edited.
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<$name> {
                $name::new(value.as_str()?).map_err(|invalid| FromSqlError::Other(invalid.into()))
            }
        }
    };
}
text_column!(GroupFolder);
text_column!(ChatJid);
text_column!(TaskId);

macro_rules! number_column {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.0.to_sql()
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<$name> {
                value.as_i64().map($name)
            }
        }
    )*};
}
number_column!(Seq RunId TaskRunId OutboxId UnixMs);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h49_folder_rule() {
        for good in ["main", "a", "A-1_b", "0", &"x".repeat(64)] {
            assert_eq!(good, GroupFolder::new(good).expect(good).as_str());
        }
        for bad in [
            "",
            ".",
            "..",
            "../../etc",
            "a/b",
            "-a",
            "_a",
            "global",
            "Global",
            "errors",
            "a b",
            "a\0",
            "ä",
            &"x".repeat(65),
        ] {
            assert!(GroupFolder::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn task_ids_are_typeable() {
        let (a, b) = (TaskId::random(), TaskId::random());
        assert!(a != b && a.as_str().len() == 8 && TaskId::new(a.as_str()).is_ok());
        assert!(TaskId::new("task-1771500000000-x1").is_ok());
        for bad in ["", "a b", "a%", "ä", &"x".repeat(65)] {
            assert!(TaskId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn chats_know_their_channel() {
        for (jid, channel) in [
            ("local:main", ChannelKind::Local),
            ("script:x", ChannelKind::Script),
            ("123-456@g.us", ChannelKind::Whatsapp),
            ("1@lid", ChannelKind::Whatsapp),
        ] {
            assert_eq!(channel, ChatJid::new(jid).expect(jid).channel());
        }
        for bad in
            ["", "x", "local:", "local:../x", "script:", "a@", "@b", "a@b@c", "a b@c", "a\n@c"]
        {
            assert!(ChatJid::new(bad).is_err(), "{bad:?}");
        }
    }
}
