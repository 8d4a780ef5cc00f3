//! Every path under the home folder; makes the folders, and locks the home.
//!
//! `groups/{folder}`, `groups/global`, `data/sessions/{folder}` and `data/ipc/{folder}` can be
//! written from inside a sandbox: what is done below them goes through [`crate::boundary`].

mod lock;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

pub use lock::{Lock, LockError, Purpose};

use crate::boundary::{Dir, Rejected};
use crate::ids::GroupFolder;
use crate::sandbox::mounts::{self, GroupPaths};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Memory of a group, or of all groups.
const MEMORY: &str = "CLAUDE.md";
const MAIN_MEMORY: &str = include_str!("../container/memory/main.md");
const GROUP_MEMORY: &str = include_str!("../container/memory/group.md");
const GLOBAL_MEMORY: &str = include_str!("../container/memory/global.md");

/// What agents can look up, by path below the folder of the skills.
const SKILLS: [(&str, &str); 3] = [
    ("agent-browser/SKILL.md", include_str!("../container/skills/agent-browser/SKILL.md")),
    (
        "agent-browser/references/commands.md",
        include_str!("../container/skills/agent-browser/references/commands.md"),
    ),
    (
        "whatsapp-formatting/SKILL.md",
        include_str!("../container/skills/whatsapp-formatting/SKILL.md"),
    ),
];

/// Why the home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Nobody says where it is.
    #[error("no home folder: use `--home DIR`, or set RUST_CLAW_HOME or HOME")]
    Unknown,
    /// Others could put their own files there.
    #[error(
        "home `{}` can be written by others: run `chmod go-w {}`", path.display(), path.display()
    )]
    OpenToOthers {
        /// The home.
        path: PathBuf,
    },
    /// It is somebody else's.
    #[error("home `{}` belongs to user {owner}: use a folder of your own", path.display())]
    NotOurs {
        /// The home.
        path: PathBuf,
        /// The user's number.
        owner: u32,
    },
    /// A folder cannot be made or looked at.
    #[error("cannot make folder `{}`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder that a sandbox can write holds something unexpected.
    #[error("cannot prepare `{}`", path.display())]
    Rejected {
        /// The folder.
        path: PathBuf,
        /// What is wrong there.
        source: Rejected,
    },
}

/// The home folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home at `root`.
    pub fn at(root: &Path) -> Home {
        Home { root: root.to_owned() }
    }

    /// The home at `flag`, else at `$RUST_CLAW_HOME`, else at `~/.rust-claw`.
    ///
    /// # Errors
    /// [`HomeError::Unknown`].
    pub fn resolve(flag: Option<&Path>) -> Result<Home, HomeError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let root = flag
            .map(Path::to_owned)
            .or_else(|| variable("RUST_CLAW_HOME").map(PathBuf::from))
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".rust-claw")))
            .ok_or(HomeError::Unknown)?;
        let source = |source| HomeError::Folder { path: root.clone(), source };
        Ok(Home { root: std::path::absolute(&root).map_err(source)? })
    }

    /// Makes what is missing: folders with mode 0700, and the memory shared by all groups. What
    /// is there stays as it is.
    ///
    /// # Errors
    /// [`HomeError`]: others can write to it, or it cannot be made.
    pub fn create(&self) -> Result<(), HomeError> {
        make(&self.root)?;
        let found = fs::metadata(&self.root)
            .map_err(|source| HomeError::Folder { path: self.root.clone(), source })?;
        let path = self.root.clone();
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(HomeError::NotOurs { path, owner: found.uid() });
        }
        if found.mode() & 0o022 != 0 {
            return Err(HomeError::OpenToOthers { path });
        }
        if found.mode() & 0o055 != 0 {
            log::warn!("home `{0}` can be read by others: run `chmod 700 {0}`", path.display());
        }
        for path in [
            self.bells(),
            self.groups(),
            self.sessions(),
            self.ipc_errors(),
            self.root.join("logs"),
        ] {
            make(&path)?;
        }
        self.write_global_memory().map_err(self.rejected("groups/global"))
    }

    /// Makes the folders of a group with the places for what is mounted over them, and its memory
    /// from the template. What is there stays as it is.
    ///
    /// # Errors
    /// [`HomeError::Rejected`]: something else is in their place.
    pub fn create_group_folders(
        &self,
        folder: &GroupFolder,
        name: &str,
        assistant_name: &str,
        is_main: bool,
    ) -> Result<(), HomeError> {
        let template = if is_main { MAIN_MEMORY } else { GROUP_MEMORY };
        // The group's name last: it may hold anything.
        let memory =
            template.replace("{{ASSISTANT_NAME}}", assistant_name).replace("{{GROUP_NAME}}", name);
        self.write_group_folders(folder, &memory)
            .and_then(|()| mounts::prepare(&self.group_paths(folder)))
            .map_err(self.rejected(folder.as_str()))
    }

    /// Writes the files of the host's that lie in sandboxes, read-only.
    ///
    /// # Errors
    /// [`HomeError::Folder`].
    pub fn write_shared_files(&self) -> Result<(), HomeError> {
        let failed = |path: PathBuf| |source| HomeError::Folder { path, source };
        let identity = self.identity();
        fs::create_dir_all(&identity).map_err(failed(identity.clone()))?;
        crate::sandbox::write_identity(&identity).map_err(failed(identity.clone()))?;
        for (below, text) in SKILLS {
            let path = self.skills().join(below);
            let folder = path.parent().unwrap_or(&path);
            fs::create_dir_all(folder).map_err(failed(folder.to_owned()))?;
            fs::write(&path, text).map_err(failed(path.clone()))?;
        }
        let settings = self.claude_settings();
        fs::write(&settings, "{}\n").map_err(failed(settings.clone()))
    }

    /// Where a group's folders are.
    pub fn group_paths(&self, folder: &GroupFolder) -> GroupPaths {
        GroupPaths {
            group: self.group(folder),
            logs: self.group_logs(folder),
            global: self.global(),
            ipc: self.ipc(folder),
            claude_config: self.claude_config(folder),
            skills: Some(self.skills()),
            settings: Some(self.claude_settings()),
            groups_root: self.groups(),
        }
    }

    /// The home folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Settings and secrets.
    pub fn env_file(&self) -> PathBuf {
        self.root.join(".env")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("store/messages.db")
    }

    /// `WhatsApp`'s device, keys and sessions.
    pub fn whatsapp_database(&self) -> PathBuf {
        self.root.join("store/whatsapp.db")
    }

    /// The FIFOs of [`crate::doorbell`].
    pub fn bells(&self) -> PathBuf {
        self.root.join("store/bells")
    }

    /// Parent of all groups' folders; itself host only.
    pub fn groups(&self) -> PathBuf {
        self.root.join("groups")
    }

    /// Folder of a group. A sandbox can write it.
    pub fn group(&self, folder: &GroupFolder) -> PathBuf {
        self.groups().join(folder.as_str())
    }

    /// Folder shared by all groups. Main's sandbox can write it.
    pub fn global(&self) -> PathBuf {
        self.groups().join("global")
    }

    /// Logs of a group's runs.
    pub fn group_logs(&self, folder: &GroupFolder) -> PathBuf {
        self.group(folder).join("logs")
    }

    /// Parent of [`Home::claude_config`]'s parents; itself host only.
    pub fn sessions(&self) -> PathBuf {
        self.root.join("data/sessions")
    }

    /// A group's folder of the Claude Code CLI. A sandbox can write it.
    pub fn claude_config(&self, folder: &GroupFolder) -> PathBuf {
        self.sessions().join(folder.as_str()).join(".claude")
    }

    /// Parent of all groups' IPC folders; itself host only.
    pub fn ipc_all(&self) -> PathBuf {
        self.root.join("data/ipc")
    }

    /// A group's IPC folder. A sandbox can write it.
    pub fn ipc(&self, folder: &GroupFolder) -> PathBuf {
        self.ipc_all().join(folder.as_str())
    }

    /// Quarantine of unusable requests; host only.
    pub fn ipc_errors(&self) -> PathBuf {
        self.ipc_all().join("errors")
    }

    /// Directory of the credential proxy's socket; mounted read-only into every sandbox.
    pub fn proxy(&self) -> PathBuf {
        self.root.join("data/proxy")
    }

    /// What stands in every sandbox as the settings of the Claude Code CLI, read-only.
    pub fn claude_settings(&self) -> PathBuf {
        self.root.join("data/claude-settings.json")
    }

    /// What lies in every sandbox as skills of the Claude Code CLI, read-only. Ours are written at
    /// each start; others that a person puts there stay.
    pub fn skills(&self) -> PathBuf {
        self.root.join("data/skills")
    }

    /// `passwd` and `group` of the user inside a bubblewrap.
    pub fn identity(&self) -> PathBuf {
        self.root.join("data/identity")
    }

    /// Lines typed in `chat`.
    pub fn chat_history(&self) -> PathBuf {
        self.root.join("store/chat-history")
    }

    /// Log of the program.
    pub fn log_file(&self) -> PathBuf {
        self.root.join("logs/rust-claw.log")
    }

    /// Tells this home's containers from others': 16 hexadecimal digits, the FNV-1a hash of the
    /// path with all links resolved.
    pub fn label(&self) -> String {
        let path = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        let hash = path.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{hash:016x}")
    }

    fn write_global_memory(&self) -> Result<(), Rejected> {
        let global = Dir::open(&self.groups())?.create_sub("global", FOLDER_MODE)?;
        write_unless_there(&global, GLOBAL_MEMORY)
    }

    fn write_group_folders(&self, folder: &GroupFolder, memory: &str) -> Result<(), Rejected> {
        let group = Dir::open(&self.groups())?.create_sub(folder.as_str(), FOLDER_MODE)?;
        group.ensure_sub("logs", FOLDER_MODE)?;
        write_unless_there(&group, memory)?;
        let session = Dir::open(&self.sessions())?.create_sub(folder.as_str(), FOLDER_MODE)?;
        session.ensure_sub(".claude", FOLDER_MODE)?;
        let ipc = Dir::open(&self.ipc_all())?.create_sub(folder.as_str(), FOLDER_MODE)?;
        for name in ["messages", "tasks", "input", "responses"] {
            ipc.ensure_sub(name, FOLDER_MODE)?;
        }
        Ok(())
    }

    fn rejected(&self, what: &str) -> impl FnOnce(Rejected) -> HomeError {
        let path = self.root.join(what);
        move |source| HomeError::Rejected { path, source }
    }
}

fn make(path: &Path) -> Result<(), HomeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)
        .map_err(|source| HomeError::Folder { path: path.to_owned(), source })
}

fn write_unless_there(dir: &Dir, memory: &str) -> Result<(), Rejected> {
    if dir.kind(MEMORY).is_ok() {
        return Ok(());
    }
    match dir.write_new(MEMORY, memory.as_bytes(), FILE_MODE) {
        // Whatever it is: it is the group's.
        Ok(()) | Err(Rejected::Exists { .. }) => Ok(()),
        Err(rejected) => Err(rejected),
    }
}

#[cfg(test)]
mod tests;
