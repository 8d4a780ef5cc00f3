//! What a sandbox is to be, before any runtime is chosen.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::ids::{GroupFolder, shown};

/// A path of the host that is visible inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path on the host.
    pub host: PathBuf,
    /// Absolute path inside.
    pub inside: PathBuf,
    /// Whether the agent may change it.
    pub writable: bool,
}

/// What of the network is reachable from inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// All that the host reaches.
    Full,
    /// Nothing but the credential proxy's socket, which is a mount.
    ProxyOnly,
}

/// What one sandbox may use up. Not every runtime can cap all of it: [`super::Engine::uncapped`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Memory, swap included.
    pub memory_mib: u32,
    /// Processors; 1.5 is one and a half.
    pub cpus: f32,
    /// Processes and threads.
    pub pids: u32,
    /// Open files of one process.
    pub open_files: u32,
}

impl Default for Limits {
    /// Roomy for the Claude Code CLI (310 MB at its peak) with a browser or a compiler beside it.
    fn default() -> Limits {
        Limits { memory_mib: 2048, cpus: 2.0, pids: 512, open_files: 4096 }
    }
}

impl Limits {
    /// Size of each of the sandbox's own temporary file systems, which live in memory.
    pub(super) fn tmpfs_mib(&self) -> u32 {
        (self.memory_mib / 4).max(16)
    }
}

/// One sandbox.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// Name of the container: `rust-claw-{folder}-{id}`, unique on the machine.
    pub name: String,
    /// Label that says which home the container belongs to: 16 hexadecimal digits.
    pub home_label: String,
    /// The group.
    pub folder: GroupFolder,
    /// What is visible inside, a folder before what lies over it.
    pub mounts: Vec<Mount>,
    /// Environment inside. Everybody who may ask the engine sees it: no secrets.
    pub env: Vec<(String, String)>,
    /// What it may use up.
    pub limits: Limits,
    /// What it may reach.
    pub network: Network,
    /// Image, where the runtime has images.
    pub image: String,
    /// `claw-agent-runner` on the host, for bwrap; an image brings its own.
    pub program: PathBuf,
    /// The Claude Code CLI on the host, for bwrap.
    pub claude: Option<PathBuf>,
    /// Folder with the `passwd` and `group` of [`super::write_identity`], for bwrap.
    pub identity: Option<PathBuf>,
}

/// Why a [`SandboxSpec`] is not handed to any runtime: with it, text would turn into options.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}` of a sandbox is refused: {rule}")]
pub struct UnsafeSpec {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl SandboxSpec {
    /// Refuses what a runtime could take for something else than a value. The mounts module
    /// refuses such paths earlier and kinder; this is the last gate.
    ///
    /// # Errors
    /// [`UnsafeSpec`].
    pub fn check(&self) -> Result<(), UnsafeSpec> {
        let refused = |what, text: &OsStr, rule| {
            Err(UnsafeSpec { what, text: shown(&text.to_string_lossy()), rule })
        };
        let word = |text: &str, extra: &[u8]| {
            text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
        };
        if !word(&self.name, b"_.-") {
            return refused("name", self.name.as_ref(), "letters, digits, `_`, `.` and `-`");
        }
        if !word(&self.home_label, b"") {
            return refused("label", self.home_label.as_ref(), "letters and digits");
        }
        if !word(&self.image, b"_.-/:@") {
            return refused("image", self.image.as_ref(), "letters, digits and `_.-/:@`");
        }
        for (key, value) in &self.env {
            if !word(key, b"_") || value.contains('\0') {
                return refused("variable", key.as_ref(), "letters, digits and `_`; no NUL");
            }
        }
        let paths = self.mounts.iter().flat_map(|mount| [&mount.host, &mount.inside]);
        for path in paths.chain([&self.program]).chain(&self.claude).chain(&self.identity) {
            if !is_plain(path) {
                return refused(
                    "path",
                    path.as_os_str(),
                    "absolute, without `..`, `,`, `:`, `\"` and control characters",
                );
            }
        }
        Ok(())
    }
}

/// Whether `path` means itself in every option syntax: `--mount` is a line of CSV, `-v` splits at
/// colons.
fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && !path.components().any(|part| part == Component::ParentDir)
        && !path
            .as_os_str()
            .as_bytes()
            .iter()
            .any(|byte| byte.is_ascii_control() || matches!(byte, b',' | b':' | b'"'))
}

/// A program that makes sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Docker Engine, or what speaks its command line.
    Docker,
    /// Podman, with or without root.
    Podman,
    /// Apple's `container`.
    Apple,
    /// bubblewrap: no image, no daemon, Linux only.
    Bwrap,
}

impl RuntimeKind {
    /// In the order in which they are tried.
    pub const ALL: [RuntimeKind; 4] =
        [RuntimeKind::Docker, RuntimeKind::Podman, RuntimeKind::Apple, RuntimeKind::Bwrap];

    /// As in `CONTAINER_RUNTIME`; also the name of its program.
    pub fn as_str(self) -> &'static str {
        match self {
            RuntimeKind::Docker => "docker",
            RuntimeKind::Podman => "podman",
            RuntimeKind::Apple => "container",
            RuntimeKind::Bwrap => "bwrap",
        }
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `CONTAINER_RUNTIME`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// The first that answers.
    #[default]
    Auto,
    /// This one and no other.
    One(RuntimeKind),
}

impl FromStr for RuntimeChoice {
    type Err = ();

    fn from_str(text: &str) -> Result<RuntimeChoice, ()> {
        if text == "auto" {
            return Ok(RuntimeChoice::Auto);
        }
        let found = RuntimeKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.map(RuntimeChoice::One).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::fakes::spec;

    #[test]
    fn h56_text_that_could_become_an_option_is_refused() {
        assert_eq!(Ok(()), spec().check());
        let path = |text: &str| {
            let mut spec = spec();
            spec.mounts[0].host = PathBuf::from(text);
            spec.check().is_ok()
        };
        assert!(path("/home/a b/ünï code/$(x)"));
        for bad in
            ["relative", "/a,readonly=false", "/a:/b", "/a\n/b", "/a\"b", "/a/../b", "/a\u{7f}"]
        {
            assert!(!path(bad), "{bad:?}");
        }
        let refused = |change: fn(&mut SandboxSpec)| {
            let mut spec = spec();
            change(&mut spec);
            spec.check().is_err()
        };
        assert!(refused(|s| s.name = "--privileged".into()));
        assert!(refused(|s| s.name = String::new()));
        assert!(refused(|s| s.home_label = "a,b".into()));
        assert!(refused(|s| s.image = "--volume=/:/host".into()));
        assert!(refused(|s| s.env.push(("A=B".into(), "c".into()))));
        assert!(refused(|s| s.env.push(("A".into(), "\0".into()))));
        assert!(refused(|s| s.mounts[0].inside = "/x,y".into()));
        assert!(refused(|s| s.program = "../runner".into()));
        assert!(refused(|s| s.claude = Some("/a\r".into())));
    }

    #[test]
    fn choices_are_words() {
        assert_eq!(Ok(RuntimeChoice::Auto), "auto".parse());
        assert_eq!(Ok(RuntimeChoice::One(RuntimeKind::Apple)), "container".parse());
        assert_eq!(Err(()), "Docker".parse::<RuntimeChoice>());
        assert_eq!(Err(()), "".parse::<RuntimeChoice>());
    }
}
