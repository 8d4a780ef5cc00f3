//! Stands in for `claw-agent-runner`: what runs inside a sandbox, without a model.
//!
//! Reads its input, answers every text with `echo: TEXT`, takes follow-ups, ends at `_close`. Words
//! in the last message of it (or, for every text, in `FAKE_AGENT_MODE`) change what it does, in this order:
//!
//! | word | effect |
//! |---|---|
//! | `fake:sleep=MS` | waits before it answers |
//! | `fake:stderr=TEXT` | writes a line to stderr |
//! | `fake:write=NAME` | writes a file into the group's folder |
//! | `fake:tool=TEXT` | asks the host to send TEXT |
//! | `fake:leak` | leaves a process behind that holds the pipes for a minute |
//! | `fake:garbage` | noise, a frame that is none, one without an end |
//! | `fake:flood=MB` | so much without a line end, then a line end |
//! | `fake:large=MB` | a frame of that size |
//! | `fake:partial=N` | frames `part 1` … before the answer, of the same turn |
//! | `fake:pause=MS` | waits between those and the answer |
//! | `fake:frames=N` | so many small answers |
//! | `fake:exit=CODE` | ends without an answer |
//! | `fake:hang` | never answers |
//! | `fake:error=KIND` | an error of that kind instead of the answer |
//! | `fake:silent` | the turn ends without text |
//! | `fake:markers` | the answer quotes both markers |
//! | `fake:all` | the answer echoes every message of the prompt, a line each |
//! | `fake:session=ID` | the session it says it has |
//! | `fake:ignore-close` | from then on `_close` means nothing |
//! | `fake:once` | ends after this turn |
//!
//! The script of a task decides here too whether the agent is woken.
//!
//! Paths are those inside a sandbox; `FAKE_IPC` and `FAKE_GROUP` replace them where there is none.

use std::fs;
use std::io::{self, Read, Stdout, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use rust_claw_protocol::{
    CLOSE_FILE, ErrorKind, FollowUp, Input, OUTPUT_END, OUTPUT_START, Output, Status, TASK_HEAD,
    inside, write_frame,
};

fn main() -> io::Result<ExitCode> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let input: Input = serde_json::from_str(&text)?;
    let place = |variable, inside: &str| {
        std::env::var_os(variable).map_or_else(|| PathBuf::from(inside), PathBuf::from)
    };
    let mut agent = Agent {
        out: io::stdout(),
        ipc: place("FAKE_IPC", inside::IPC),
        group: place("FAKE_GROUP", inside::GROUP),
        mode: std::env::var("FAKE_AGENT_MODE").unwrap_or_default(),
        session: input.session_id.clone().unwrap_or_else(|| "fake-session".into()),
        ignores_close: false,
    };
    if let Some(script) = &input.script {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]).current_dir(&agent.group);
        if shell.output()?.stdout.ends_with(b"{\"wakeAgent\":false}\n") {
            let skipped =
                Output { skipped: Some(true), turn_end: Some(true), ..agent.answer(String::new()) };
            agent.frame(Output { result: None, ..skipped })?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let folder = agent.ipc.join("input");
    let mut waiter = Waiter::new(&folder);
    if let Some(code) = agent.turn(&input.prompt, None)? {
        return Ok(code);
    }
    loop {
        let mut names: Vec<String> = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .map_while(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        for name in names.iter().filter(|name| name.strip_suffix(".json").is_some()) {
            let path = folder.join(name);
            let text = fs::read_to_string(&path)?;
            fs::remove_file(&path)?;
            let FollowUp::Message { text } = serde_json::from_str(&text)?;
            if let Some(code) = agent.turn(&text, Some(name.clone()))? {
                return Ok(code);
            }
        }
        if !agent.ignores_close && names.iter().any(|name| name == CLOSE_FILE) {
            fs::remove_file(folder.join(CLOSE_FILE))?;
            return Ok(ExitCode::SUCCESS);
        }
        if !folder.is_dir() {
            // Nothing can come.
            return Ok(ExitCode::SUCCESS);
        }
        waiter.wait();
    }
}

struct Agent {
    out: Stdout,
    ipc: PathBuf,
    group: PathBuf,
    mode: String,
    session: String,
    ignores_close: bool,
}

impl Agent {
    /// One turn; a code if it is the last.
    fn turn(&mut self, prompt: &str, file: Option<String>) -> io::Result<Option<ExitCode>> {
        let asked = messages(prompt).pop().or_else(|| task(prompt)).unwrap_or(prompt);
        let words = Words(format!("{} {asked}", self.mode));
        if let Some(ms) = words.number("sleep") {
            thread::sleep(Duration::from_millis(ms));
        }
        if let Some(text) = words.value("stderr") {
            writeln!(io::stderr(), "{text}")?;
        }
        if let Some(name) = words.value("write") {
            fs::write(self.group.join(name), "written by the agent\n")?;
        }
        if let Some(text) = words.value("tool") {
            let request = serde_json::json!({"type": "message", "chatJid": "", "text": text});
            let path = self.ipc.join("messages");
            fs::write(path.join("1.tmp"), request.to_string())?;
            fs::rename(path.join("1.tmp"), path.join("1.json"))?;
        }
        if words.has("leak") {
            Command::new("sleep").arg("60").process_group(0).spawn()?;
        }
        if words.has("garbage") {
            let garbage = format!(
                "noise {OUTPUT_START}\n{OUTPUT_START}\n{{nope\n{OUTPUT_END}\n{OUTPUT_START}\n{{}}\n"
            );
            self.write(garbage.as_bytes())?;
        }
        if let Some(mb) = words.number("flood") {
            let chunk = vec![b'x'; 1_000_000];
            for _ in 0..mb {
                self.write(&chunk)?;
            }
            self.write(b"\n")?;
        }
        if let Some(mb) = words.number("large") {
            let text = "x".repeat(usize::try_from(mb).unwrap_or(0) * 1_000_000);
            self.frame(Output { turn_end: None, ..self.answer(text) })?;
        }
        for part in 1..=words.number("partial").unwrap_or(0) {
            let text = format!("part {part}");
            self.frame(Output { turn_end: Some(false), ..self.answer(text) })?;
        }
        if let Some(ms) = words.number("pause") {
            thread::sleep(Duration::from_millis(ms));
        }
        if let Some(count) = words.number("frames") {
            let mut frame = Vec::new();
            write_frame(&mut frame, &self.answer("small".into()))?;
            let batch = frame.repeat(100);
            for _ in 0..count / 100 {
                self.write(&batch)?;
            }
            self.write(&frame.repeat(usize::try_from(count % 100).unwrap_or(0)))?;
        }
        if let Some(code) = words.number("exit") {
            return Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1))));
        }
        if words.has("hang") {
            loop {
                thread::park();
            }
        }
        if let Some(session) = words.value("session") {
            session.clone_into(&mut self.session);
        }
        self.ignores_close |= words.has("ignore-close");
        let text = if words.has("markers") {
            format!("{OUTPUT_START}\n{OUTPUT_END}\n{OUTPUT_START}")
        } else if words.has("all") {
            let lines: Vec<String> =
                messages(prompt).iter().map(|text| format!("echo: {text}")).collect();
            lines.join("\n")
        } else {
            format!("echo: {asked}")
        };
        let mut output = self.answer(text);
        output.consumed = file.map(|file| vec![file]);
        if words.has("silent") {
            output.result = None;
        }
        if let Some(kind) = words.value("error") {
            output.status = Status::Error;
            output.result = None;
            output.error = Some(format!("fake error: {kind}"));
            output.error_kind = serde_json::from_value::<ErrorKind>(kind.into()).ok();
        }
        self.frame(output)?;
        Ok(words.has("once").then_some(ExitCode::SUCCESS))
    }

    fn answer(&self, text: String) -> Output {
        Output {
            status: Status::Success,
            result: Some(text),
            new_session_id: Some(self.session.clone()),
            error: None,
            error_kind: None,
            turn_end: Some(true),
            consumed: None,
            usage: None,
            skipped: None,
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "every caller makes one for this")]
    fn frame(&mut self, output: Output) -> io::Result<()> {
        write_frame(&mut self.out, &output)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }
}

/// The words of a text that mean something to this program.
struct Words(String);

impl Words {
    /// The part after `fake:NAME`, which ends at white space or at the next tag.
    fn after(&self, name: &str) -> Option<&str> {
        self.0
            .split(|c: char| c.is_whitespace() || matches!(c, '<' | '>'))
            .find_map(|word| word.strip_prefix("fake:")?.strip_prefix(name))
            .filter(|rest| rest.is_empty() || rest.starts_with('='))
    }

    fn has(&self, name: &str) -> bool {
        self.after(name).is_some()
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.after(name)?.strip_prefix('=')
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }
}

/// Texts of the `<message …>` elements of a prompt.
fn messages(prompt: &str) -> Vec<&str> {
    prompt
        .split("<message ")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('>')?.1.split_once("</message>")?.0))
        .collect()
}

/// What a scheduled task asks, without its head.
fn task(prompt: &str) -> Option<&str> {
    Some(prompt.strip_prefix(TASK_HEAD)?.split_once("\n\n")?.1)
}

/// Waits until something changes in a folder.
struct Waiter {
    #[cfg(target_os = "linux")]
    inotify: Option<std::os::fd::OwnedFd>,
}

impl Waiter {
    #[cfg(target_os = "linux")]
    fn new(folder: &Path) -> Waiter {
        use rustix::fs::inotify;
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC).ok().filter(|fd| {
            let flags = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE;
            inotify::add_watch(fd, folder, flags).is_ok()
        });
        Waiter { inotify }
    }

    /// May return early.
    #[cfg(target_os = "linux")]
    fn wait(&mut self) {
        let Some(inotify) = &self.inotify else {
            thread::sleep(Duration::from_millis(5));
            return;
        };
        // What happened is seen by looking.
        if rustix::io::read(inotify, &mut [0; 4096]).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn new(_: &Path) -> Waiter {
        Waiter {}
    }

    /// May return early.
    #[cfg(not(target_os = "linux"))]
    fn wait(&mut self) {
        thread::sleep(Duration::from_millis(5));
    }
}
