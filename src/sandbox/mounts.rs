//! What of the host is visible inside a sandbox: the group's own folders, and what a person allows
//! beside them.
//!
//! Nothing here may make the home folder's `.env`, `store/` or `data/` of another group, the
//! program or the allowlist visible. Known limits: what lies *below* an allowed folder is mounted
//! with it, whatever its name; and who can write a mounted folder can, at the very moment of a
//! start, swap a folder in it that another mount names.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use rust_claw_protocol::inside;

use super::Mount;
use super::allowlist::{Allowlist, Unusable};
use crate::boundary::{Dir, Kind, Rejected};
use crate::ids::shown;
use crate::store::AdditionalMount;

/// Parts of a path that are never mounted, whatever the allowlist says. `NanoClaw`'s list.
///
/// A path is refused if its text contains one, in any case: `.env` stops `.env.local` and
/// `prod.env`, but `.environment` too. Such a folder has to be renamed to be mounted; to let one
/// key through would be worse.
const ALWAYS_BLOCKED: [&str; 17] = [
    ".ssh",
    ".gnupg",
    ".gpg",
    ".aws",
    ".azure",
    ".gcloud",
    ".kube",
    ".docker",
    "credentials",
    ".env",
    ".netrc",
    ".npmrc",
    ".pypirc",
    "id_rsa",
    "id_ed25519",
    "private_key",
    ".secret",
];

/// Where on the host a group's own folders are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPaths {
    /// The group's folder.
    pub group: PathBuf,
    /// Logs of its runs, in `group`.
    pub logs: PathBuf,
    /// Memory shared by all groups.
    pub global: PathBuf,
    /// Follow-ups, requests and responses of this group.
    pub ipc: PathBuf,
    /// Sessions of the Claude Code CLI.
    pub claude_config: PathBuf,
    /// Skills, if there are any.
    pub skills: Option<PathBuf>,
    /// The file with the settings of the Claude Code CLI, if there is one.
    pub settings: Option<PathBuf>,
    /// Parent of all groups' folders.
    pub groups_root: PathBuf,
}

/// What a group sees, a folder before what lies over it.
pub fn mounts(
    paths: &GroupPaths,
    is_main: bool,
    extra: impl IntoIterator<Item = Mount>,
) -> Vec<Mount> {
    let mount = |host: &Path, inside: &str, writable| Mount {
        host: host.to_owned(),
        inside: PathBuf::from(inside),
        writable,
    };
    let mut mounts = vec![
        mount(&paths.group, inside::GROUP, true),
        mount(&paths.logs, &format!("{}/{LOGS}", inside::GROUP), false),
        mount(&paths.global, inside::GLOBAL, is_main),
        mount(&paths.ipc, inside::IPC, true),
        mount(&paths.claude_config, inside::CLAUDE_CONFIG, true),
    ];
    for (host, name) in [(&paths.skills, SKILLS), (&paths.settings, SETTINGS)] {
        if let Some(host) = host {
            mounts.push(mount(host, &format!("{}/{name}", inside::CLAUDE_CONFIG), false));
        }
    }
    if is_main {
        mounts.push(mount(&paths.groups_root, inside::PROJECT, false));
    }
    mounts.extend(extra);
    mounts
}

const LOGS: &str = "logs";
const SKILLS: &str = "skills";
const SETTINGS: &str = "settings.json";

/// Makes the places over which the read-only mounts go, before every start.
///
/// They lie in trees that the agent writes. A link planted there (before we mounted over it, or in
/// a folder taken over from `NanoClaw`) would have an engine mount what it points to.
///
/// # Errors
/// [`Rejected`], where something else stands in such a place: the sandbox must not start.
pub fn prepare(paths: &GroupPaths) -> Result<(), Rejected> {
    Dir::open(&paths.group)?.ensure_sub(LOGS, 0o755)?;
    let config = Dir::open(&paths.claude_config)?;
    if paths.skills.is_some() {
        config.ensure_sub(SKILLS, 0o755)?;
    }
    if paths.settings.is_some() && !matches!(config.kind(SETTINGS), Ok(Kind::File)) {
        config.replace(SETTINGS, b"{}\n", 0o644)?;
    }
    Ok(())
}

/// By what additional mounts are judged.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// What was read just now.
    pub allowlist: &'a Result<Allowlist, Unusable>,
    /// What `~` stands for.
    pub user_home: &'a Path,
    /// Of what neither the thing itself nor anything in it nor around it is mounted: see
    /// [`protected`].
    pub protected: &'a [PathBuf],
    /// Whether the group is main.
    pub is_main: bool,
}

/// An additional mount that may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The mount; its path on the host has no links in it.
    pub mount: Mount,
    /// Why it is read-only although writing was asked for.
    pub read_only_because: Option<&'static str>,
}

/// An additional mount that may not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// What is wrong and, where it helps, what is allowed.
    pub reason: String,
}

/// What no mount may reach: the home folder, where allowlists are, and the folder of the program.
pub fn protected(home: &Path, user_home: &Path, program: Option<&Path>) -> Vec<PathBuf> {
    let [ours, theirs] = Allowlist::paths(user_home);
    let config_folders = [ours, theirs].into_iter().map(|mut path| {
        path.pop();
        path
    });
    config_folders
        .chain([home.to_owned()])
        .chain(program.and_then(Path::parent).map(Path::to_owned))
        .map(|path| real_path(&path))
        .collect()
}

/// Judges all additional mounts of a group, in order; of two that meet in one place inside, the
/// second is refused.
pub fn decide_all(asked: &[AdditionalMount], policy: Policy<'_>) -> Vec<Result<Allowed, Refused>> {
    let mut taken: Vec<PathBuf> = Vec::new();
    let decide_next = |extra| {
        let allowed = decide(extra, policy)?;
        let place = &allowed.mount.inside;
        // One inside the other would need a mount point made in the outer one's folder.
        if taken.iter().any(|other| other.starts_with(place) || place.starts_with(other)) {
            return Err(refused(format!("`{}` is taken by another mount", place.display())));
        }
        taken.push(place.clone());
        Ok(allowed)
    };
    asked.iter().map(decide_next).collect()
}

/// Judges one additional mount.
///
/// # Errors
/// [`Refused`], with what is to be said.
pub fn decide(extra: &AdditionalMount, policy: Policy<'_>) -> Result<Allowed, Refused> {
    let allowlist = policy.allowlist.as_ref().map_err(|unusable| {
        refused(format!("there are no additional mounts: {}", with_sources(unusable)))
    })?;
    check_plain(&extra.host_path)?;
    let asked = expanded(&extra.host_path, policy.user_home).ok_or_else(|| {
        refused(format!(
            "`{}` is not allowed: absolute or starting with `~/`, and without `..`",
            shown(&extra.host_path)
        ))
    })?;
    // Before the file system is asked: what is wrong in itself is wrong anywhere.
    let inside = inside_path(extra, &asked)?;

    let real = std::fs::canonicalize(&asked)
        .map_err(|error| refused(format!("cannot find `{}`: {error}", asked.display())))?;
    let real_text = real
        .to_str()
        .ok_or_else(|| refused(format!("`{}` is not UTF-8", shown(&real.to_string_lossy()))))?;
    check_plain(real_text)?;
    // The way that was asked for too: `~/.ssh` may be a link to a folder of another name.
    let texts = [asked.to_string_lossy().to_lowercase(), real_text.to_lowercase()];
    let patterns =
        ALWAYS_BLOCKED.into_iter().chain(allowlist.blocked_patterns.iter().map(String::as_str));
    for pattern in patterns {
        if texts.iter().any(|text| text.contains(&pattern.to_lowercase())) {
            return Err(refused(format!(
                "`{real_text}` matches the blocked pattern `{}`",
                shown(pattern)
            )));
        }
    }
    if let Some(protected) = policy
        .protected
        .iter()
        .find(|protected| protected.starts_with(&real) || real.starts_with(protected))
    {
        return Err(refused(format!(
            "`{real_text}` lies in or around `{}`, which no sandbox may see",
            protected.display()
        )));
    }

    let writable_by_root = writable_by_root(allowlist, policy.user_home, &real)
        .ok_or_else(|| refused(format!("`{real_text}` is under no allowed root")))?;
    let is_mountable =
        std::fs::metadata(&real).is_ok_and(|found| found.is_dir() || found.is_file());
    if !is_mountable {
        return Err(refused(format!("`{real_text}` is neither a folder nor a file")));
    }
    let read_only_because = if !writable_by_root {
        Some("its allowed root does not say `allowReadWrite`")
    } else if allowlist.non_main_read_only && !policy.is_main {
        Some("the allowlist says `nonMainReadOnly`")
    } else {
        None
    };
    let writable = !extra.readonly && read_only_because.is_none();
    let read_only_because = read_only_because.filter(|_| !extra.readonly);
    Ok(Allowed { mount: Mount { host: real, inside, writable }, read_only_because })
}

/// Whether the allowlist lets agents write `real`; nothing where it does not even let them see it.
///
/// Of roots in one another the innermost around `real` decides, and one inside `real` that may
/// only be read forbids writing all of it.
fn writable_by_root(allowlist: &Allowlist, user_home: &Path, real: &Path) -> Option<bool> {
    let roots = || {
        allowlist.allowed_roots.iter().filter_map(|root| {
            let path = std::fs::canonicalize(expanded(&root.path, user_home)?).ok()?;
            Some((path, root.allow_read_write))
        })
    };
    let (innermost, _) = roots()
        .filter(|(root, _)| real.starts_with(root))
        .max_by_key(|(root, _)| root.components().count())?;
    let mut deciding = roots().filter(|(root, _)| *root == innermost || root.starts_with(real));
    Some(deciding.all(|(_, allows_writing)| allows_writing))
}

/// The path inside, under [`inside::EXTRA`].
fn inside_path(extra: &AdditionalMount, asked: &Path) -> Result<PathBuf, Refused> {
    let name = match &extra.container_path {
        Some(path) => path.as_str(),
        None => asked.file_name().and_then(OsStr::to_str).ok_or_else(|| {
            refused(format!("`{}` has no name: give a containerPath", asked.display()))
        })?,
    };
    check_plain(name)?;
    let is_plain_part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    if name.len() > 1024 || !name.split('/').all(is_plain_part) {
        return Err(refused(format!(
            "containerPath `{}` is not allowed: relative to {}, without `.`, `..` and empty parts",
            shown(name),
            inside::EXTRA
        )));
    }
    Ok(Path::new(inside::EXTRA).join(name))
}

/// `text` as an absolute path, `~` being `user_home`.
fn expanded(text: &str, user_home: &Path) -> Option<PathBuf> {
    let path = match text.strip_prefix('~') {
        Some("") => user_home.to_owned(),
        Some(below) => user_home.join(below.strip_prefix('/')?.trim_start_matches('/')),
        None => PathBuf::from(text),
    };
    let goes_up = path.components().any(|part| part == Component::ParentDir);
    (path.is_absolute() && !goes_up).then_some(path)
}

/// Refuses what would end a field in an engine's `-v` or `--mount` argument.
fn check_plain(text: &str) -> Result<(), Refused> {
    if text.contains(|c: char| matches!(c, ':' | ',' | '"') || c.is_control()) {
        return Err(refused(format!(
            "`{}` is not allowed: no `:`, `,`, `\"` or control characters",
            shown(text)
        )));
    }
    Ok(())
}

/// `path` without links, as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    match (std::fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(real), _, _) => real,
        (Err(_), Some(parent), Some(name)) => real_path(parent).join(name),
        (Err(_), _, _) => path.to_owned(),
    }
}

fn refused(reason: String) -> Refused {
    Refused { reason }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
