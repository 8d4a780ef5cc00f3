//! What of somebody else's groups can be ours: every name and number checked.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Report;
use super::state::{OldGroup, State};
use crate::ids::{ChatJid, GroupFolder, UnixMs, shown};
use crate::store::{AdditionalMount, ContainerConfig, NewGroup};

/// Characters of a group's name and of its trigger; see `store::register`.
const NAME_CHARS_MAX: usize = 100;
const SESSION_BYTES_MAX: usize = 128;

/// Groups that come over.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// With when each was added, main first.
    pub(super) groups: Vec<(NewGroup, UnixMs)>,
    /// Their folders, each once.
    pub(super) folders: BTreeSet<GroupFolder>,
    /// The sessions that their next runs continue.
    pub(super) sessions: Vec<(GroupFolder, String)>,
}

impl Plan {
    pub(super) fn new(
        state: &State,
        assistant_name: &str,
        now: UnixMs,
        report: &mut Report,
    ) -> Plan {
        let mut plan = Plan::default();
        let mut folders: BTreeMap<String, GroupFolder> = BTreeMap::new();
        for (jid, old) in &state.groups {
            match group(jid, old, assistant_name, report) {
                Err(why) => report.of("groups").stay(&why),
                Ok(mut new) => {
                    let known = folders.get(&new.folder.as_str().to_ascii_lowercase());
                    if known.is_some_and(|known| *known != new.folder) {
                        report.of("groups").stay(&format!(
                            "folder `{}` differs from another only in case",
                            new.folder
                        ));
                        continue;
                    }
                    new.attach = known.is_some();
                    folders.insert(new.folder.as_str().to_ascii_lowercase(), new.folder.clone());
                    plan.folders.insert(new.folder.clone());
                    plan.groups.push((new, time(&old.added_at).unwrap_or(now)));
                    report.of("groups").came += 1;
                }
            }
        }
        plan.groups.sort_by_key(|(group, _)| !group.is_main);
        for (folder, id) in &state.sessions {
            match GroupFolder::new(folder) {
                Ok(folder) if !plan.folders.contains(&folder) => {
                    report.of("sessions").stay(&format!("no group has folder `{folder}`"));
                }
                Ok(folder) if is_session(id) => {
                    plan.sessions.push((folder, id.clone()));
                    report.of("sessions").came += 1;
                }
                Ok(_) => report.of("sessions").stay("its id is none"),
                Err(invalid) => report.of("sessions").stay(&invalid.to_string()),
            }
        }
        plan
    }
}

fn group(
    jid: &str,
    old: &OldGroup,
    assistant_name: &str,
    report: &mut Report,
) -> Result<NewGroup, String> {
    let jid = chat(jid)?;
    let folder = GroupFolder::new(&old.folder).map_err(|invalid| invalid.to_string())?;
    let is_main = folder == GroupFolder::main();
    let trigger_name = old.trigger.trim().trim_start_matches('@').trim();
    let is_own = trigger_name.to_lowercase() == assistant_name.to_lowercase();
    let trigger_name = (!is_own && !trigger_name.is_empty()).then(|| one_line(trigger_name));
    if let Some(name) = &trigger_name {
        let text = format!("{folder} is woken by its own `@{name}`, which NanoClaw ignored");
        report.of("groups").say(&text);
    }
    let name = one_line(&old.name);
    Ok(NewGroup {
        jid,
        name: if name.is_empty() { folder.to_string() } else { name },
        trigger_name,
        requires_trigger: !is_main && old.requires_trigger != Some(false),
        is_main,
        attach: false,
        config: config(&folder, old.container_config.as_ref(), report),
        folder,
    })
}

/// What its sandbox has beside its own: mounts and bound of a turn, as far as they can be ours.
fn config(
    folder: &GroupFolder,
    old: Option<&serde_json::Value>,
    report: &mut Report,
) -> ContainerConfig {
    let mut config = ContainerConfig::default();
    let Some(old) = old.and_then(serde_json::Value::as_object) else { return config };
    for (name, value) in old {
        match name.as_str() {
            "additionalMounts" => {
                for mount in value.as_array().into_iter().flatten() {
                    match serde_json::from_value::<AdditionalMount>(mount.clone()) {
                        Ok(mount) => {
                            config.additional_mounts.push(mount);
                            report.of("mounts").came += 1;
                        }
                        Err(error) => report.of("mounts").stay(&format!("{folder}: {error}")),
                    }
                }
            }
            "timeout" => {
                let ms = value.as_u64().filter(|ms| crate::config::TIMEOUT_MS.contains(ms));
                config.timeout_ms = ms;
                if ms.is_none() {
                    report.of("groups").say(&format!("{folder}: its `timeout` cannot be used"));
                }
            }
            other => {
                let text = format!("{folder}: `{}` is not known here", shown(other));
                report.of("groups").say(&text);
            }
        }
    }
    config
}

/// A chat that is `WhatsApp`'s.
pub(super) fn chat(jid: &str) -> Result<ChatJid, String> {
    match ChatJid::new(jid) {
        Ok(jid) if jid.channel() == crate::ids::ChannelKind::Whatsapp => Ok(jid),
        _ => Err("not a chat of WhatsApp".to_owned()),
    }
}

/// ISO 8601 as JavaScript writes it.
pub(super) fn time(text: &str) -> Option<UnixMs> {
    let at = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    Some(UnixMs(at.timestamp_millis())).filter(|at| 0 <= at.0)
}

fn one_line(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    text.trim().to_owned()
}

/// It goes into argument lists and file names.
fn is_session(id: &str) -> bool {
    (1..=SESSION_BYTES_MAX).contains(&id.len())
        && !id.starts_with('-')
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
