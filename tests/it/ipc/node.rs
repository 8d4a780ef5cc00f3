//! Clients of the Model Context Protocol that are not ours list and call the tools.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Home, part, program, run};

#[test]
fn node_a_client_of_the_reference_sdk_lists_and_calls_all_tools() {
    let sdk = part("CLAW_TEST_MCP_SDK");
    let home = Home::new();
    home.register("family");
    let _daemon = home.start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/ipc/client.mjs");
    let client = |is_main: bool, group: &str| -> Value {
        let mut command = Command::new("node");
        command.arg(&script).arg(&sdk).arg(program("claw-agent-runner"));
        command.env("CLAW_IPC", home.at(&format!("data/ipc/{group}")));
        command.env("CLAW_CHAT_JID", format!("local:{group}"));
        command.env("CLAW_IS_MAIN", if is_main { "1" } else { "0" }).env("TZ", "Europe/Berlin");
        serde_json::from_str(&run(command, b"").ok()).expect("JSON")
    };
    let main = client(true, "main");
    assert_eq!(14, main["tools"].as_array().expect("a list").len());
    let calls = main["calls"].as_object().expect("an object");
    assert_eq!(14, calls.len(), "{main}");
    for (tool, result) in calls {
        assert_ne!(true, result["isError"], "{tool}: {result}");
    }
    assert_eq!(-32602, main["unknown_tool"]);
    assert_eq!(-32601, main["unknown_method"]);
    assert_eq!(json!(true), main["bad_argument"]["isError"]);
    // The task that it has run answers too, when it is done.
    let answers = home.answers("local:main");
    assert_eq!(Some("hello from node"), answers.first().map(String::as_str));
    assert!(answers[1..].is_empty() || answers[1..] == ["echo: q"], "{answers:?}");
    assert_eq!(0, home.number("SELECT count(*) FROM groups WHERE folder = 'nine'"));
    assert_eq!(10, client(false, "family")["tools"].as_array().expect("a list").len());
}

#[test]
fn node_the_inspectors_command_line_lists_and_calls_tools() {
    let inspector = part("CLAW_TEST_MCP_INSPECTOR");
    let home = Home::new();
    home.register("family");
    let _daemon = home.start();
    let inspect = |group: &str, args: &[&str]| -> Value {
        let mut command = Command::new("node");
        command.args([&inspector, "--cli"]).arg(program("claw-agent-runner")).arg("mcp").args(args);
        command.env("CLAW_IPC", home.at(&format!("data/ipc/{group}")));
        command.env("CLAW_CHAT_JID", format!("local:{group}"));
        command.env("CLAW_IS_MAIN", if group == "main" { "1" } else { "0" });
        command.env("TZ", "Europe/Berlin");
        serde_json::from_str(&run(command, b"").ok()).expect("JSON")
    };
    let call = |tool: &str, tool_args: &[&str]| -> Value {
        let mut args = vec!["--method", "tools/call", "--tool-name", tool];
        for arg in tool_args {
            args.extend(["--tool-arg", arg]);
        }
        let result = inspect("family", &args);
        assert_ne!(true, result["isError"], "{tool}: {result}");
        let text = result["content"][0]["text"].as_str().expect("a text");
        serde_json::from_str(text).unwrap_or_else(|_| json!(text))
    };
    let count = |group: &str| {
        inspect(group, &["--method", "tools/list"])["tools"].as_array().expect("a list").len()
    };
    assert_eq!((14, 10), (count("main"), count("family")));
    call("send_message", &["text=hello from the inspector"]);
    assert_eq!(vec!["hello from the inspector"], home.answers("local:family"));
    let when = ["schedule_type=once", "schedule_value=2099-01-31T09:00"];
    let task = call("schedule_task", &["prompt=water the plants", when[0], when[1]]);
    let listed = call("list_tasks", &[]);
    assert_eq!(1, home.number("SELECT count(*) FROM tasks WHERE prompt = 'water the plants'"));
    let shown = &listed["tasks"];
    assert_eq!(1, shown.as_array().expect("a list").len(), "{listed}");
    assert_eq!(task["id"], shown[0]["id"]);
    assert_eq!("water the plants", shown[0]["prompt"]);
}
