//! Stands in for `NanoClaw`'s own runner of February 2026, written from its protocol: what it is told
//! on standard input, the frames that it prints, the files that it takes and leaves.
//!
//! A query's result is a frame, and so is the note of the session after it; no frame says that a
//! turn ended, or which files were taken. Files in `input/` are removed as they are read, and what
//! lies there together becomes one query. It answers `said: ` and the texts of all messages.
//!
//! Words in the last message:
//!
//! | word | effect |
//! |---|---|
//! | `nano:session` | answers with the session that it was given |
//! | `nano:secrets` | answers with the secrets that it was given |
//! | `nano:file=NAME` | answers with a file of its IPC folder |
//! | `nano:results=N` | so many results of one query |
//! | `nano:bytes` | the frame goes out byte by byte |
//! | `nano:aloud` | thinks in `<internal>` before it answers |
//! | `nano:fail-once` | the first time, an error and the end |
//! | `nano:hang` | never answers |

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

const START: &str = "---NANOCLAW_OUTPUT_START---";
const END: &str = "---NANOCLAW_OUTPUT_END---";
const POLL: Duration = Duration::from_millis(20);

fn main() -> io::Result<ExitCode> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let input: Value = serde_json::from_str(&text)?;
    let place = |variable| PathBuf::from(std::env::var_os(variable).unwrap_or_default());
    let agent = Agent { ipc: place("FAKE_IPC"), group: place("FAKE_GROUP"), input };
    let folder = agent.ipc.join("input");
    // What an earlier container left.
    fs::remove_file(folder.join("_close")).ok();
    let mut prompt = agent.input["prompt"].as_str().unwrap_or_default().to_owned();
    for text in drain(&folder)? {
        prompt = format!("{prompt}\n{text}");
    }
    loop {
        if !agent.query(&prompt)? {
            return Ok(ExitCode::FAILURE);
        }
        frame(&json!({"status": "success", "result": null, "newSessionId": agent.session()}))?;
        prompt = loop {
            if fs::remove_file(folder.join("_close")).is_ok() {
                return Ok(ExitCode::SUCCESS);
            }
            let texts = drain(&folder)?;
            if !texts.is_empty() {
                break texts.join("\n");
            }
            thread::sleep(POLL);
        };
    }
}

/// Takes what lies there, in the order of the names.
fn drain(folder: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    names.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    names.sort();
    let mut texts = Vec::new();
    for path in names {
        let file: Value = serde_json::from_slice(&fs::read(&path)?)?;
        fs::remove_file(&path)?;
        if file["type"] == "message"
            && let Some(text) = file["text"].as_str()
        {
            texts.push(text.to_owned());
        }
    }
    Ok(texts)
}

struct Agent {
    ipc: PathBuf,
    group: PathBuf,
    input: Value,
}

impl Agent {
    fn session(&self) -> &str {
        self.input["sessionId"].as_str().unwrap_or("nano-1")
    }

    /// One query; whether it went well.
    fn query(&self, prompt: &str) -> io::Result<bool> {
        let texts = messages(prompt);
        let last = texts.last().map_or(prompt, String::as_str);
        let word = |name: &str| {
            let mut words = last.split_whitespace();
            words.find_map(|word| word.strip_prefix("nano:")?.strip_prefix(name))
        };
        if word("hang").is_some() {
            loop {
                thread::park();
            }
        }
        let failed = self.group.join("failed");
        if word("fail-once").is_some() && !failed.exists() {
            fs::write(failed, "")?;
            frame(&json!({"status": "error", "result": null, "error": "it went wrong"}))?;
            return Ok(false);
        }
        let mut said = format!("said: {}", texts.join(" | "));
        if texts.is_empty() {
            said = format!("did: {prompt}");
        }
        if word("session").is_some() {
            said = format!("session: {}", self.input["sessionId"]);
        }
        if word("secrets").is_some() {
            let secrets = self.input["secrets"].as_object().into_iter().flatten();
            let pairs =
                secrets.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("?")));
            said = format!("secrets: {}", pairs.collect::<Vec<String>>().join(" "));
        }
        if let Some(name) = word("file=") {
            said = fs::read_to_string(self.ipc.join(name))?;
        }
        if word("aloud").is_some() {
            said = format!("<internal>hm</internal>{said}");
        }
        let count = word("results=").and_then(|count| count.parse().ok()).unwrap_or(1);
        for number in 1..=count {
            let result = if count == 1 { said.clone() } else { format!("result {number}") };
            let output =
                json!({"status": "success", "result": result, "newSessionId": self.session()});
            if word("bytes").is_some() {
                for byte in framed(&output).bytes() {
                    io::stdout().write_all(&[byte])?;
                    io::stdout().flush()?;
                }
            } else {
                frame(&output)?;
            }
        }
        Ok(true)
    }
}

fn framed(output: &Value) -> String {
    format!("{START}\n{output}\n{END}\n")
}

fn frame(output: &Value) -> io::Result<()> {
    io::stdout().write_all(framed(output).as_bytes())?;
    io::stdout().flush()
}

/// Texts of the `<message …>` elements of a prompt.
fn messages(prompt: &str) -> Vec<String> {
    let plain = |text: &str| {
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        text.replace("&amp;", "&")
    };
    let elements = prompt.split("<message ").skip(1);
    elements
        .filter_map(|rest| Some(rest.split_once('>')?.1.split_once("</message>")?.0))
        .map(plain)
        .collect()
}
