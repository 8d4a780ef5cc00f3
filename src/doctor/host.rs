//! The home folder and what is in it, the clock, the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{allow_command, word};
use super::{Line, Scene};
use crate::agent::judge_mounts;
use crate::channel::linked_number;
use crate::config::ConfigError;
use crate::ids::GroupFolder;
use crate::sandbox::allowlist::{Allowlist, Unusable};
use crate::sandbox::find_program;
use crate::store::{Error, Integrity, Store};

/// How long the database is looked through.
const INTEGRITY_CHECK_MAX: Duration = Duration::from_millis(1500);
/// Less than this, and a busy day may fill the disk.
const FREE_BYTES_WANTED: u64 = 1024 * 1024 * 1024;
/// Less than this, and the database may not take the next message.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// So far clocks may differ.
pub(super) const CLOCK_SKEW_MAX: Duration = Duration::from_mins(5);
/// Sets the clock by the network's.
pub(super) const MEND_CLOCK: &str = if cfg!(target_os = "macos") {
    "sudo sntp -sS time.apple.com"
} else {
    "sudo timedatectl set-ntp true"
};

/// Whose the folder is, and who else may look into it.
pub(super) fn home(scene: &Scene<'_>) -> Vec<Line> {
    const ABOUT: &str = "home";
    let root = scene.home.root();
    let shown = word(root);
    let Ok(found) = fs::metadata(root) else {
        return vec![Line::bad(
            ABOUT,
            format!("there is no {shown} yet"),
            scene.own("setup --yes"),
        )];
    };
    if !found.is_dir() {
        let says = format!("{shown} is not a folder");
        return vec![Line::bad(ABOUT, says, format!("mv {shown} {shown}.old"))];
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        let says = format!("{shown} belongs to user {}, and you are another", found.uid());
        return vec![Line::bad(ABOUT, says, format!("sudo chown -R \"$(id -un)\" {shown}"))];
    }
    let database = scene.home.database();
    let private = [root.to_owned(), scene.home.env_file(), database.with_file_name("whatsapp.db")];
    let store = database.parent().map(Path::to_owned);
    let open: Vec<String> = private
        .into_iter()
        .chain(store)
        .chain([database])
        .filter(|path| fs::metadata(path).is_ok_and(|found| found.mode() & 0o077 != 0))
        .map(|path| word(&path))
        .collect();
    if open.is_empty() {
        return vec![Line::good(ABOUT, format!("{shown}, yours alone"))];
    }
    let says = format!("other users can look into {}", open.join(", "));
    vec![Line::bad(ABOUT, says, format!("chmod go-rwx {}", open.join(" ")))]
}

/// Whether `.env` and the environment can be used.
pub(super) fn settings(scene: &Scene<'_>) -> Vec<Line> {
    const ABOUT: &str = "settings";
    let file = word(&scene.home.env_file());
    let Err(error) = &scene.settings else {
        return vec![Line::good(ABOUT, "all values can be used")];
    };
    let mend = match error {
        ConfigError::Value { name, place, .. } if place == "environment" => format!("unset {name}"),
        // The default counts instead; sed(1) of both worlds takes `-i.bak`.
        ConfigError::Value { place, .. } => {
            let line = place.rsplit(':').next().unwrap_or_default();
            format!("sed -i.bak '{line}s/^/# /' {file}")
        }
        ConfigError::Unreadable { .. } | ConfigError::Unwritable { .. } => {
            format!("mv {file} {file}.unreadable")
        }
    };
    vec![Line::bad(ABOUT, crate::chain(error), mend)]
}

/// Whether the database is sound, and each row of it usable (hazard 61).
pub(super) fn database(scene: &Scene<'_>) -> Vec<Line> {
    const ABOUT: &str = "database";
    let path = scene.home.database();
    let Some(stored) = &scene.stored else {
        return vec![Line::remark(ABOUT, "there is none yet; the first start makes it", None)];
    };
    let folder = path.parent().map(word).unwrap_or_default();
    let set_aside =
        format!("mkdir -m 700 {folder}.damaged && mv {}* {folder}.damaged/", word(&path));
    let damaged = |what: &str| {
        let says =
            format!("{what}; set aside, it makes room for `rust-claw restore`, or for a new one");
        Line::bad(ABOUT, says, set_aside.clone())
    };
    let busy = |error: &Error| Line::remark(ABOUT, crate::chain(error), None);
    let stored = match stored {
        Ok(stored) => stored,
        Err(error @ Error::SchemaTooNew { .. }) => {
            return vec![Line::bad(ABOUT, crate::chain(error), "git pull && make install")];
        }
        Err(error) if error.is_damage() => return vec![damaged(&crate::chain(error))],
        Err(error) => return vec![busy(error)],
    };
    let mut lines =
        vec![match Store::open(&path).and_then(|store| store.check(INTEGRITY_CHECK_MAX)) {
            Ok(Integrity::Sound) => Line::good(ABOUT, "sound"),
            Ok(Integrity::SoundSoFar) => {
                Line::good(ABOUT, "large; what could be looked at in the time is sound")
            }
            Ok(Integrity::Damaged(what)) => damaged(&what),
            Err(error) if error.is_damage() => damaged(&crate::chain(&error)),
            Err(error) => busy(&error),
        }];
    for row in &stored.corrupt {
        let folder = GroupFolder::new(&row.key).ok().filter(|_| row.table == "groups");
        let says = format!("{row}; it is skipped");
        lines.push(match folder {
            Some(folder) if folder != GroupFolder::main() => {
                let mend = scene.own(&format!("unregister-group --folder {folder}"));
                Line::bad(ABOUT, says, mend)
            }
            _ => Line::remark(ABOUT, says, None),
        });
    }
    lines
}

/// Room for what comes.
pub(super) fn disk(scene: &Scene<'_>) -> Vec<Line> {
    const ABOUT: &str = "disk";
    let root = scene.home.root();
    let place = root.ancestors().find(|path| path.exists()).unwrap_or(root);
    let found = match rustix::fs::statvfs(place) {
        Ok(found) => found,
        Err(errno) => {
            return vec![Line::remark(ABOUT, format!("cannot be looked at: {errno}"), None)];
        }
    };
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    let says = format!("{} MB free", bytes / 1_000_000);
    let mend = format!("du -ah {} | sort -h | tail -n 20", word(root));
    vec![match bytes {
        0..FREE_BYTES_MIN => Line::bad(ABOUT, says, mend),
        FREE_BYTES_MIN..FREE_BYTES_WANTED => Line::remark(ABOUT, says, Some(mend)),
        _ if found.f_files != 0 && found.f_favail < 1000 => {
            Line::bad(ABOUT, "hardly a file can be made any more", mend)
        }
        _ => Line::good(ABOUT, says),
    }]
}

/// What was stored last cannot be of the future.
pub(super) fn clock(scene: &Scene<'_>) -> Vec<Line> {
    let newest = scene.stored.as_ref().and_then(|stored| stored.as_ref().ok()?.newest_message_at);
    let ahead = newest.map_or(Duration::ZERO, |newest| newest.since(scene.now));
    if ahead <= CLOCK_SKEW_MAX {
        return Vec::new();
    }
    let says = format!("it went back: the newest message is {} s ahead of it", ahead.as_secs());
    vec![Line::bad("clock", says, MEND_CLOCK)]
}

/// Whether schedules mean what people mean.
pub(super) fn zone(scene: &Scene<'_>) -> Vec<Line> {
    const ABOUT: &str = "zone";
    let Ok(settings) = &scene.settings else { return Vec::new() };
    let zone = settings.timezone.name();
    if settings.timezone == chrono_tz::Tz::UTC && iana_time_zone::get_timezone().is_err() {
        let says = "the system says none, so times are meant in UTC";
        return vec![Line::remark(ABOUT, says, Some(scene.own("setup zone")))];
    }
    vec![Line::good(ABOUT, zone)]
}

/// Whether the groups may mount what they want to.
pub(super) fn groups(scene: &Scene<'_>) -> Vec<Line> {
    const ABOUT: &str = "allowlist";
    let (Some(user_home), Some(Ok(stored))) = (&scene.user_home, &scene.stored) else {
        return Vec::new();
    };
    let wanting =
        || stored.groups.iter().filter(|group| !group.config.additional_mounts.is_empty());
    let Some(first) = wanting().next() else {
        return vec![Line::good(ABOUT, "no group wants to mount anything")];
    };
    let Err(unusable) = Allowlist::load(user_home) else {
        let runner = scene.settings.as_ref().map(crate::agent::runner).unwrap_or_default();
        let refused = |group: &&crate::store::Group| {
            judge_mounts(scene.home, &runner, &group.config.additional_mounts, group.is_main)
                .into_iter()
                .any(|judged| judged.is_err())
        };
        let refused: Vec<&str> =
            wanting().filter(refused).map(|group| group.folder.as_str()).collect();
        return vec![if refused.is_empty() {
            Line::good(ABOUT, "all mounts that groups want are allowed")
        } else {
            let says = format!("mounts are refused to {}", refused.join(", "));
            Line::remark(ABOUT, says, Some(scene.own("check-mounts")))
        }];
    };
    let broken = |path: &PathBuf| format!("mv {0} {0}.broken", word(path));
    let mend = match &unusable {
        Unusable::Missing { path } => {
            let wanted: Vec<_> =
                wanting().flat_map(|group| &group.config.additional_mounts).collect();
            allow_command(path, &wanted)
        }
        Unusable::WritableByOthers { path } => format!("chmod go-w {}", word(path)),
        Unusable::NotOurs { path } => format!("sudo chown \"$(id -un)\" {}", word(path)),
        Unusable::NotAFile { path }
        | Unusable::Unreadable { path, .. }
        | Unusable::Malformed { path, .. } => broken(path),
    };
    let says = format!("{} gets no mounts: {}", first.folder, crate::chain(&unusable));
    vec![Line::bad(ABOUT, says, mend)]
}

/// How the link to `WhatsApp` stands, as the link itself last wrote.
pub(super) fn whatsapp(scene: &Scene<'_>) -> Vec<Line> {
    const ABOUT: &str = "whatsapp";
    if !cfg!(feature = "whatsapp") {
        return vec![Line::good(ABOUT, "this program was built without it")];
    }
    let stored = scene.stored.as_ref().and_then(|stored| stored.as_ref().ok());
    let link = stored.and_then(|stored| stored.whatsapp.clone()).unwrap_or_default();
    let word = |key: &str| link[key].as_str().map(crate::ids::shown);
    let state = word("state").unwrap_or_else(|| "unpaired".to_owned());
    let mut says = state.clone();
    for more in ["number", "reason", "act"].iter().filter_map(|key| word(key)) {
        says.push_str(", ");
        says.push_str(&more);
    }
    vec![match state.as_str() {
        "unpaired" | "off" if linked_number(&link).is_none() => {
            Line::remark(ABOUT, "not paired with a phone", Some(scene.own("pair")))
        }
        "needs-pairing" => Line::bad(ABOUT, says, scene.own("pair")),
        "replaced" | "banned" => Line::bad(ABOUT, says, scene.own("reconnect")),
        "outdated" => Line::bad(ABOUT, says, "git pull && make install"),
        "online" if scene.holder.is_some() => Line::good(ABOUT, says),
        _ => Line::remark(ABOUT, format!("{says}, when it was last looked at"), None),
    }]
}

/// Whether the person finds the program that is installed.
pub(super) fn path(scene: &Scene<'_>) -> Vec<Line> {
    const ABOUT: &str = "path";
    let ours = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let folder = ours.parent().map(word).unwrap_or_default();
    let add =
        format!("echo 'export PATH=\"{folder}:$PATH\"' >> ~/.profile").replace("\"~", "\"$HOME");
    vec![match find_program("rust-claw").and_then(|path| path.canonicalize().ok()) {
        Some(found) if found == ours => Line::good(ABOUT, "rust-claw is on it"),
        Some(found) => {
            let says = format!("`rust-claw` is another one than this: {}", word(&found));
            Line::remark(ABOUT, says, Some("make install".to_owned()))
        }
        None if scene.user_home.is_none() => Line::remark(ABOUT, "rust-claw is not on it", None),
        None => Line::remark(ABOUT, "rust-claw is not on it", Some(add)),
    }]
}
