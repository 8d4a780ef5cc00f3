//! Moving in from `NanoClaw` as of February 2026: groups, sessions, chats, messages, cursors, tasks
//! and their runs, folders and settings.
//!
//! Their folder is read and never written, as one that a stranger made. Into ours all comes or
//! nothing: the rows are one transaction, the folders a copy that is moved into place while that
//! transaction is open ([`crate::moving`]).
//!
//! Their place in a chat is a time, ours a number in the order of arrival. What was not answered
//! there is answered by the first start here, and nothing else.

mod plan;
mod report;
mod rows;
mod state;
mod tree;

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::boundary::{Dir, Rejected};
use crate::config::{self, Settings};
use crate::home::{Home, HomeError, Lock, LockError, Purpose};
use crate::ids::UnixMs;
use crate::moving::{self, Moving};
use crate::sandbox::allowlist::{Allowlist, Unusable};
use crate::store::{self, Contents, OldDatabase, OldError, RegisterError, Store};
use plan::Plan;
pub use report::{Line, Report};
use rows::Rows;
use state::State;

/// Why nothing was imported. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is something else.
    #[error("there is no NanoClaw in `{}`: {why}", path.display())]
    NotThere {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// It runs.
    #[error("NanoClaw runs: process {pid} has its database open; stop it and try again")]
    Runs {
        /// Its process.
        pid: u32,
    },
    /// It was stopped in the middle of a move of its own.
    #[error("NanoClaw's data are half-migrated: {why}; {mend}")]
    Half {
        /// What is not as it should be.
        why: String,
        /// What mends it.
        mend: &'static str,
    },
    /// A file or table does not hold what it should.
    #[error("NanoClaw's {what} cannot be used: {why}")]
    Corrupt {
        /// Which.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// What is to be written would lie in what is only read.
    #[error("home `{}` lies in NanoClaw's own folder: choose another with `--home DIR`", home.display())]
    Inside {
        /// The home.
        home: PathBuf,
    },
    /// There is something already.
    #[error(
        "the home has {} further groups, {} messages and {} tasks already: import into a new one, \
         for example `rust-claw --home ~/.rust-claw-2 import …`",
        contents.groups, contents.messages, contents.tasks
    )]
    NotFresh {
        /// What.
        contents: Contents,
    },
    /// Something in their folder is not what it should be, or too large.
    #[error("cannot read NanoClaw's folder")]
    Tree(#[from] Rejected),
    /// Their database.
    #[error(transparent)]
    Old(#[from] OldError),
    /// Our home.
    #[error("cannot use the home folder")]
    Home(#[from] HomeError),
    /// Somebody else has our home.
    #[error("{source}; stop it first")]
    Lock {
        /// Who.
        #[from]
        source: LockError,
    },
    /// Our database.
    #[error("cannot use the database")]
    Store(#[from] store::Error),
    /// Our groups.
    #[error("cannot take over a group")]
    Register(#[from] RegisterError),
    /// Our folders.
    #[error(transparent)]
    Moving(#[from] moving::Error),
    /// Our settings.
    #[error(transparent)]
    Settings(#[from] config::ConfigError),
}

/// What was done.
#[derive(Debug)]
pub struct Imported {
    /// What came over and what did not.
    pub report: Report,
    /// Where that is now which had to make place.
    pub replaced: Option<PathBuf>,
}

/// The settings that come over. The others have another meaning here, or none.
const SETTINGS: [&str; 10] = [
    "ASSISTANT_NAME",
    "ASSISTANT_HAS_OWN_NUMBER",
    "ANTHROPIC_API_KEY",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "CONTAINER_TIMEOUT",
    "IDLE_TIMEOUT",
    "CONTAINER_MAX_OUTPUT_SIZE",
    "MAX_CONCURRENT_CONTAINERS",
    "TZ",
];
/// Of the file `.env`.
const ENV_BYTES_MAX: u64 = 1024 * 1024;
/// What the assistant is called there where nobody says otherwise.
const THEIR_NAME: &str = "Andy";

/// What the assistant is called.
struct Names {
    ours: String,
    theirs: String,
    /// Whether its number there is its own.
    own_number: bool,
}

/// Their folder, opened and checked.
struct Source {
    root: Dir,
    old: Option<OldDatabase>,
    state: State,
    env: String,
}

impl Source {
    fn open(path: &Path) -> Result<Source, Error> {
        let not_there = |why| Error::NotThere { path: path.to_owned(), why };
        let path = path.canonicalize().map_err(|_| not_there("there is no such folder"))?;
        let not_there = |why| Error::NotThere { path: path.clone(), why };
        let root = Dir::open(&path).map_err(|_| not_there("it is no folder"))?;
        let store = tree::below(&root, &["store"])?;
        let data = tree::below(&root, &["data"])?;
        let file = path.join("store/messages.db");
        let old = match store.map(|store| head(&store, "messages.db")).transpose()?.flatten() {
            None => None,
            Some(head) => {
                if let Some(pid) = holder(&file) {
                    return Err(Error::Runs { pid });
                }
                let old = OldDatabase::open(&file, &head)?;
                let other = |why: &str| OldError::Other { path: file.clone(), why: why.to_owned() };
                if old.has_table("group_chats")? {
                    Err(other("it is one of rust-claw; `backup` and `restore` take that over"))?;
                }
                for table in ["chats", "messages"] {
                    if !old.has_table(table)? {
                        Err(other(&format!("it has no table `{table}`")))?;
                    }
                }
                Some(old)
            }
        };
        let state = State::of(old.as_ref(), data.as_ref())?;
        if old.is_none() && state.groups.is_empty() {
            return Err(not_there(
                "neither store/messages.db nor data/registered_groups.json; name the folder that \
                 NanoClaw is started in: `rust-claw import ~/nanoclaw --dry-run`",
            ));
        }
        let env = match root.read(".env", ENV_BYTES_MAX) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(Rejected::NotFound { .. }) => String::new(),
            Err(rejected) => return Err(rejected.into()),
        };
        let source = Source { root, old, state, env };
        source.refuse_forgotten()?;
        Ok(source)
    }

    /// Without a note of what was answered, all would be answered again.
    fn refuse_forgotten(&self) -> Result<(), Error> {
        let Some(old) = self.old.as_ref().filter(|_| self.state.answered.is_none()) else {
            return Ok(());
        };
        let mut has_answered = false;
        old.rows("messages", &["is_bot_message"], "rowid", |row| {
            has_answered |= row.number(0) == Some(1);
            Ok::<(), Error>(())
        })?;
        if has_answered {
            return Err(Error::Half {
                why: "it has answered, but nobody noted up to where (`last_agent_timestamp`)"
                    .to_owned(),
                mend: "start and stop NanoClaw once, and let it answer",
            });
        }
        Ok(())
    }
}

/// Imports the `NanoClaw` in `path` into `home`, or just tells what would come over.
///
/// # Errors
/// [`Error`]: nothing was changed.
pub fn import(
    home: &Home,
    path: &Path,
    env: impl Fn(&str) -> Option<String> + Copy,
    dry_run: bool,
    now: UnixMs,
) -> Result<Imported, Error> {
    let source = Source::open(path)?;
    let inside = |home: &Path| path.canonicalize().is_ok_and(|path| home.starts_with(path));
    if inside(home.root()) || home.root().canonicalize().is_ok_and(|home| inside(&home)) {
        return Err(Error::Inside { home: home.root().to_owned() });
    }
    let mut report = Report::default();
    let ours = our_env(home)?;
    let text = merged_env(&ours, &source.env, &mut report);
    let settings = Settings::of_text(home, &text, env)?;
    let names = names(&source.env, &settings);
    let plan = Plan::new(&source.state, &names.ours, now, &mut report);
    if dry_run {
        if home.database().is_file() {
            refuse_unless_fresh(&Store::open(&home.database())?)?;
        }
        tree::copy(&source.root, plan.folders.iter(), None, &mut report)?;
        rows(&source, &plan, &names, &settings, None, now, &mut report)?;
        about_the_rest(&source, &plan, &mut report)?;
        return Ok(Imported { report, replaced: None });
    }
    home.create()?;
    let _lock: Lock = home.lock(Purpose::Import)?;
    let mut moving = Moving::begin(home, true)?;
    let mut store = Store::open(&home.database())?;
    refuse_unless_fresh(&store)?;
    tree::copy(&source.root, plan.folders.iter(), Some(&mut moving), &mut report)?;
    if ours != text {
        let new = moving.come(".env")?;
        let folder = Dir::open(new.parent().unwrap_or(&new))?;
        folder.write_new(".env", text.as_bytes(), 0o600)?;
    }
    let import = store.import()?;
    for (group, added_at) in &plan.groups {
        import.group(group, *added_at)?;
    }
    for (folder, id) in &plan.sessions {
        import.session(folder, id, now)?;
    }
    rows(&source, &plan, &names, &settings, Some(&import), now, &mut report)?;
    moving.place()?;
    crate::crash_point("import-placed");
    import.commit([moving::STATE_KEY, moving.id()])?;
    crate::crash_point("import-committed");
    let replaced = moving.finish()?;
    store.ensure_main_group(now)?;
    for (group, _) in plan.groups.iter().filter(|(group, _)| !group.attach) {
        home.create_group_folders(&group.folder, &group.name, &names.ours, group.is_main)?;
    }
    about_the_rest(&source, &plan, &mut report)?;
    Ok(Imported { report, replaced })
}

/// Takes over the JSON files of a `NanoClaw` that lie in the home's own `data`, once: groups that
/// are not there yet, sessions of groups that have none, and cursors that are further than ours.
///
/// # Errors
/// [`Error`]: nothing was changed, the files stay.
pub fn take_over_files(
    home: &Home,
    store: &mut Store,
    assistant_name: &str,
    now: UnixMs,
) -> Result<Option<Report>, Error> {
    let data = Dir::open(&home.root().join("data"))?;
    let Some(state) = State::of_files(&data)? else { return Ok(None) };
    let mut report = Report::default();
    let plan = Plan::new(&state, assistant_name, now, &mut report);
    let import = store.import()?;
    for (group, added_at) in &plan.groups {
        match import.group(group, *added_at) {
            Ok(()) => {}
            Err(RegisterError::Store(error)) => return Err(error.into()),
            Err(taken) => report.of("groups").say(&taken.to_string()),
        }
    }
    for (folder, id) in &plan.sessions {
        import.session(folder, id, now)?;
    }
    for (jid, answered) in state.answered.iter().flatten() {
        if let (Ok(chat), Some(at)) = (plan::chat(jid), plan::time(answered)) {
            import.settle(&chat, import.last_until(&chat, at)?)?;
            report.of("cursors").came += 1;
        }
    }
    import.commit([moving::STATE_KEY, "files"])?;
    for (group, _) in plan.groups.iter().filter(|(group, _)| !group.attach) {
        home.create_group_folders(&group.folder, &group.name, assistant_name, group.is_main)?;
    }
    for file in state::FILES {
        match data.rename(file, &format!("{file}.migrated")) {
            Ok(()) | Err(Rejected::NotFound { .. }) => {}
            Err(rejected) => return Err(rejected.into()),
        }
    }
    Ok(Some(report))
}

fn rows(
    source: &Source,
    plan: &Plan,
    names: &Names,
    settings: &Settings,
    into: Option<&store::Import<'_>>,
    now: UnixMs,
    report: &mut Report,
) -> Result<(), Error> {
    let Some(old) = &source.old else { return Ok(()) };
    let rows = Rows { old, plan, state: &source.state, names, zone: settings.timezone, now, into };
    rows.chats(report)?;
    rows.messages(report)?;
    rows.tasks(report)?;
    rows.task_runs(report)
}

fn refuse_unless_fresh(store: &Store) -> Result<(), Error> {
    let contents = store.contents()?;
    if contents == (Contents { groups: 0, messages: 0, tasks: 0 }) {
        Ok(())
    } else {
        Err(Error::NotFresh { contents })
    }
}

/// The first bytes of a file; `None` where there is none.
fn head(dir: &Dir, name: &str) -> Result<Option<Vec<u8>>, Error> {
    use std::io::Read;
    let file = match dir.open_file(name) {
        Err(Rejected::NotFound { .. }) => return Ok(None),
        file => file?.file,
    };
    let mut head = Vec::new();
    let read = file.take(100).read_to_end(&mut head);
    read.map_err(|source| Rejected::Io { doing: "read", name: name.to_owned(), source })?;
    Ok(Some(head))
}

/// A process that has the file open, where the system lets us look: an idle database is not
/// locked.
fn holder(file: &Path) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|pid: &u32| *pid != std::process::id()).find(|pid| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
        open.into_iter().flatten().flatten().any(|fd| {
            rustix::fs::readlink(fd.path(), Vec::new())
                .or(Err::<_, Errno>(Errno::NOENT))
                .is_ok_and(|to| to.to_bytes() == file.as_os_str().as_encoded_bytes())
        })
    })
}

fn our_env(home: &Home) -> Result<String, Error> {
    let root = match Dir::open(home.root()) {
        Err(Rejected::NotFound { .. }) => return Ok(String::new()),
        root => root?,
    };
    match root.read(".env", ENV_BYTES_MAX) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(Rejected::NotFound { .. }) => Ok(String::new()),
        Err(rejected) => Err(rejected.into()),
    }
}

/// Our settings, and theirs where we have none.
fn merged_env(ours: &str, theirs: &str, report: &mut Report) -> String {
    let known: Vec<String> = config::env_values(ours).into_iter().map(|(name, _)| name).collect();
    let mut text = ours.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let line = report.of("settings");
    for (name, value) in config::env_values(theirs) {
        // Alone, so that the fault of one is not said of another.
        let nowhere = Home::at(Path::new("/nonexistent"));
        let fits = |value: &String| {
            Settings::of_text(&nowhere, &config::env_line(&name, value), |_| None).is_ok()
        };
        if !SETTINGS.contains(&name.as_str()) {
            line.stay(&format!("`{name}` is not used here"));
        } else if known.contains(&name) {
            line.stay(&format!("`{name}` is set in the home's .env already"));
        } else if let Some(value) = value.ok().filter(fits) {
            text.push_str(&config::env_line(&name, &value));
            line.came += 1;
        } else {
            line.stay(&format!("the value of `{name}` cannot be used"));
        }
    }
    text
}

fn names(theirs: &str, settings: &Settings) -> Names {
    let value = |wanted: &str| {
        let all = config::env_values(theirs).into_iter().rev();
        all.filter_map(|(name, value)| (name == wanted).then(|| value.ok())?)
            .find(|value| !value.is_empty())
    };
    Names {
        ours: settings.assistant_name.clone(),
        theirs: value("ASSISTANT_NAME").unwrap_or_else(|| THEIR_NAME.to_owned()),
        own_number: value("ASSISTANT_HAS_OWN_NUMBER").as_deref() == Some("true"),
    }
}

/// What does not come as a row or a file.
fn about_the_rest(source: &Source, plan: &Plan, report: &mut Report) -> Result<(), Error> {
    if let Some(groups) = tree::below(&source.root, &["groups"])? {
        for entry in groups.list(crate::limits::IMPORT_ENTRIES_MAX)?.entries {
            let is_ours = entry.name == "global"
                || plan.folders.iter().any(|folder| folder.as_str() == entry.name);
            if !is_ours {
                report.of("files of groups").stay(&format!("`{}` is no group", entry.name));
            }
        }
    }
    let line = report.of("mount allowlist");
    match std::env::home_dir().map(|own| Allowlist::load(&own)) {
        Some(Ok(_)) => line.say("is used where it is"),
        Some(Err(Unusable::Missing { .. })) | None => line.say("there is none"),
        Some(Err(unusable)) => line.stay(&crate::chain(&unusable)),
    }
    report.of("WhatsApp").stay("keys are not taken over: pair again with `rust-claw pair`");
    Ok(())
}
