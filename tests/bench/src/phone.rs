//! WhatsApp's side of a measurement: a server in this process, a friend who is Baileys, and the
//! link of a home folder to an account there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rust_claw::ids::{ChatJid, GroupFolder, UnixMs};
use rust_claw::store::{ContainerConfig, NewGroup, Store};
use rust_claw_fake_whatsapp::friend::Friend;
use rust_claw_fake_whatsapp::{Addressing, Server};
use serde_json::Value;

use crate::Outcome;
use crate::bed::Bed;

/// The number that the assistant shares with its owner.
pub(crate) const OWNER: &str = "4915550000001";
/// The friend's.
pub(crate) const ADA: &str = "4915550000002";
/// Linking takes seconds.
const GIVE_UP: Duration = Duration::from_mins(2);

/// A server with two accounts and a friend who is online.
pub(crate) struct Phones {
    pub(crate) server: Server,
    pub(crate) friend: Friend,
}

impl Phones {
    /// # Errors
    /// `CLAW_TEST_BAILEYS` is not set, or the friend's code is not taken.
    pub(crate) fn new() -> Outcome<Phones> {
        if std::env::var_os("CLAW_TEST_BAILEYS").is_none() {
            return Err("CLAW_TEST_BAILEYS is not set: run tests/setup.sh, then \
                        `. target/test-tools/env.sh`"
                .into());
        }
        let server = Server::start();
        server.account(OWNER, "Olga");
        server.account(ADA, "Ada");
        let mut friend = Friend::start();
        friend.connect(&server.url(), &server.root_key(), None);
        let qr = friend.qr();
        server.scan(ADA, &qr)?;
        friend.online();
        Ok(Phones { server, friend })
    }

    /// A chat of the owner and the friend, which `folder` answers when it is called by name.
    pub(crate) fn group(&self, store: &mut Store, folder: GroupFolder) -> Outcome<ChatJid> {
        let subject = folder.to_string();
        let group = self.server.group(&subject, &[OWNER, ADA], Addressing::Lid);
        let new = NewGroup {
            jid: ChatJid::new(&group)?,
            name: subject,
            folder,
            trigger_name: None,
            requires_trigger: true,
            is_main: false,
            attach: false,
            config: ContainerConfig::default(),
        };
        store.register_group(&new, UnixMs::now())?;
        Ok(new.jid)
    }

    /// Links a home to the owner's account.
    pub(crate) fn link(&self, bed: &Bed) -> Outcome<()> {
        link(&self.server, &program_of_tests()?, OWNER, bed)
    }
}

/// What a program has to be told to find the server.
pub(crate) fn settings(server: &Server) -> [(&'static str, String); 2] {
    [("WHATSAPP_URL", server.url()), ("WHATSAPP_VERSION", "2.3000.1043857760".to_owned())]
}

/// Links a home to the account of a number.
///
/// With the program of the tests: ours checks the server's certificate. What it leaves there
/// lets ours in, which then resumes with a key that it knows.
pub(crate) fn link(server: &Server, program: &Path, number: &str, bed: &Bed) -> Outcome<()> {
    let mut command = Command::new(program);
    command.arg("--home").arg(bed.home.root()).arg("pair").env_clear().envs(settings(server));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut pair = command.spawn()?;
    let give_up = Instant::now() + GIVE_UP;
    while Instant::now() < give_up {
        if let Some(status) = pair.try_wait()? {
            return if status.success() { Ok(()) } else { Err("`pair` failed".into()) };
        }
        let shown = state(&bed.store, "whatsapp.pairing")?;
        if let Some(qr) = shown["qr"].as_str() {
            // Scanned twice it is refused, which is all the same.
            server.scan(number, qr).ok();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    pair.kill()?;
    pair.wait()?;
    Err("`pair` does not end".into())
}

/// Whether the program says that it is online.
pub(crate) fn is_online(store: &Store) -> rust_claw::store::Result<Option<()>> {
    Ok(store.get_state("whatsapp")?.filter(|state| state.contains("\"online\"")).map(drop))
}

/// What the program says about itself under `key`.
pub(crate) fn state(store: &Store, key: &str) -> Outcome<Value> {
    Ok(store.get_state(key)?.map_or(Ok(Value::Null), |text| serde_json::from_str(&text))?)
}

/// Builds the program as the tests have it, and says where it is.
pub(crate) fn program_of_tests() -> Outcome<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["test", "--no-run", "--quiet", "--locked", "--package", "rust-claw", "--test", "it"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::null())
        .status()?;
    if !built.success() {
        return Err("the program of the tests could not be built".into());
    }
    let debug = crate::programs().with_file_name("debug");
    Ok(debug.join("rust-claw"))
}
