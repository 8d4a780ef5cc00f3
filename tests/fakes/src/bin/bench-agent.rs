//! The sandbox of the benchmark: called as bwrap is, it answers at once, outside of any sandbox.
//!
//! Its first act is to look at the clock. Every answer is two numbers, nanoseconds since 1970: when
//! the turn came (for the first: when this process began) and when the answer is written. It stays
//! until `_close`. Words in the prompt change what it does:
//!
//! | word | effect |
//! |---|---|
//! | `bench:sleep=MS` | waits before it answers |
//! | `bench:flood=MB` | writes so much without a frame before it answers |
//! | `bench:frames=N` | so many frames with a session id and no text before it answers |
//! | `bench:texts=N` | so many frames with a session id and a text before it answers |
//! | `bench:once` | ends after the turn |
//! | `bench:leave` | ends after the turn as soon as it is asked to |
//!
//! Without arguments it writes when it began, and ends.

use std::fs;
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use rust_claw_protocol::{
    CLOSE_FILE, FollowUp, Output, RUNNER_VERSION, Status, inside, write_frame,
};
use rustix::fs::inotify;

fn main() -> io::Result<()> {
    let began = now();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut out = io::stdout().lock();
    if args.is_empty() {
        return write!(out, "{began}");
    }
    if args == ["--version"] {
        return write!(out, "bench-agent {RUNNER_VERSION}");
    }
    // bwrap's `--bind HOST INSIDE`.
    let host = args.iter().position(|arg| arg == inside::IPC).and_then(|at| args.get(at - 1));
    let Some(input) = host.map(|ipc| Path::new(ipc).join("input")) else {
        // A trial.
        return Ok(());
    };
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    // The words stand for themselves wherever they are in it.
    Agent { out, input }.serve(began, &String::from_utf8_lossy(&text))
}

/// How soon it looks again whether it is to leave; doubles, so that many who wait long do not take
/// the processor from the program that is measured.
const LOOK_FIRST: Duration = Duration::from_micros(50);
const LOOK_MAX: Duration = Duration::from_millis(1);

fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

struct Agent<Out> {
    out: Out,
    input: PathBuf,
}

impl<Out: Write> Agent<Out> {
    fn serve(&mut self, began: u128, prompt: &str) -> io::Result<()> {
        if prompt.contains("bench:leave") {
            // Here as above not by inotify: the end of a process that watches takes the kernel up
            // to 20 ms.
            self.turn(began, prompt, None)?;
            let close = self.input.join(CLOSE_FILE);
            let mut pause = LOOK_FIRST;
            while !close.exists() {
                thread::sleep(pause);
                pause = (pause * 2).min(LOOK_MAX);
            }
            return Ok(());
        }
        if prompt.contains("bench:once") {
            return self.turn(began, prompt, None).map(drop);
        }
        let events = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(
            &events,
            &self.input,
            inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE,
        )?;
        let mut goes_on = self.turn(began, prompt, None)?;
        while goes_on {
            if self.input.join(CLOSE_FILE).exists() {
                break;
            }
            let names: Vec<_> =
                fs::read_dir(&self.input)?.flatten().map(|it| it.file_name()).collect();
            let names = names.iter().filter_map(|name| name.to_str());
            let Some(name) = names.filter(|name| name.strip_suffix(".json").is_some()).min() else {
                rustix::io::read(&events, &mut [0; 4096])?;
                continue;
            };
            let seen = now();
            let path = self.input.join(name);
            let FollowUp::Message { text } = serde_json::from_slice(&fs::read(&path)?)?;
            fs::remove_file(path)?;
            goes_on = self.turn(seen, &text, Some(name))?;
        }
        Ok(())
    }

    /// Says whether it is to go on.
    fn turn(&mut self, came: u128, prompt: &str, file: Option<&str>) -> io::Result<bool> {
        if let Some(ms) = number(prompt, "bench:sleep=") {
            // To the microsecond: what it oversleeps would count as ours.
            rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
            thread::sleep(Duration::from_millis(ms));
        }
        if let Some(mb) = number(prompt, "bench:flood=") {
            let chunk = vec![b'x'; 1_000_000];
            for _ in 0..mb {
                self.out.write_all(&chunk)?;
            }
            // A frame's marker stands alone on its line.
            self.out.write_all(b"\n")?;
        }
        self.frames(number(prompt, "bench:frames=").unwrap_or(0), None)?;
        self.frames(number(prompt, "bench:texts=").unwrap_or(0), Some("small".to_owned()))?;
        let mut answer = frame(Some(format!("{came} {}", now())));
        answer.turn_end = Some(true);
        answer.consumed = file.map(|file| vec![file.to_owned()]);
        write_frame(&mut self.out, &answer)?;
        Ok(!prompt.contains("bench:once"))
    }

    fn frames(&mut self, count: u64, text: Option<String>) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &frame(text))?;
        let many = bytes.repeat(1000);
        for _ in 0..count / 1000 {
            self.out.write_all(&many)?;
        }
        Ok(())
    }
}

fn frame(result: Option<String>) -> Output {
    Output {
        result,
        new_session_id: Some("bench-session".to_owned()),
        turn_end: Some(false),
        ..Output::new(Status::Success)
    }
}

fn number(prompt: &str, word: &str) -> Option<u64> {
    let (_, rest) = prompt.split_once(word)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
