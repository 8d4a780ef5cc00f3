//! The real Claude Code CLI works with a key that is nowhere that it, or anybody, could look.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Arena, KEY, Model, PLANTED};
use crate::support::{Home, Kind, part, program, run};

/// What the model has the CLI do: look for the key with its own shell, and tell it everything.
const PROMPT: &str = r#"TOOL Bash {"command":"env; cat /proc/*/environ | tr '\\0' '\\n'; cat /proc/*/cmdline | tr '\\0' ' '; cat /home/node/.claude/settings.json; ls -la /home/node/.claude"}
SAY it is done
USAGE 1000 50 200 10"#;

fn the_key_is_nowhere(kind: Kind) {
    let model = Model::start();
    let mut home = Home::with(kind);
    home.set("AGENT_ENGINE", "claude");
    home.set("ANTHROPIC_BASE_URL", &model.url);
    if kind == Kind::Bwrap {
        home.set("CLAUDE_CLI", &part("CLAW_TEST_CLAUDE"));
        home.set("RUNNER", &program("claw-agent-runner").display().to_string());
    }
    home.write_env(&format!("ANTHROPIC_API_KEY={KEY}\nMAIL_PASSWORD={PLANTED}-env\n"));
    home.register("g");
    let mut daemon = home.start();
    home.inject("script:g", PROMPT);
    home.wait_answers("script:g", &["Andy: it is done"]);

    let mut lists = vec![run(command("ps", &["-eww", "-o", "args"]), b"").ok()];
    if let Kind::Docker | Kind::Podman = kind {
        let engine = if kind == Kind::Docker { "docker" } else { "podman" };
        let ids =
            run(command(engine, &["ps", "-q", "--filter", "label=rust-claw.folder=g"]), b"").ok();
        let ids: Vec<&str> = ids.split_whitespace().collect();
        lists.push(run(command(engine, &[&["inspect"], ids.as_slice()].concat()), b"").ok());
    }
    for list in lists {
        assert!(list.contains("rust-claw") && !list.contains(PLANTED));
    }

    // What the model was told holds the results of the shell, and the key only in its header.
    let mut told = 0;
    for line in model.requests().lines() {
        let request: Value = serde_json::from_str(line).expect("JSON");
        assert!(!request["body"].to_string().contains(PLANTED), "{request}");
        assert!(request["headers"].to_string().contains(KEY), "{request}");
        told += usize::from(request["body"].to_string().contains("CLAUDE_CONFIG_DIR="));
    }
    assert!(0 < told, "the shell's result came");

    let mut hits = Vec::new();
    grep(&home.at(""), &mut hits);
    assert_eq!(vec![home.at(".env")], hits);

    let rows = home.json(&["usage", "--json"]);
    let output = rows[0]["output_tokens"].as_i64().expect("a count");
    let input = rows[0]["input_tokens"].as_i64().expect("a count");
    assert!(50 <= output && 1000 <= input, "{rows}");
    assert!(daemon.is_alive());
    assert_eq!(Some(0), daemon.stop());
    assert_eq!(rows, home.json(&["usage", "--json"]), "counted once");
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

fn grep(folder: &Path, hits: &mut Vec<std::path::PathBuf>) {
    for path in crate::support::entries(folder) {
        let kind = path.symlink_metadata().expect("it is there").file_type();
        if kind.is_dir() {
            grep(&path, hits);
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).expect("a file");
            if bytes.windows(PLANTED.len()).any(|part| part == PLANTED.as_bytes()) {
                hits.push(path);
            }
        }
    }
}

#[test]
fn h52_the_key_is_nowhere_bwrap_claude_cli() {
    the_key_is_nowhere(Kind::Bwrap);
}

#[test]
fn h52_the_key_is_nowhere_docker_claude_cli() {
    the_key_is_nowhere(Kind::Docker);
}

#[test]
fn h52_the_key_is_nowhere_podman_claude_cli() {
    the_key_is_nowhere(Kind::Podman);
}

/// Where a person chose it so: the two keys that may cross, and nothing else of `.env`.
#[test]
fn h52_credentials_by_stdin_hand_over_the_key_alone_bwrap() {
    let arena = Arena::with(Kind::Bwrap, &[("CREDENTIALS", "stdin")]);
    assert_eq!(KEY, arena.attack("token"));
    let said = arena.sh("env; cat /proc/*/environ | tr '\\0' '\\n'; ls /run/claw");
    assert!(!said.contains(PLANTED), "{said}");
    let said = arena.attack(&format!("hunt {}", super::backwards(&format!("{PLANTED}-env"))));
    assert!(said.starts_with("looked at "), "{said}");
    let status = arena.home.json(&["status", "--json"]);
    assert!(status["warnings"].to_string().contains("CREDENTIALS=stdin"), "{status}");
    arena.is_served();
}
