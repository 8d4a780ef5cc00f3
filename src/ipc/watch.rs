//! Tells which groups' folders may hold something new. It only ever wakes: what is there is read
//! from the folders, and a slow poll stays under it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

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
    watched: BTreeSet<PathBuf>,
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
        let teller = Teller { root: root.to_owned(), to: to.clone(), missed: Arc::clone(&missed) };
        let system = notify::recommended_watcher(move |event| teller.tell(event));
        let system = match system {
            Ok(system) => Some(system),
            Err(error) => {
                log::warn!("cannot watch for requests, so they wait for a poll: {error}");
                None
            }
        };
        let watched = BTreeSet::new();
        let mut watch = Watch { root: root.to_owned(), system, watched, news, missed, _to: to };
        watch.add(root.to_owned());
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

    /// Watches a group's folders, as far as they are there. What a sandbox may have put in their
    /// place only decides when we look, never what we read.
    pub(super) fn group(&mut self, folder: &GroupFolder) {
        let group = self.root.join(folder.as_str());
        for name in REQUEST_FOLDERS {
            let path = group.join(name);
            if !self.watched.contains(&path) {
                self.add(path);
            }
        }
    }

    /// The folder is gone: it has to be watched anew if it comes again.
    pub(super) fn forget(&mut self, path: &Path) {
        self.watched.remove(path);
    }

    fn add(&mut self, path: PathBuf) {
        let Some(system) = &mut self.system else { return };
        match system.watch(&path, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(path);
            }
            Err(error) => log::debug!("cannot watch `{}`: {error}", path.display()),
        }
    }
}

/// Lives in the watcher's own thread.
struct Teller {
    root: PathBuf,
    to: Sender<News>,
    missed: Arc<AtomicBool>,
}

impl Teller {
    fn tell(&self, event: notify::Result<Event>) {
        let is_lost = match event {
            Ok(event) if event.need_rescan() => true,
            Ok(event) => news(&self.root, &event).into_iter().any(|n| self.to.try_send(n).is_err()),
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
