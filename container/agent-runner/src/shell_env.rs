//! Keeps the key out of the environment of the agent's shell, where the key itself had to come in
//! (`CREDENTIALS=stdin`): a hook of the CLI before each shell command. With the credential proxy
//! there is no key inside, and no hook.
//!
//! It keeps the key from being printed by accident. It is no wall: the shell runs as the same user
//! as the CLI, which has the key.

use std::io::{self, Read};

use serde_json::{Map, Value, json};

use crate::report;

/// Name of the subcommand that is the hook.
pub(crate) const SUBCOMMAND: &str = "strip-secrets";

/// Longest call of a tool that is looked at; the CLI's own bound of a command is far below.
const CALL_BYTES_MAX: u64 = 16 * 1024 * 1024;

const PREFIX: &str = "unset ANTHROPIC_API_KEY CLAUDE_CODE_OAUTH_TOKEN; ";

/// Answers one `PreToolUse` of the tool `Bash`.
///
/// # Errors
/// What `stdin` or standard output report, and a call that is none.
pub(crate) fn from_hook(stdin: impl Read) -> io::Result<()> {
    let mut text = String::new();
    stdin.take(CALL_BYTES_MAX).read_to_string(&mut text)?;
    let call: Value = serde_json::from_str(&text)?;
    match stripped(&call) {
        Some(input) => report::print_line(&answer(&input).to_string()),
        None => Ok(()),
    }
}

/// The tool's input with the secrets taken from the command's environment.
fn stripped(call: &Value) -> Option<Map<String, Value>> {
    let mut input = call.get("tool_input")?.as_object()?.clone();
    let command = input.get("command")?.as_str()?.to_owned();
    input.insert("command".to_owned(), Value::String(format!("{PREFIX}{command}")));
    Some(input)
}

fn answer(input: &Map<String, Value>) -> Value {
    json!({
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "allow",
            "updatedInput": input,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_loses_the_secrets_and_keeps_the_rest() {
        let call = json!({"tool_name": "Bash", "tool_input": {"command": "env", "timeout": 5}});
        let input = stripped(&call).expect("a call of the shell");
        assert_eq!(Some(5), input["timeout"].as_i64());
        assert_eq!(Some(format!("{PREFIX}env").as_str()), input["command"].as_str());
    }

    #[test]
    fn another_tool_is_left_alone() {
        assert_eq!(None, stripped(&json!({"tool_name": "Read", "tool_input": {"path": "a"}})));
        assert_eq!(None, stripped(&json!("nonsense")));
    }
}
