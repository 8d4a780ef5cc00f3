//! A home folder of its own, with groups, and the real program that serves it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rust_claw::doorbell::Doorbell;
use rust_claw::home::Home;
use rust_claw::ids::{ChatJid, GroupFolder, OutboxId, UnixMs};
use rust_claw::store::{ContainerConfig, NewGroup, NewMessage, OutboxRow, Store};
use tempfile::TempDir;

use crate::Outcome;

/// Longer than anything here takes.
const GIVE_UP: Duration = Duration::from_mins(2);

/// Where a home lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In memory: what the program itself costs.
    Memory,
    /// On the disk of the build tree: with the disk's price of a commit.
    Disk,
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Place::Memory => "tmpfs",
            Place::Disk => "disk",
        }
    }

    fn folder(self) -> PathBuf {
        match self {
            Place::Memory if Path::new("/dev/shm").is_dir() => PathBuf::from("/dev/shm"),
            Place::Memory => std::env::temp_dir(),
            Place::Disk => crate::programs(),
        }
    }
}

/// A home folder; it goes when this is dropped.
pub(crate) struct Bed {
    pub(crate) home: Home,
    pub(crate) store: Store,
    pub(crate) bell: Doorbell,
    /// More for the environment of the program.
    pub(crate) env: Vec<(&'static str, String)>,
    message_count: u64,
    _folder: TempDir,
}

impl Bed {
    /// A home with `group_count` groups `g0` … beside main, none of which needs a trigger.
    pub(crate) fn new(place: Place, group_count: usize) -> Outcome<Bed> {
        let folder = tempfile::Builder::new().prefix("claw-bench-").tempdir_in(place.folder())?;
        let home = Home::at(&folder.path().join("home"));
        home.create()?;
        // The name says to the program which runtime it is.
        symlink(crate::programs().join("bench-agent"), folder.path().join("bwrap"))?;
        let store = Store::open(&home.database())?;
        let bell = Doorbell::new(&home)?;
        let mut bed = Bed { home, store, bell, env: Vec::new(), message_count: 0, _folder: folder };
        bed.store.ensure_main_group(UnixMs::now())?;
        for number in 0..group_count {
            bed.add_group(number)?;
        }
        Ok(bed)
    }

    pub(crate) fn add_group(&mut self, number: usize) -> Outcome<()> {
        let folder = folder(number);
        let new = NewGroup {
            jid: chat(number),
            name: folder.to_string(),
            folder,
            trigger_name: None,
            requires_trigger: false,
            is_main: false,
            attach: false,
            config: ContainerConfig::default(),
        };
        self.store.register_group(&new, UnixMs::now())?;
        // As the command does.
        self.home.create_group_folders(&new.folder, &new.name, "Andy", false)?;
        Ok(())
    }

    /// Starts the program; returns when it says `ready`, with the time until then.
    pub(crate) fn serve(&self, concurrent_max: usize) -> Outcome<(Served, Duration)> {
        let cli = self.home.root().with_file_name("bwrap");
        self.serve_with(&cli, concurrent_max)
    }

    /// Likewise, with sandboxes of another program, which need not be there.
    pub(crate) fn serve_with(
        &self,
        cli: &Path,
        concurrent_max: usize,
    ) -> Outcome<(Served, Duration)> {
        let mut command = Command::new(crate::programs().join("rust-claw"));
        command.arg("--home").arg(self.home.root()).arg("run").env_clear();
        command
            .env("CONTAINER_RUNTIME", "bwrap")
            .env("CONTAINER_CLI", cli)
            .env("RUNNER", crate::programs().join("bench-agent"))
            // With a key the proxy runs too, as it usually does.
            .env("ANTHROPIC_API_KEY", "bench-key")
            .env("TZ", "UTC")
            .env("MAX_CONCURRENT_CONTAINERS", concurrent_max.to_string())
            .envs(self.env.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().ok_or("stderr is piped")?;
        let mut served = Served { child, is_over: false };
        let mut lines = BufReader::new(stderr);
        let ready = loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                served.stop()?;
                return Err("the program ended before it was ready".into());
            }
            if line.contains(" ready pid=") {
                break begun.elapsed();
            }
        };
        // It is not woken by each line: who measures takes little of the processor.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while lines.read(&mut bytes).is_ok_and(|count| 0 < count) {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Ok((served, ready))
    }

    /// Waits until runs can start.
    pub(crate) fn wait_for_engine(&self) -> Outcome<()> {
        let key = rust_claw::sandbox::keeper::STATE_KEY;
        self.wait(|store| Ok(store.get_state(key)?.filter(|state| state.contains("\"ready\""))))?;
        Ok(())
    }

    /// Waits at the doorbell until `seen` sees something.
    pub(crate) fn wait<T>(
        &self,
        mut seen: impl FnMut(&Store) -> rust_claw::store::Result<Option<T>>,
    ) -> Outcome<T> {
        let give_up = Instant::now() + GIVE_UP;
        while Instant::now() < give_up {
            if let Some(found) = seen(&self.store)? {
                return Ok(found);
            }
            self.bell.wait(Duration::from_millis(100));
        }
        Err("what was waited for did not happen".into())
    }

    /// Waits until no run lives.
    pub(crate) fn wait_for_rest(&self) -> Outcome<()> {
        self.wait(|store| Ok(store.alive_runs()?.is_empty().then_some(())))
    }

    /// The next answer in a chat.
    pub(crate) fn wait_for_answer(&self, chat: &ChatJid, after: OutboxId) -> Outcome<OutboxRow> {
        self.wait(|store| Ok(store.outbox_after(chat, after, 1)?.pop()))
    }

    pub(crate) fn message(&mut self, chat: &ChatJid, text: &str) -> NewMessage {
        self.message_count += 1;
        NewMessage {
            chat: chat.clone(),
            id: format!("m{}", self.message_count),
            sender: "someone".to_owned(),
            sender_alt: None,
            sender_name: "Someone".to_owned(),
            text: text.to_owned(),
            sent_at: UnixMs::now(),
            is_from_assistant: false,
            mentions_assistant: false,
            chat_name: None,
            is_group: true,
            history: false,
        }
    }

    /// Commits a batch; returns the moment after the commit.
    pub(crate) fn commit(&mut self, batch: &[NewMessage]) -> Outcome<SystemTime> {
        self.store.accept(batch, "Andy", UnixMs::now())?;
        Ok(SystemTime::now())
    }

    /// Commits one message and rings, as a channel does.
    pub(crate) fn say(&mut self, chat: &ChatJid, text: &str) -> Outcome<SystemTime> {
        let message = self.message(chat, text);
        let at = self.commit(&[message])?;
        self.bell.ring_others();
        Ok(at)
    }
}

pub(crate) fn folder(number: usize) -> GroupFolder {
    GroupFolder::new(&format!("g{number}")).expect("a letter and a number")
}

pub(crate) fn chat(number: usize) -> ChatJid {
    ChatJid::new(&format!("script:g{number}")).expect("a channel and a word")
}

/// When a turn came to the agent and when it wrote the answer.
pub(crate) fn stamps(answer: &OutboxRow) -> Outcome<[SystemTime; 2]> {
    let mut words = answer.text.split_ascii_whitespace().rev();
    let mut next = || -> Outcome<SystemTime> {
        let nanos: u64 = words.next().ok_or("an answer without stamps")?.parse()?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
    };
    let written = next()?;
    Ok([next()?, written])
}

/// The running program.
pub(crate) struct Served {
    child: Child,
    is_over: bool,
}

impl Served {
    /// A number in `/proc/PID/status`; memory is in KiB.
    pub(crate) fn status(&self, key: &str) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_ascii_whitespace().next());
        Ok(number.ok_or("no such line in /proc/PID/status")?.parse()?)
    }

    /// Processor time that all its threads used until now.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // Source: Documentation/scheduler/sched-stats.rst: first number, nanoseconds.
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split_ascii_whitespace().next().unwrap_or_default();
            nanos += first.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.is_over = true;
        Ok(())
    }

    /// Asks it to end and waits for that.
    pub(crate) fn stop(&mut self) -> Outcome<()> {
        if !self.is_over {
            let pid = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            self.child.wait()?;
            self.is_over = true;
        }
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            crate::complain(error.as_ref());
        }
    }
}
