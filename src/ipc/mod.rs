//! What agents ask of us, while their sandbox lives: files that they put into the folders
//! `messages` and `tasks` of their group, done in the order of their names, each answered in
//! `responses` where it carries an id.
//!
//! The folders can be written from inside a sandbox, so all access goes through
//! [`crate::boundary`]; work is bounded per group and round, so that a flood in one group leaves
//! the others their turn. Who asks is known by the folder alone. A request is done once: what it
//! says in a chat has a key, what else it changes is noted before and after.

mod authorize;
mod execute;
mod fields;
mod intake;
mod quarantine;
mod request;
mod show;
mod snapshot;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, select};

use self::execute::Changed;
use self::quarantine::Quarantine;
pub use self::snapshot::Snapshot;
use self::watch::{News, REQUEST_FOLDERS, Watch};
use crate::agent::Shared;
use crate::boundary::{Dir, Kind, Rejected};
use crate::bucket::{Bucket, Rate};
use crate::ids::{GroupFolder, UnixMs};
use crate::limits::{
    IPC_BURST_MAX, IPC_GLANCE_INTERVAL, IPC_LOOK_INTERVAL, IPC_POLL_INTERVAL, IPC_REQUEST_KNOWN,
    IPC_REQUESTS_PER_SECOND, IPC_RESPONSE_KEPT, SEARCH_STEP_MAX, SEARCH_STEPS_MAX,
};
use crate::store::Store;

/// What the thread owns.
pub struct Ipc {
    shared: Arc<Shared>,
    store: Store,
    root: Dir,
    quarantine: Quarantine,
    watch: Watch,
    groups: BTreeMap<GroupFolder, Place>,
    /// Groups to look at, now.
    waiting: BTreeSet<GroupFolder>,
    /// Responses that nobody may ever take.
    responses: VecDeque<(Instant, GroupFolder, String)>,
    changed: Changed,
    /// When all folders were last looked into, whatever was told.
    looked_at: Instant,
    /// When a group's folder came or went, at the last glance.
    changed_at: Option<(i64, i128)>,
    /// At the last tick: what the database looked like.
    seen: i64,
    /// All that was there then can be searched.
    is_indexed: bool,
    swept_at: Option<Instant>,
}

/// What is remembered of a group's folder.
struct Place {
    bucket: Bucket,
    /// Everything that an earlier life of the program left has been seen.
    is_settled: bool,
    /// Names that were done and could not be removed.
    stuck: BTreeSet<String>,
    /// When the folders that requests lie in last changed, at the last glance.
    changed_at: [Option<(i64, i128)>; 2],
}

/// Of the requests of one group.
const RATE: Rate = Rate { burst: IPC_BURST_MAX, per_second: IPC_REQUESTS_PER_SECOND as f64 };
/// After this a bucket that was empty is worth another look.
const REFILL: Duration = Duration::from_millis(100);

/// How often old rows and responses are swept.
const SWEEP_INTERVAL: Duration = Duration::from_mins(10);
/// Responses that can lie there at all, if nobody but us writes them.
const RESPONSES_MAX: usize = 10_000;
/// A response is one file; whoever puts a folder there keeps it.
const RESPONSE_ENTRIES_MAX: usize = 10;
/// Groups' folders that are looked at.
const FOLDERS_MAX: usize = 100_000;

/// At the start, responses are for an agent that is gone.
fn clear_responses(root: &Dir, folder: &GroupFolder) -> Result<(), Rejected> {
    let responses = root.sub(folder.as_str())?.sub("responses")?;
    for entry in responses.list(RESPONSES_MAX)?.entries {
        responses.remove_tree(&entry.name, RESPONSE_ENTRIES_MAX)?;
    }
    Ok(())
}

impl Ipc {
    /// # Errors
    /// A quarantine or a folder that is not there, in words.
    pub fn new(shared: Arc<Shared>, store: Store) -> Result<Ipc, String> {
        let errors = shared.home.ipc_errors();
        let quarantine = Quarantine::open(&errors)
            .map_err(|error| format!("cannot use `{}`: {error}", errors.display()))?;
        // The kernel tells of real paths.
        let path = shared.home.ipc_all();
        let path = path.canonicalize().unwrap_or(path);
        let root = Dir::open(&path).map_err(|error| crate::chain(&error))?;
        Ok(Ipc {
            shared,
            store,
            root,
            quarantine,
            watch: Watch::new(&path),
            groups: BTreeMap::new(),
            waiting: BTreeSet::new(),
            responses: VecDeque::new(),
            changed: Changed::default(),
            looked_at: Instant::now(),
            changed_at: None,
            seen: 0,
            is_indexed: false,
            swept_at: None,
        })
    }

    /// Serves until `stop` hangs up.
    pub fn run(mut self, stop: &Receiver<()>) {
        self.find_folders();
        let interval = if self.watch.is_blind() { IPC_POLL_INTERVAL } else { IPC_GLANCE_INTERVAL };
        let mut poll_at = Instant::now() + interval;
        loop {
            self.round();
            let now = Instant::now();
            let next_poll = poll_at.saturating_duration_since(now);
            let rest = self.next_turn(now).map_or(next_poll, |rest| rest.min(next_poll));
            let timer = after(rest);
            select! {
                recv(stop) -> _ => return,
                recv(self.watch.news) -> news => self.hear(news.ok()),
                recv(timer) -> _ => {}
            }
            while let Ok(news) = self.watch.news.try_recv() {
                self.hear(Some(news));
            }
            if self.watch.has_missed() {
                self.look_at_all();
            }
            let now = Instant::now();
            if poll_at <= now {
                self.poll(now);
                poll_at = now + interval;
            }
        }
    }

    /// One turn of every group that waits.
    fn round(&mut self) {
        for folder in std::mem::take(&mut self.waiting) {
            if self.visit(&folder) {
                self.waiting.insert(folder);
            }
        }
    }

    /// When the next group that waits may go on.
    fn next_turn(&mut self, now: Instant) -> Option<Duration> {
        let groups = &mut self.groups;
        let rest = |folder| {
            let is_used_up =
                groups.get_mut(folder).is_some_and(|place| place.bucket.available(now) == 0);
            if is_used_up { REFILL } else { Duration::ZERO }
        };
        self.waiting.iter().map(rest).min()
    }

    fn hear(&mut self, news: Option<News>) {
        match news {
            Some(News::Group(folder)) => {
                self.waiting.insert(folder);
            }
            Some(News::Folders) | None => self.find_folders(),
            Some(News::Gone(path)) => self.watch.forget(&path),
        }
    }

    /// Takes up the folders that are new.
    fn find_folders(&mut self) {
        let listing = match self.root.list(FOLDERS_MAX) {
            Ok(listing) => listing,
            Err(error) => return log::error!("cannot list the groups' folders: {error}"),
        };
        let now = Instant::now();
        for entry in listing.entries.into_iter().filter(|entry| entry.kind == Kind::Directory) {
            let Ok(folder) = GroupFolder::new(&entry.name) else { continue };
            if !self.groups.contains_key(&folder) {
                self.watch.group(&folder);
                if let Err(error) = clear_responses(&self.root, &folder) {
                    log::debug!("group={folder} old responses stay: {error}");
                }
                let place = Place {
                    bucket: Bucket::full(RATE, now),
                    is_settled: false,
                    stuck: BTreeSet::new(),
                    changed_at: [None; 2],
                };
                self.groups.insert(folder.clone(), place);
                self.waiting.insert(folder);
            }
        }
    }

    fn look_at_all(&mut self) {
        self.find_folders();
        for folder in self.groups.keys() {
            self.watch.group(folder);
            self.waiting.insert(folder.clone());
        }
    }

    /// Whether anything came of which nobody told.
    fn glance(&mut self) {
        let found = self.root.changed_at(&[]).ok();
        if found != std::mem::replace(&mut self.changed_at, found) {
            self.find_folders();
        }
        for (folder, place) in &mut self.groups {
            let found =
                REQUEST_FOLDERS.map(|name| self.root.changed_at(&[folder.as_str(), name]).ok());
            if found != std::mem::replace(&mut place.changed_at, found) {
                self.watch.group(folder);
                self.waiting.insert(folder.clone());
            }
        }
    }

    /// The net under what we are told, then what can wait.
    fn poll(&mut self, now: Instant) {
        let is_idle = self.waiting.is_empty();
        if self.watch.is_blind() || self.looked_at + IPC_LOOK_INTERVAL <= now {
            self.looked_at = now;
            self.look_at_all();
        } else {
            self.glance();
        }
        self.sweep(now);
        if is_idle {
            self.index();
        }
    }

    /// Makes messages searchable: a few where others write too, many where nobody does.
    fn index(&mut self) {
        let result = self.store.data_version().and_then(|version| {
            let is_quiet = version == std::mem::replace(&mut self.seen, version);
            if is_quiet && self.is_indexed {
                return Ok(());
            }
            self.is_indexed = false;
            for _ in 0..if is_quiet { SEARCH_STEPS_MAX } else { 1 } {
                if self.store.index_messages(SEARCH_STEP_MAX)? < SEARCH_STEP_MAX {
                    self.is_indexed = true;
                    break;
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            log::warn!("messages are not searchable yet: {}", crate::chain(&error));
        }
    }

    fn sweep(&mut self, now: Instant) {
        while let Some((at, folder, name)) = self.responses.pop_front() {
            if now < at + IPC_RESPONSE_KEPT {
                self.responses.push_front((at, folder, name));
                break;
            }
            let removed = self.root.sub(folder.as_str()).and_then(|ipc| ipc.sub("responses"));
            if let Err(error) = removed.and_then(|responses| responses.remove(&name)) {
                log::debug!("group={folder} an old response stays: {error}");
            }
        }
        if self.swept_at.is_none_or(|at| at + SWEEP_INTERVAL <= now) {
            let known = i64::try_from(IPC_REQUEST_KNOWN.as_millis()).unwrap_or(i64::MAX);
            let before = UnixMs(UnixMs::now().0.saturating_sub(known));
            match self.store.forget_old_requests(before) {
                // The next turn goes on.
                Ok(true) => {}
                Ok(false) => self.swept_at = Some(now),
                Err(error) => {
                    self.swept_at = Some(now);
                    log::warn!("old requests stay: {}", crate::chain(&error));
                }
            }
            // A folder that is gone, or at rest, is nothing to remember.
            let root = &self.root;
            self.groups.retain(|folder, place| {
                !place.bucket.is_full(now) || root.kind(folder.as_str()).is_ok()
            });
        }
    }
}
