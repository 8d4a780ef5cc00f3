//! Reads the fields of a request one by one, so that each error names its field and says what is
//! expected there.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::ids::{ChatJid, GroupFolder, shown};

/// What a sandbox says of itself, or what is for logs alone: `NanoClaw`'s runner writes it, and it
/// counts for nothing here.
const IGNORED: [&str; 4] = ["groupFolder", "isMain", "createdBy", "timestamp"];

/// The fields of a request that were not read yet.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// The one JSON object that `bytes` is. The parser goes no deeper than 128 levels.
    pub(super) fn parse(bytes: &[u8]) -> Result<Fields, String> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))?;
        match value {
            Value::Object(map) => Ok(Fields(map)),
            other => Err(format!("it is {}, not a JSON object", described(&other))),
        }
    }

    /// Reads a text; `bytes` is how long it may be.
    pub(super) fn text(
        &mut self,
        name: &str,
        bytes: RangeInclusive<usize>,
    ) -> Result<String, String> {
        self.optional_text(name, bytes)?.ok_or_else(|| format!("`{name}` is missing"))
    }

    /// Reads a text that may be left out.
    pub(super) fn optional_text(
        &mut self,
        name: &str,
        bytes: RangeInclusive<usize>,
    ) -> Result<Option<String>, String> {
        let text = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => return Err(format!("`{name}` is {}, not a text", described(&other))),
        };
        if text.contains('\0') {
            return Err(format!("`{name}` has a NUL character"));
        }
        if text.len() < *bytes.start() {
            return Err(format!("`{name}` is empty"));
        }
        if text.len() > *bytes.end() {
            return Err(format!("`{name}` is longer than {} bytes", bytes.end()));
        }
        Ok(Some(text))
    }

    /// Reads a text that stands for something.
    pub(super) fn optional<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        bytes_max: usize,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, String> {
        let text = self.optional_text(name, 1..=bytes_max)?;
        text.map(|text| read(&text).map_err(|error| format!("`{name}`: {error}"))).transpose()
    }

    /// Reads the address of a chat.
    pub(super) fn chat(&mut self, name: &str) -> Result<ChatJid, String> {
        self.optional_chat(name)?.ok_or_else(|| format!("`{name}` is missing"))
    }

    /// Reads the address of a chat that may be left out.
    pub(super) fn optional_chat(&mut self, name: &str) -> Result<Option<ChatJid>, String> {
        self.optional(name, 1024, ChatJid::new)
    }

    /// Reads a group's folder.
    pub(super) fn folder(&mut self, name: &str) -> Result<GroupFolder, String> {
        self.optional_folder(name)?.ok_or_else(|| format!("`{name}` is missing"))
    }

    /// Reads a group's folder that may be left out.
    pub(super) fn optional_folder(&mut self, name: &str) -> Result<Option<GroupFolder>, String> {
        self.optional(name, 1024, GroupFolder::new)
    }

    /// Reads a yes or no.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, String> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(format!("`{name}` is {}, not `true` or `false`", described(&other))),
        }
    }

    /// Reads a count.
    pub(super) fn count(
        &mut self,
        name: &str,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize, String> {
        let number = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(default),
            Some(value) => value.as_u64().and_then(|number| usize::try_from(number).ok()),
        };
        let (min, max) = (range.start(), range.end());
        let within = number.filter(|number| range.contains(number));
        within.ok_or_else(|| format!("`{name}` must be a whole number from {min} to {max}"))
    }

    /// Takes a field as it is.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// All must have been read by now.
    pub(super) fn end(mut self) -> Result<(), String> {
        self.0.retain(|name, _| !IGNORED.contains(&name.as_str()));
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("there is no field `{}` in such a request", shown(name))),
        }
    }
}

fn described(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
