//! What a person sets for one group: who may wake its agent, and what its sandbox may use.

use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

use super::{Error, mounts::NEXT, out};
use crate::doorbell::Doorbell;
use crate::home::Home;
use crate::ids::{GroupFolder, shown};
use crate::store::{ContainerConfig, Group, OtherSenders, RegisterError, Senders, Store};

/// The group with this folder.
///
/// # Errors
/// There is none; the name is none.
pub(super) fn group(store: &Store, folder: &str) -> Result<Group, Error> {
    let folder = GroupFolder::new(folder)?;
    store.group(&folder)?.ok_or_else(|| {
        Error::Refused(format!("there is no group {folder}; `rust-claw list-groups` shows them"))
    })
}

/// Keeps what a group sets.
///
/// # Errors
/// The group has gone; the database.
pub(super) fn save(home: &Home, store: &mut Store, group: &Group) -> Result<(), Error> {
    store.set_group_config(&group.folder, &group.config).map_err(|error| match error {
        RegisterError::Store(source) => Error::Store(source),
        refused => Error::Refused(crate::chain(&refused)),
    })?;
    Doorbell::ring(home);
    Ok(())
}

/// Say who of a group may wake its agent.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "set-senders")]
pub(super) struct SendersCommand {
    /// folder of the group
    #[argh(option)]
    group: String,
    /// who may: an address like 4915@s.whatsapp.net, what stands before its @, or a phone number;
    /// may be given several times, replaces the earlier list
    #[argh(option, arg_name = "sender")]
    allow: Vec<String>,
    /// what becomes of messages of the others: context (the agent sees them when somebody else
    /// wakes it) or drop (they are not stored)
    #[argh(option, arg_name = "context|drop")]
    others: Option<String>,
    /// everybody may, as at the beginning
    #[argh(switch)]
    everybody: bool,
}

impl SendersCommand {
    /// # Errors
    /// A sender or a word that is none: then nothing changes. No such group; the database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let mut store = super::store_with_main(home)?;
        let mut group = group(&store, &self.group)?;
        let others = match self.others.as_deref() {
            None => None,
            Some("context") => Some(OtherSenders::Context),
            Some("drop") => Some(OtherSenders::Drop),
            Some(word) => {
                let word = shown(word);
                return Err(Error::Refused(format!("--others `{word}`: allowed: context, drop")));
            }
        };
        let allow = self.allow.iter().map(|text| sender(text)).collect::<Result<Vec<_>, _>>()?;
        let before = group.config.senders.take();
        let senders = match (self.everybody, allow.is_empty(), before) {
            (true, true, _) if others.is_none() => None,
            (true, _, _) => {
                return Err(Error::Refused(
                    "--everybody goes with neither --allow nor --others".to_owned(),
                ));
            }
            (false, false, before) => {
                let before = before.map(|senders| senders.others).unwrap_or_default();
                Some(Senders { allow, others: others.unwrap_or(before) })
            }
            (false, true, Some(before)) if others.is_some() => {
                Some(Senders { others: others.unwrap_or(before.others), ..before })
            }
            (false, true, _) => {
                return Err(Error::Refused(
                    "give --allow SENDER (several times if need be) or --everybody".to_owned(),
                ));
            }
        };
        let told = match &senders {
            None => "everybody may wake the agent".to_owned(),
            Some(Senders { allow, others }) => {
                let others = match others {
                    OtherSenders::Context => "what others write is context",
                    OtherSenders::Drop => "what others write is dropped",
                };
                format!("{} may wake the agent; {others}", allow.join(", "))
            }
        };
        group.config.senders = senders;
        save(home, &mut store, &group)?;
        out::line(&format!("group {}: {told}", group.folder))
    }
}

fn sender(text: &str) -> Result<String, Error> {
    let text = text.trim();
    // As people write a phone number: `+49 15 (1) 23-4`.
    let is_number = text.starts_with('+')
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | ' ' | '-' | '(' | ')'));
    let sender: String = if is_number {
        text.chars().filter(char::is_ascii_digit).collect()
    } else {
        text.to_owned()
    };
    let user = sender.split('@').next().unwrap_or_default();
    if user.is_empty() || 255 < sender.len() || sender.contains(|c: char| c.is_control()) {
        return Err(Error::Refused(format!(
            "--allow `{}`: allowed: an address like 4915@s.whatsapp.net, what stands before its @, \
             or a phone number",
            shown(text)
        )));
    }
    Ok(sender)
}

/// Say what a group's sandbox may use; `default` takes a limit back.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "set-limits")]
pub(super) struct LimitsCommand {
    /// folder of the group
    #[argh(option)]
    group: String,
    /// memory, like 512m or 2g (default: 2g)
    #[argh(option)]
    memory: Option<String>,
    /// processors, 0.1 to 256 (default: 2)
    #[argh(option)]
    cpus: Option<String>,
    /// how long one turn may take, in milliseconds (default: no bound of its own)
    #[argh(option, arg_name = "number")]
    timeout_ms: Option<String>,
    /// full (all that the host reaches) or model-only (nothing but the model's API)
    #[argh(option, arg_name = "full|model-only")]
    network: Option<String>,
    /// time zone of the people in the group, like Europe/Berlin (default: the setting TZ)
    #[argh(option, arg_name = "zone")]
    timezone: Option<String>,
}

impl LimitsCommand {
    /// # Errors
    /// A value that is not allowed: then nothing changes. No such group; the database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let mut store = super::store_with_main(home)?;
        let mut group = group(&store, &self.group)?;
        let config = &mut group.config;
        let number =
            |text: String| text.parse::<serde_json::Number>().map_or(json!(text), Value::from);
        let fields = [
            (
                "memory",
                "--memory",
                "512m, 2g and the like, at least 64m",
                self.memory.map(Value::from),
            ),
            ("cpus", "--cpus", "0.1 to 256", self.cpus.map(number)),
            ("timeout", "--timeout-ms", "1000 to 86400000", self.timeout_ms.map(number)),
            ("network", "--network", "full, model-only", self.network.map(Value::from)),
            (
                "timezone",
                "--timezone",
                "IANA names like Europe/Berlin",
                self.timezone.map(Value::from),
            ),
        ];
        let mut is_changed = false;
        for (field, option, allowed, value) in fields {
            let Some(value) = value else { continue };
            let is_default = value == "default";
            let one = if is_default { json!({}) } else { json!({ field: value }) };
            // The rules are those of the column.
            let Ok(one) = serde_json::from_value::<ContainerConfig>(one) else {
                let value = value.as_str().map_or_else(|| value.to_string(), shown);
                return Err(Error::Refused(format!(
                    "{option} `{value}`: allowed: {allowed}, or default"
                )));
            };
            match field {
                "memory" => config.memory_mib = one.memory_mib,
                "cpus" => config.cpus = one.cpus,
                "timeout" => config.timeout_ms = one.timeout_ms,
                "network" => config.network = one.network,
                _ => config.timezone = one.timezone,
            }
            is_changed = true;
        }
        if !is_changed {
            return Err(Error::Refused(
                "give at least one of --memory, --cpus, --timeout-ms, --network, --timezone"
                    .to_owned(),
            ));
        }
        save(home, &mut store, &group)?;
        let mut now = serde_json::to_value(&group.config).expect("plain data");
        if let Some(fields) = now.as_object_mut() {
            fields.retain(|name, _| !matches!(name.as_str(), "additionalMounts" | "senders"));
        }
        out::line(&format!("group {} has the limits {now} {NEXT}", group.folder))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn h59_a_sender_is_written_in_many_ways() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(expected.map(str::to_owned), super::sender(text).ok(), "{text}");
        };
        check("4915@s.whatsapp.net", Some("4915@s.whatsapp.net"));
        check("+49 15-(1)", Some("49151"));
        check(" ada ", Some("ada"));
        check("+", None);
        check("@s.whatsapp.net", None);
        check("", None);
        check("a\nb", None);
    }
}
