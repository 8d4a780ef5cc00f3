//! Who was served and how far, as `NanoClaw` kept it: in tables, or before that in JSON files.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Error;
use crate::boundary::{Dir, Rejected};
use crate::ids::shown;
use crate::store::OldDatabase;

/// Size of one of the files.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Groups and chats that are kept in mind.
const ENTRIES_MAX: usize = 10_000;

/// The files, in `data/`; `NanoClaw` itself gives each `.migrated` at its end when it has taken it
/// into its tables.
pub(super) const FILES: [&str; 3] = [GROUPS, SESSIONS, ROUTER];
const GROUPS: &str = "registered_groups.json";
const SESSIONS: &str = "sessions.json";
const ROUTER: &str = "router_state.json";

/// A group, unchecked.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OldGroup {
    pub(super) name: String,
    pub(super) folder: String,
    pub(super) trigger: String,
    #[serde(rename = "added_at", default)]
    pub(super) added_at: String,
    #[serde(default)]
    pub(super) container_config: Option<serde_json::Value>,
    #[serde(default)]
    pub(super) requires_trigger: Option<bool>,
}

/// All of it, unchecked.
#[derive(Debug, Default)]
pub(super) struct State {
    /// By the address of the chat.
    pub(super) groups: BTreeMap<String, OldGroup>,
    /// By folder.
    pub(super) sessions: BTreeMap<String, String>,
    /// For each chat, up to which time everything was answered. `None`: nobody noted it.
    pub(super) answered: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Router {
    #[serde(default)]
    last_agent_timestamp: Option<BTreeMap<String, String>>,
}

impl State {
    /// What the files in `data` say; `None` where there is none.
    pub(super) fn of_files(data: &Dir) -> Result<Option<State>, Error> {
        let groups = json(data, GROUPS)?;
        let sessions = json(data, SESSIONS)?;
        let router: Option<Router> = json(data, ROUTER)?;
        if groups.is_none() && sessions.is_none() && router.is_none() {
            return Ok(None);
        }
        let state = State {
            groups: groups.unwrap_or_default(),
            sessions: sessions.unwrap_or_default(),
            answered: router.and_then(|router| router.last_agent_timestamp),
        };
        state.bounded().map(Some)
    }

    /// What the tables say, and the files where a table is still empty.
    pub(super) fn of(old: Option<&OldDatabase>, data: Option<&Dir>) -> Result<State, Error> {
        let mut state = match old {
            Some(old) => State::of_tables(old)?,
            None => State::default(),
        };
        let Some(data) = data else { return state.bounded() };
        let files = State::of_files(data)?.unwrap_or_default();
        half(data, GROUPS, !state.groups.is_empty(), !files.groups.is_empty())?;
        half(data, SESSIONS, !state.sessions.is_empty(), !files.sessions.is_empty())?;
        half(data, ROUTER, state.answered.is_some(), files.answered.is_some())?;
        if state.groups.is_empty() {
            state.groups = files.groups;
        }
        if state.sessions.is_empty() {
            state.sessions = files.sessions;
        }
        state.answered = state.answered.or(files.answered);
        state.bounded()
    }

    fn of_tables(old: &OldDatabase) -> Result<State, Error> {
        let mut state = State::default();
        let corrupt = |table, why: String| Error::Corrupt { what: format!("table {table}"), why };
        if old.has_table("registered_groups")? {
            let columns = [
                "jid",
                "name",
                "folder",
                "trigger_pattern",
                "added_at",
                "container_config",
                "requires_trigger",
            ];
            old.rows("registered_groups", &columns, "rowid", |row| {
                let text = |column| row.text(column).unwrap_or_default().to_owned();
                let config = row.text(5).map(serde_json::from_str).transpose();
                let group = OldGroup {
                    name: text(1),
                    folder: text(2),
                    trigger: text(3),
                    added_at: text(4),
                    container_config: config
                        .map_err(|error| corrupt("registered_groups", error.to_string()))?,
                    requires_trigger: row.number(6).map(|number| number == 1),
                };
                if state.groups.len() == ENTRIES_MAX {
                    return Err(corrupt("registered_groups", "it is too long".to_owned()));
                }
                state.groups.insert(text(0), group);
                Ok(())
            })?;
        }
        if old.has_table("sessions")? {
            old.rows("sessions", &["group_folder", "session_id"], "rowid", |row| {
                if let (Some(folder), Some(id)) = (row.text(0), row.text(1))
                    && state.sessions.len() < ENTRIES_MAX
                {
                    state.sessions.insert(folder.to_owned(), id.to_owned());
                }
                Ok::<(), Error>(())
            })?;
        }
        if old.has_table("router_state")? {
            old.rows("router_state", &["key", "value"], "rowid", |row| {
                if let (Some("last_agent_timestamp"), Some(json)) = (row.text(0), row.text(1)) {
                    let answered = serde_json::from_str(json)
                        .map_err(|error| corrupt("router_state", error.to_string()))?;
                    state.answered = Some(answered);
                }
                Ok::<(), Error>(())
            })?;
        }
        Ok(state)
    }

    fn bounded(self) -> Result<State, Error> {
        let counts = [
            self.groups.len(),
            self.sessions.len(),
            self.answered.as_ref().map_or(0, BTreeMap::len),
        ];
        if counts.iter().any(|count| ENTRIES_MAX < *count) {
            let why = format!("more than {ENTRIES_MAX} entries");
            return Err(Error::Corrupt { what: "the list of groups".to_owned(), why });
        }
        Ok(self)
    }
}

/// Refuses what would leave it open which of the two counts, and what was lost between them.
fn half(data: &Dir, file: &'static str, in_table: bool, in_file: bool) -> Result<(), Error> {
    if in_table && in_file {
        return Err(Error::Half {
            why: format!("both data/{file} and the database have it"),
            mend: "start and stop NanoClaw once, so that it takes the file in",
        });
    }
    if in_table || in_file {
        return Ok(());
    }
    let taken: Option<serde_json::Map<String, serde_json::Value>> =
        json(data, &format!("{file}.migrated"))?;
    if taken.is_some_and(|entries| !entries.is_empty()) {
        return Err(Error::Half {
            why: format!("data/{file} was taken over, but the database has nothing of it"),
            mend: "take `.migrated` off its name, then start and stop NanoClaw once",
        });
    }
    Ok(())
}

fn json<T: DeserializeOwned>(data: &Dir, file: &str) -> Result<Option<T>, Error> {
    let bytes = match data.read(file, FILE_BYTES_MAX) {
        Err(Rejected::NotFound { .. }) => return Ok(None),
        bytes => bytes?,
    };
    let what = || format!("data/{}", shown(file));
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::Corrupt { what: what(), why: error.to_string() })
}
