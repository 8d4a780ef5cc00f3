//! Tells which groups' folders may hold something new. It only ever wakes: what is there is read
//! from the folders, and a slow poll stays under it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::boundary::Dir;
use crate::ids::GroupFolder;
use crate::limits::IPC_NEWS_MAX;

/// The folders of a group that requests lie in.
pub(super) const REQUEST_FOLDERS: [&str; 2] = ["messages", "tasks"];

/// Something that may be new.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// In the folder of this group.
    Group(GroupFolder),
    /// There may be a new folder.
    Folders,
    /// A watched folder is gone; one of the same name may come.
    Gone(PathBuf),
}

/// Watches the folders of all groups.
pub(super) struct Watch {
    root: PathBuf,
    /// Not there where the system cannot watch: then there is only the poll.
    system: Option<RecommendedWatcher>,
    /// The folders that are watched, by their paths, held open.
    watched: BTreeMap<PathBuf, Dir>,
    /// Under which path each is known to the system.
    names: Names,
    pub(super) news: Receiver<News>,
    /// There was more news than there is room for.
    missed: Arc<AtomicBool>,
    // Without a watcher the channel must not hang up.
    _to: Sender<News>,
}

impl Watch {
    /// Watches `root` for new folders.
    pub(super) fn new(root: &Path) -> Watch {
        let (to, news) = bounded(IPC_NEWS_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let names = Names::default();
        let teller = Teller {
            root: root.to_owned(),
            to: to.clone(),
            missed: Arc::clone(&missed),
            names: Arc::clone(&names),
        };
        let system = notify::recommended_watcher(move |event| teller.tell(event));
        let system = match system {
            Ok(system) => Some(system),
            Err(error) => {
                log::warn!("cannot watch for requests, so they wait for a poll: {error}");
                None
            }
        };
        let (root, watched) = (root.to_owned(), BTreeMap::new());
        let mut watch = Watch { root, system, watched, names, news, missed, _to: to };
        if let Ok(root) = Dir::open(&watch.root) {
            watch.add(watch.root.clone(), root);
        }
        watch
    }

    /// Whether the system tells of anything.
    pub(super) fn is_blind(&self) -> bool {
        self.system.is_none()
    }

    /// Whether news was lost since the last question.
    pub(super) fn has_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// Watches a group's folders, as far as they are there. A link is not followed: the watch at its
    /// end would be another group's.
    pub(super) fn group(&mut self, folder: &GroupFolder) {
        let group = self.root.join(folder.as_str());
        for name in REQUEST_FOLDERS {
            let path = group.join(name);
            if self.watched.contains_key(&path) {
                continue;
            }
            let found = Dir::open(&self.root).and_then(|root| root.sub(folder.as_str())?.sub(name));
            match found {
                Ok(found) => self.add(path, found),
                Err(error) => log::debug!("cannot watch `{}`: {error}", path.display()),
            }
        }
    }

    /// The folder is gone: it has to be watched anew if it comes again.
    pub(super) fn forget(&mut self, path: &Path) {
        let (Some(dir), Some(system)) = (self.watched.remove(path), &mut self.system) else {
            return;
        };
        let name = dir.own_path().unwrap_or_else(|| path.to_owned());
        if let Err(error) = system.unwatch(&name) {
            log::debug!("`{}` is watched no more: {error}", path.display());
        }
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    }

    fn add(&mut self, path: PathBuf, dir: Dir) {
        let Some(system) = &mut self.system else { return };
        let name = dir.own_path().unwrap_or_else(|| path.clone());
        // Known before anything is told of it.
        let known = || self.names.lock().unwrap_or_else(PoisonError::into_inner);
        known().insert(name.clone(), path.clone());
        match system.watch(&name, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(path, dir);
            }
            Err(error) => {
                known().remove(&name);
                log::debug!("cannot watch `{}`: {error}", path.display());
            }
        }
    }
}

/// The system's name of a folder → its path.
type Names = Arc<Mutex<BTreeMap<PathBuf, PathBuf>>>;

/// Lives in the watcher's own thread.
struct Teller {
    root: PathBuf,
    to: Sender<News>,
    missed: Arc<AtomicBool>,
    names: Names,
}

impl Teller {
    fn tell(&self, event: notify::Result<Event>) {
        let is_lost = match event {
            Ok(event) if event.need_rescan() => true,
            Ok(event) => {
                let event = self.at_paths(event);
                news(&self.root, &event).into_iter().any(|n| self.to.try_send(n).is_err())
            }
            Err(error) => {
                log::debug!("the watcher for requests: {error}");
                true
            }
        };
        if is_lost {
            self.missed.store(true, Ordering::Relaxed);
            // Room or not: the thread wakes by what fills the channel.
            self.to.try_send(News::Folders).ok();
        }
    }
}

impl Teller {
    /// The event, with the paths of folders in place of the system's names.
    fn at_paths(&self, mut event: Event) -> Event {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for path in &mut event.paths {
            if let Some(known) = names.get(path) {
                path.clone_from(known);
            } else if let (Some(folder), Some(file)) = (path.parent(), path.file_name())
                && let Some(known) = names.get(folder)
            {
                *path = known.join(file);
            }
        }
        event
    }
}

fn news(root: &Path, event: &Event) -> Vec<News> {
    let is_new = match event.kind {
        EventKind::Create(_)
        | EventKind::Any
        | EventKind::Modify(ModifyKind::Any | ModifyKind::Data(_)) => true,
        EventKind::Modify(ModifyKind::Name(mode)) => mode != RenameMode::From,
        // On Linux our own opening and reading is told too.
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => false,
    };
    let is_end = matches!(event.kind, EventKind::Remove(_))
        || matches!(event.kind, EventKind::Modify(ModifyKind::Name(RenameMode::From)));
    let mut found = Vec::new();
    for path in &event.paths {
        let Ok(below) = path.strip_prefix(root) else { continue };
        let mut parts = below.iter().map(|part| part.to_str().unwrap_or_default());
        let group = parts.next().and_then(|name| GroupFolder::new(name).ok());
        match (group, parts.next(), parts.next()) {
            (Some(_), None, _) if is_new => found.push(News::Folders),
            (Some(_), Some(_), None) if is_end => found.push(News::Gone(path.clone())),
            (Some(group), Some(_), Some(name)) if is_new && is_request(name) => {
                found.push(News::Group(group));
            }
            _ => {}
        }
    }
    found
}

/// Whether a file of this name is a request. Others are left alone: half-written ones begin with a
/// dot or end otherwise.
pub(super) fn is_request(name: &str) -> bool {
    !name.starts_with('.') && name.strip_suffix(".json").is_some()
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, RemoveKind};

    use super::*;

    fn told(kind: EventKind, path: &str) -> Vec<News> {
        news(Path::new("/ipc"), &Event::new(kind).add_path(PathBuf::from(path)))
    }

    #[test]
    fn only_what_may_be_a_request_wakes() {
        let family = || vec![News::Group(GroupFolder::new("family").expect("a folder"))];
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let created = EventKind::Create(CreateKind::File);
        assert_eq!(family(), told(renamed, "/ipc/family/messages/1.json"));
        assert_eq!(family(), told(created, "/ipc/family/tasks/1.json"));
        assert_eq!(vec![News::Folders], told(created, "/ipc/family"));
        let removed = EventKind::Remove(RemoveKind::Folder);
        let gone = vec![News::Gone(PathBuf::from("/ipc/family/messages"))];
        assert_eq!(gone, told(removed, "/ipc/family/messages"));
        for (kind, path) in [
            (created, "/ipc/family/messages/.1.json.tmp"),
            (created, "/ipc/family/messages/1.json.tmp"),
            (created, "/ipc/errors/x/1.json"),
            (created, "/elsewhere/family/messages/1.json"),
            (EventKind::Remove(RemoveKind::File), "/ipc/family/messages/1.json"),
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), "/ipc/family/messages/1.json"),
        ] {
            assert_eq!(Vec::<News>::new(), told(kind, path), "{kind:?} {path}");
        }
    }

    #[test]
    fn a_link_takes_nobodys_watch_away() {
        let dir = tempfile::tempdir().expect("a directory");
        for folder in ["main/messages", "main/tasks", "evil/tasks"] {
            std::fs::create_dir_all(dir.path().join(folder)).expect("a directory");
        }
        std::os::unix::fs::symlink("../main/tasks", dir.path().join("evil/messages"))
            .expect("a link");
        let (main, evil) = (GroupFolder::main(), GroupFolder::new("evil").expect("a folder"));
        let mut watch = Watch::new(dir.path());
        watch.group(&main);
        watch.group(&evil);
        std::fs::write(dir.path().join("main/tasks/1.json"), "{}").expect("a file");
        let patience = std::time::Duration::from_secs(30);
        assert_eq!(Ok(News::Group(main)), watch.news.recv_timeout(patience));
        let told: Vec<News> = watch.news.try_iter().collect();
        assert!(!told.contains(&News::Group(evil)), "{told:?}");
    }

    #[test]
    fn folders_that_come_and_go_leave_no_watches_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("family/messages");
        std::fs::create_dir_all(&folder).expect("a directory");
        let family = GroupFolder::new("family").expect("a folder");
        let mut watch = Watch::new(dir.path());
        watch.group(&family);
        let before = watch.watched.len();
        for number in 0..20 {
            std::fs::rename(&folder, dir.path().join(format!("family/old-{number}")))
                .expect("it is there");
            std::fs::create_dir(&folder).expect("a directory");
            let patience = std::time::Duration::from_secs(30);
            let gone = std::iter::from_fn(|| watch.news.recv_timeout(patience).ok())
                .find(|news| matches!(news, News::Gone(_)));
            assert_eq!(Some(News::Gone(folder.clone())), gone);
            watch.forget(&folder);
            watch.group(&family);
        }
        assert_eq!(before, watch.watched.len());
        assert_eq!(before, watch.names.lock().expect("nobody panicked").len());
        #[cfg(target_os = "linux")]
        assert_eq!(before, kernel_watches());
        std::fs::write(folder.join("1.json"), "{}").expect("a file");
        let told = watch.news.recv_timeout(std::time::Duration::from_secs(30));
        assert_eq!(Ok(News::Group(family)), told);
    }

    /// Of this process, which is this test's alone.
    #[cfg(target_os = "linux")]
    fn kernel_watches() -> usize {
        let infos = std::fs::read_dir("/proc/self/fdinfo").expect("a listing");
        let texts = infos.filter_map(|info| std::fs::read_to_string(info.ok()?.path()).ok());
        texts.map(|text| text.matches("inotify wd:").count()).sum()
    }

    #[test]
    fn a_file_that_is_renamed_into_place_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("family/messages");
        std::fs::create_dir_all(&folder).expect("a directory");
        let family = GroupFolder::new("family").expect("a folder");
        let mut watch = Watch::new(dir.path());
        watch.group(&family);
        std::fs::write(folder.join(".1.tmp"), "{}").expect("a file");
        std::fs::rename(folder.join(".1.tmp"), folder.join("1.json")).expect("it is there");
        let told = watch.news.recv_timeout(std::time::Duration::from_secs(30));
        assert_eq!(Ok(News::Group(family)), told);
    }
}
