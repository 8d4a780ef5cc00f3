//! What a group may set for its own sandbox and its own messages: column `container_config`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config;

/// Settings of one group. `NanoClaw`'s names, and some of our own; all optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ContainerConfig {
    /// Bound of one turn, in milliseconds: 1,000 to 86,400,000.
    #[serde(
        rename = "timeout",
        deserialize_with = "timeout",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout_ms: Option<u64>,
    /// Memory of the sandbox in MiB; written `512m` or `2g`.
    #[serde(
        rename = "memory",
        deserialize_with = "memory",
        serialize_with = "memory_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub memory_mib: Option<u32>,
    /// Processors of the sandbox, as `docker run --cpus`: 0.1 to 256.
    #[serde(deserialize_with = "cpus", skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f32>,
    /// What the sandbox reaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Directories beside the group's own; checked against the allowlist at each start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_mounts: Vec<AdditionalMount>,
    /// Who may trigger the assistant; `None`: everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub senders: Option<Senders>,
    /// IANA time zone of the people in the group; `None`: the setting `TZ`.
    #[serde(deserialize_with = "timezone", skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

/// What a sandbox reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Whatever the host reaches.
    Full,
    /// The model API, through the credential proxy.
    ModelOnly,
}

/// A directory of the host that a group asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdditionalMount {
    /// Path on the host; `~` is the home directory.
    pub host_path: String,
    /// Path under `/workspace/extra`; `None`: the last part of `host_path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_path: Option<String>,
    /// Whether the sandbox may only read it.
    #[serde(default = "yes")]
    pub readonly: bool,
}

/// Who may trigger the assistant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Senders {
    /// Addresses, whole (`4915@s.whatsapp.net`) or what stands before the `@`.
    pub allow: Vec<String>,
    /// What becomes of the messages of others.
    #[serde(default)]
    pub others: OtherSenders,
}

/// What becomes of the messages of those who may not trigger the assistant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherSenders {
    /// They come along as context.
    #[default]
    Context,
    /// They are not stored.
    Drop,
}

impl ContainerConfig {
    /// The group's own time zone.
    pub fn zone(&self) -> Option<chrono_tz::Tz> {
        self.timezone.as_deref().and_then(|name| config::timezone(name).ok())
    }
}

impl Senders {
    /// Whether `sender` may trigger the assistant.
    pub fn allows(&self, sender: &str) -> bool {
        let user = sender.split_once('@').map_or(sender, |(user, _)| user);
        // One account's devices are told apart by `:n` after the user.
        let user = user.split_once(':').map_or(user, |(user, _)| user);
        !user.is_empty() && self.allow.iter().any(|allowed| allowed == sender || allowed == user)
    }
}

fn yes() -> bool {
    true
}

fn timeout<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    checked(value, |ms| config::TIMEOUT_MS.contains(ms), "a timeout of 1000 to 86400000 ms")
}

fn cpus<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f32>, D::Error> {
    checked(value, |cpus: &f32| (0.1..=256.0).contains(cpus), "0.1 to 256 processors")
}

fn timezone<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let known = |name: &String| config::timezone(name).is_ok();
    checked(value, known, "an IANA time zone like `Europe/Berlin`")
}

fn checked<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
    fits: impl FnOnce(&T) -> bool,
    expected: &str,
) -> Result<Option<T>, D::Error> {
    match Option::<T>::deserialize(value)? {
        Some(value) if !fits(&value) => {
            Err(serde::de::Error::custom(format_args!("expected {expected}")))
        }
        value => Ok(value),
    }
}

fn memory<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    let Some(text) = Option::<String>::deserialize(value)? else {
        return Ok(None);
    };
    let factor = match text.as_bytes().last() {
        Some(b'm' | b'M') => 1,
        Some(b'g' | b'G') => 1024,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|n| n.parse::<u32>().ok());
    let mib = number.and_then(|n| n.checked_mul(factor)).filter(|mib| *mib >= MEMORY_MIB_MIN);
    match mib {
        Some(mib) => Ok(Some(mib)),
        None => Err(serde::de::Error::custom(format_args!(
            "expected memory like `512m` or `2g`, at least {MEMORY_MIB_MIN}m"
        ))),
    }
}

/// Less than this no agent starts in.
const MEMORY_MIB_MIN: u32 = 64;

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn memory_text<S: Serializer>(mib: &Option<u32>, out: S) -> Result<S::Ok, S::Error> {
    mib.map(|mib| format!("{mib}m")).serialize(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let json = r#"{"timeout":60000,"memory":"2048m","cpus":1.5,"network":"model-only","additionalMounts":[{"hostPath":"~/x","readonly":true}],"senders":{"allow":["49"],"others":"drop"},"timezone":"Europe/Berlin"}"#;
        let config: ContainerConfig = serde_json::from_str(json).expect("all fields");
        assert_eq!(Some(2048), config.memory_mib);
        assert_eq!(json, serde_json::to_string(&config).expect("plain data"));
        let empty: ContainerConfig = serde_json::from_str("{}").expect("all optional");
        assert_eq!("{}", serde_json::to_string(&empty).expect("plain data"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            r#"{"surprise":1}"#,
            r#"{"timeout":1}"#,
            r#"{"timeout":"1h"}"#,
            r#"{"memory":"2"}"#,
            r#"{"memory":"1m"}"#,
            r#"{"memory":"9999999g"}"#,
            r#"{"memory":"é"}"#,
            r#"{"cpus":0}"#,
            r#"{"network":"none"}"#,
            r#"{"additionalMounts":[{"hostPath":"/x","mode":"rw"}]}"#,
            r#"{"senders":{"allow":"*"}}"#,
            r#"{"timezone":"IST-2"}"#,
        ] {
            assert!(serde_json::from_str::<ContainerConfig>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn senders_match_by_address_or_user_never_by_a_part() {
        let senders = Senders {
            allow: vec!["4915".into(), "7@lid".into(), String::new()],
            others: OtherSenders::Context,
        };
        for (sender, allowed) in [
            ("4915@s.whatsapp.net", true),
            ("4915:3@s.whatsapp.net", true),
            ("4915", true),
            ("7@lid", true),
            ("7@s.whatsapp.net", false),
            ("49151@s.whatsapp.net", false),
            ("@s.whatsapp.net", false),
            ("", false),
        ] {
            assert_eq!(allowed, senders.allows(sender), "{sender}");
        }
    }
}
