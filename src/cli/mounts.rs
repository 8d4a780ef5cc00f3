//! What of the host each group's agent sees, and the folders that a person adds to it.

use std::io::Read;
use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};
use rust_claw_protocol::inside;

use super::{Error, group_config, out};
use crate::agent;
use crate::config::{CredentialsChoice, Settings};
use crate::doctor;
use crate::home::Home;
use crate::ids::shown;
use crate::sandbox::allowlist::{Allowlist, Unusable};
use crate::sandbox::{Mount, mounts};
use crate::store::{AdditionalMount, Group};

/// Show what of the host each group's agent sees, and which additional mounts are refused and why.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "check-mounts")]
pub(super) struct CheckCommand {
    /// folder of one group (default: all groups)
    #[argh(option)]
    group: Option<String>,
}

impl CheckCommand {
    /// # Errors
    /// An additional mount is refused; no such group; the database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let settings = super::settings(home)?;
        let store = super::store_with_main(home)?;
        let groups = match &self.group {
            Some(folder) => vec![group_config::group(&store, folder)?],
            None => store.groups()?.0,
        };
        let heads = ["group", "verdict", "access", "on the host", "in the sandbox"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        let mut complaints = Vec::new();
        for group in &groups {
            for mount in base(home, &settings, group) {
                rows.push(row(group, "allowed", &mount));
            }
            let asked = &group.config.additional_mounts;
            let judged = judge(home, &settings, group, asked);
            for (asked, judged) in asked.iter().zip(judged) {
                match judged {
                    Ok(allowed) => {
                        let mut row = row(group, "allowed", &allowed.mount);
                        row.extend(allowed.read_only_because.map(|why| format!("({why})")));
                        rows.push(row);
                    }
                    Err(refused) => {
                        let host = out::harmless(&asked.host_path);
                        let cells = [group.folder.as_str(), "refused", "none", &host, "nowhere"];
                        rows.push(cells.map(str::to_owned).to_vec());
                        complaints.push(format!("{}: {refused}", group.folder));
                    }
                }
            }
        }
        out::table(&rows).iter().try_for_each(|row| out::line(row))?;
        match complaints.as_slice() {
            [] => Ok(()),
            refused => Err(Error::Refused(format!("refused: {}", refused.join("; ")))),
        }
    }
}

fn row(group: &Group, verdict: &str, mount: &Mount) -> Vec<String> {
    let access = if mount.writable { "writable" } else { "read-only" };
    let path = |path: &std::path::Path| out::harmless(&path.to_string_lossy());
    let (host, inside) = (path(&mount.host), path(&mount.inside));
    [group.folder.as_str(), verdict, access, &host, &inside].map(str::to_owned).to_vec()
}

/// What every sandbox of the group sees without being asked.
fn base(home: &Home, settings: &Settings, group: &Group) -> Vec<Mount> {
    let paths = home.group_paths(&group.folder);
    let mut base = mounts::mounts(&paths, group.is_main, []);
    if settings.credentials == CredentialsChoice::Proxy && settings.credential().is_some() {
        let inside = PathBuf::from(inside::PROXY_DIR);
        base.push(Mount { host: home.proxy(), inside, writable: false });
    }
    base
}

fn judge(
    home: &Home,
    settings: &Settings,
    group: &Group,
    asked: &[AdditionalMount],
) -> Vec<Result<mounts::Allowed, mounts::Refused>> {
    agent::judge_mounts(home, &agent::runner(settings), asked, group.is_main)
}

/// Add folders of the host to what a group's agent sees, under /workspace/extra. They must be
/// allowed in ~/.config/rust-claw/mount-allowlist.json.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "set-mounts")]
pub(super) struct SetCommand {
    /// folder of the group
    #[argh(option)]
    group: String,
    /// a folder or file of the host: absolute, or starting with ~/
    #[argh(option, arg_name = "path")]
    add: Option<String>,
    /// with --add: its name under /workspace/extra (default: the last part of the path)
    #[argh(option, arg_name = "name")]
    at: Option<String>,
    /// with --add: the agent may write there too, if the allowlist lets it
    #[argh(switch)]
    writable: bool,
    /// replace the whole list by a JSON array of {"hostPath", "containerPath"?, "readonly"?}, read
    /// from this file, or from standard input where it is -
    #[argh(option, arg_name = "file")]
    json: Option<String>,
    /// remove all additional mounts
    #[argh(switch)]
    clear: bool,
}

impl SetCommand {
    /// # Errors
    /// A mount that is refused: then nothing changes. No such group; the database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let settings = super::settings(home)?;
        let mut store = super::store_with_main(home)?;
        let mut group = group_config::group(&store, &self.group)?;
        let mounts = &mut group.config.additional_mounts;
        let options_of_add = self.at.is_some() || self.writable;
        // Those that were there are not judged again: their folder may be away today.
        let kept = match (&self.add, &self.json, self.clear) {
            (Some(path), None, false) => {
                mounts.push(AdditionalMount {
                    host_path: path.clone(),
                    container_path: self.at.clone(),
                    readonly: !self.writable,
                });
                mounts.len() - 1
            }
            (None, Some(file), false) if !options_of_add => {
                *mounts = parse(file)?;
                0
            }
            (None, None, true) if !options_of_add => {
                mounts.clear();
                0
            }
            _ => {
                return Err(Error::Refused(
                    "give one of --add PATH (with --at NAME, --writable), --json FILE, --clear"
                        .to_owned(),
                ));
            }
        };
        if MOUNTS_MAX < mounts.len() {
            return Err(Error::Refused(format!("mounts: at most {MOUNTS_MAX} for a group")));
        }
        let judged = judge(home, &settings, &group, &group.config.additional_mounts);
        let mut new = judged.iter().skip(kept);
        if let Some(refused) = new.find_map(|judged| judged.as_ref().err()) {
            let next = first_allowlist(&group).map(|command| format!("; {command}"));
            let next = next.unwrap_or_default();
            return Err(Error::Refused(format!("mount: {refused}; nothing was changed{next}")));
        }
        for why in judged.iter().skip(kept).flatten().filter_map(|ok| ok.read_only_because) {
            out::say(&format!("it will be read-only: {why}"));
        }
        group_config::save(home, &mut store, &group)?;
        let count = group.config.additional_mounts.len();
        out::line(&format!("group {} has {count} additional mounts, {NEXT}", group.folder))
    }
}

/// The command that makes the allowlist with what the group wants, if that is what is missing.
fn first_allowlist(group: &Group) -> Option<String> {
    match Allowlist::load(&std::env::home_dir()?) {
        Err(Unusable::Missing { path }) => {
            let mounts: Vec<_> = group.config.additional_mounts.iter().collect();
            Some(doctor::allow_command(&path, &mounts))
        }
        _ => None,
    }
}

/// An engine takes each as an argument.
const MOUNTS_MAX: usize = 64;
/// When a change of a group's sandbox counts.
pub(super) const NEXT: &str = "from its next sandbox on";

fn parse(file: &str) -> Result<Vec<AdditionalMount>, Error> {
    let failed = |what: &dyn std::fmt::Display| {
        Error::Refused(format!(
            "--json `{}`: {what}; allowed: an array of {{\"hostPath\", \"containerPath\"?, \
             \"readonly\"?}}",
            shown(file)
        ))
    };
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().take(JSON_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file)
            .and_then(|file| file.take(JSON_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| failed(&error))?;
    serde_json::from_str(&text).map_err(|error| failed(&error))
}

/// Of a list of mounts.
const JSON_BYTES_MAX: u64 = 1024 * 1024;
