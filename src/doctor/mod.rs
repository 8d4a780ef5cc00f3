//! Looks whether all is as it has to be, and names for each fault the one command that mends it.
//!
//! It looks and changes nothing, but for a file that a sandbox writes into a folder made for that
//! and removed again. A fault without a command is no fault but a remark: `Line::bad` wants one.

mod command;
mod host;
mod model;
mod sandbox;
mod service;
mod trial;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

pub use command::{allow_command, key_command, own_command};
pub use model::{Kind, Verdict, ask, kind_of};
pub use trial::{TrialError, trial};

use crate::channel::WHATSAPP_STATE_KEY;
use crate::config::{self, ConfigError, Settings};
use crate::home::Home;
use crate::ids::UnixMs;
use crate::store::{self, CorruptRow, Group, Store};

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it has to be.
    Good,
    /// It works, and a person should know.
    Remark,
    /// To be mended.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// In a word, what it is about.
    pub about: &'static str,
    /// How it is.
    pub mark: Mark,
    /// The same in words.
    pub says: String,
    /// A command that mends it; always there where it is bad.
    pub mend: Option<String>,
}

impl Line {
    fn good(about: &'static str, says: impl Into<String>) -> Line {
        Line { about, mark: Mark::Good, says: says.into(), mend: None }
    }

    fn remark(about: &'static str, says: impl Into<String>, mend: Option<String>) -> Line {
        Line { about, mark: Mark::Remark, says: says.into(), mend }
    }

    fn bad(about: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Line {
        Line { about, mark: Mark::Bad, says: says.into(), mend: Some(mend.into()) }
    }
}

/// What all looks are about.
struct Scene<'a> {
    home: &'a Home,
    user_home: Option<PathBuf>,
    settings: Result<Settings, ConfigError>,
    /// Settings that the environment sets.
    environment: Vec<&'static str>,
    /// `None` where there is no database yet.
    stored: Option<Result<Stored, store::Error>>,
    /// The process that serves the home.
    holder: Option<u32>,
    now: UnixMs,
}

/// What is asked of the database.
struct Stored {
    groups: Vec<Group>,
    corrupt: Vec<CorruptRow>,
    /// Names of the containers that may run.
    containers: Vec<String>,
    whatsapp: Option<serde_json::Value>,
    newest_message_at: Option<UnixMs>,
}

/// One look, or a few that go together.
type Look = fn(&Scene<'_>) -> Vec<Line>;

/// Looks that wait for different things, and so are made at the same time: for the disk, for the
/// engine, for the network.
const LANES: [&[Look]; 3] = [
    &[
        host::home,
        host::settings,
        host::database,
        host::disk,
        host::clock,
        host::zone,
        host::groups,
        host::whatsapp,
        host::path,
        service::service,
    ],
    &[sandbox::sandbox],
    &[model::model],
];

/// Looks at everything.
pub fn examine(home: &Home, env: impl Fn(&str) -> Option<String>) -> Vec<Line> {
    let scene = Scene {
        home,
        user_home: std::env::home_dir().filter(|path| path.is_absolute()),
        settings: Settings::load(home, &env),
        environment: config::in_environment(&env),
        stored: home.database().is_file().then(|| stored(home)),
        holder: home.holder().unwrap_or_default(),
        now: UnixMs::now(),
    };
    thread::scope(|scope| {
        let lanes = LANES.map(|looks| {
            let scene = &scene;
            scope.spawn(move || looks.iter().flat_map(|look| look(scene)).collect::<Vec<_>>())
        });
        lanes
            .into_iter()
            .flat_map(|lane| lane.join().unwrap_or_else(|p| resume_unwind(p)))
            .collect()
    })
}

fn stored(home: &Home) -> store::Result<Stored> {
    let store = Store::open(&home.database())?;
    let (groups, mut corrupt) = store.groups()?;
    corrupt.extend(store.tasks(None)?.1);
    let whatsapp = store.get_state(WHATSAPP_STATE_KEY)?;
    Ok(Stored {
        groups,
        corrupt,
        containers: store.alive_runs()?.into_iter().map(|run| run.container_name).collect(),
        whatsapp: whatsapp.and_then(|text| serde_json::from_str(&text).ok()),
        newest_message_at: store.newest_message_at()?,
    })
}

impl Scene<'_> {
    /// Our own command about this home.
    fn own(&self, arguments: &str) -> String {
        own_command(self.home, arguments)
    }
}
