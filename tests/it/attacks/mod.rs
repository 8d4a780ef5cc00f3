//! Everything that a hostile agent can think of, tried for real: `attack-agent` (`tests/fakes`) sits
//! in the sandbox in the runner's place and does what a message tells it to. Each attack runs in
//! every sandbox engine where the engine is the wall. After each, the daemon lives, and another
//! group is answered.

mod files;
mod frames;
mod limits;
mod network;
mod requests;
mod secrets;
mod sinks;

use std::cell::Cell;
use std::fs;
use std::process::Command;

use crate::support::{Daemon, Home, Kind, part, program, wait_for};

/// Is in everything that no agent but its owner's may see.
const PLANTED: &str = "planted-7f3a9c";
/// The key of the model's API.
const KEY: &str = "sk-ant-planted-7f3a9c-key";

/// Defines a test for each engine, `bwrap::NAME`, `docker::NAME` and `podman::NAME`.
macro_rules! in_every_engine {
    ($(fn $name:ident($arena:ident) $body:block)*) => {
        $(fn $name($arena: &crate::attacks::Arena) $body)*
        in_every_engine!(@ bwrap Bwrap $($name)*);
        in_every_engine!(@ docker Docker $($name)*);
        in_every_engine!(@ podman Podman $($name)*);
    };
    (@ $module:ident $kind:ident $($name:ident)*) => {
        mod $module {
            $(#[test] fn $name() {
                let arena = crate::attacks::Arena::new(crate::support::Kind::$kind);
                super::$name(&arena);
                arena.is_served();
            })*
        }
    };
}
use in_every_engine;

/// A home with secrets in it, a daemon, and the groups `evil`, which is told to attack, and `other`.
struct Arena {
    home: Home,
    daemon: Cell<Option<Daemon>>,
    model: Model,
    hello_count: Cell<usize>,
    attack_count: Cell<usize>,
}

const EVIL: &str = "script:evil";
const OTHER: &str = "script:other";

impl Arena {
    fn new(kind: Kind) -> Arena {
        Arena::with(kind, &[])
    }

    /// With further variables of the environment.
    fn with(kind: Kind, settings: &[(&str, &str)]) -> Arena {
        let model = Model::start();
        let mut home = Home::with(kind);
        match kind {
            Kind::Bwrap | Kind::BwrapUser => {
                home.set("RUNNER", &program("attack-agent").display().to_string());
            }
            _ => home.set("CONTAINER_IMAGE", &part("CLAW_TEST_ATTACK_IMAGE")),
        }
        home.set("AGENT_ENGINE", "demo");
        home.set("ANTHROPIC_BASE_URL", &model.url);
        for (name, value) in settings {
            home.set(name, value);
        }
        home.write_env(&format!("ANTHROPIC_API_KEY={KEY}\nMAIL_PASSWORD={PLANTED}-env\n"));
        home.own();
        home.register("evil");
        home.register("other");
        home.run(&["register-group", "--jid", "script:boss", "--folder", "main", "--attach"]).ok();
        for place in [
            "home/store/whatsapp.db",
            "home/groups/other/diary.md",
            "home/data/ipc/other/secret.json",
            "home/data/sessions/other/.claude/secret.jsonl",
            "user/secret.txt",
        ] {
            fs::create_dir_all(home.path(place).parent().expect("a folder")).expect("folders");
            fs::write(home.path(place), format!("{PLANTED} in {place}")).expect("a file");
        }
        home.own();
        let daemon = Cell::new(Some(home.start()));
        let arena =
            Arena { home, daemon, model, hello_count: Cell::new(0), attack_count: Cell::new(0) };
        arena.home.inject(OTHER, &format!("our phrase is {PLANTED}-phrase"));
        wait_for("the other group's first answer", || arena.home.answers(OTHER).len() == 1);
        arena
    }

    /// Tells the agent of `chat` what to do; it goes on while we do something else.
    fn begin(&self, chat: &str, attack: &str) -> String {
        self.attack_count.set(self.attack_count.get() + 1);
        let tag = format!("#{}", self.attack_count.get());
        self.home.inject(chat, &format!("attack {tag} {attack}"));
        tag
    }

    /// What it answered to what was begun.
    #[expect(clippy::needless_pass_by_value, reason = "it ends here")]
    fn end(&self, chat: &str, tag: String) -> String {
        let start = format!("Andy: {tag} ");
        let find = || {
            let mut answers = self.home.answers(chat).into_iter();
            answers.find_map(|text| text.strip_prefix(&start).map(str::to_owned))
        };
        wait_for("the attacker's answer", || find().is_some());
        find().expect("it was there")
    }

    /// What was said in the group `evil` when its agent sent this frame as its own.
    fn frame(&self, frame: &str) -> String {
        let before = self.home.answers(EVIL).len();
        self.begin(EVIL, &format!("frame\n{frame}"));
        wait_for("the frame's answer", || before < self.home.answers(EVIL).len());
        let answer = self.home.answers(EVIL).remove(before);
        answer.strip_prefix("Andy: ").expect("an answer").to_owned()
    }

    /// Brings a message in once and waits for its answer, however many attempts it takes.
    fn lives_on(&self, text: &str) {
        self.home.inject(EVIL, text);
        wait_for(text, || self.home.answers(EVIL).iter().any(|it| it.ends_with(text)));
    }

    /// What the agent of the group `evil` got.
    fn attack(&self, attack: &str) -> String {
        let begun = self.begin(EVIL, attack);
        self.end(EVIL, begun)
    }

    /// The same of a shell script.
    fn sh(&self, script: &str) -> String {
        self.attack(&format!("sh\n{script}"))
    }

    /// The daemon lives and another group is answered.
    fn is_served(&self) {
        self.hello_count.set(self.hello_count.get() + 1);
        let hello = format!("hello {}", self.hello_count.get());
        self.home.inject(OTHER, &hello);
        let expected = format!("Andy: echo: {hello}");
        wait_for("the other group's answer", || self.home.answers(OTHER).contains(&expected));
        self.with_daemon(|daemon| assert!(daemon.is_alive()));
    }

    fn with_daemon<T>(&self, look: impl FnOnce(&mut Daemon) -> T) -> T {
        let mut daemon = self.daemon.take().expect("it was started");
        let seen = look(&mut daemon);
        self.daemon.set(Some(daemon));
        seen
    }

    /// Ends the daemon and all sandboxes, politely.
    fn stop(&self) {
        let daemon = self.daemon.take().expect("it was started");
        assert_eq!(Some(0), daemon.stop());
    }

    fn start(&self) {
        self.daemon.set(Some(self.home.start()));
    }

    /// The most memory that the daemon has had, in MiB. Source: proc(5), `VmHWM`.
    fn daemon_peak_mib(&self) -> u64 {
        let pid = self.with_daemon(|daemon| daemon.pid());
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a field");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number") / 1024
    }
}

impl Drop for Arena {
    /// Politely: what is killed would leave its containers to a next start, which never comes.
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop();
        }
    }
}

/// The stand-in for the model's API; killed when dropped.
struct Model {
    child: std::process::Child,
    url: String,
    log: tempfile::NamedTempFile,
}

impl Model {
    fn start() -> Model {
        use std::io::BufRead;
        let log = tempfile::NamedTempFile::new().expect("a file");
        let mut command = Command::new(program("fake-model-api"));
        // Without `--key`: a list of all processes would show it.
        command.arg("--log").arg(log.path());
        command.stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("was asked for");
        std::io::BufReader::new(stdout).read_line(&mut url).expect("its address");
        Model { child, url: url.trim().to_owned(), log }
    }

    fn port(&self) -> &str {
        self.url.rsplit(':').next().expect("an address")
    }

    /// All requests so far, a JSON object a line.
    fn requests(&self) -> String {
        fs::read_to_string(self.log.path()).expect("the log")
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `PLANTED` as an attack has to write it.
fn backwards(word: &str) -> String {
    word.chars().rev().collect()
}
