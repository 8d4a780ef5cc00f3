//! A server with two accounts, a home that is linked to one, and the friend who has the other.

use rust_claw_fake_whatsapp::friend::Friend;
use rust_claw_fake_whatsapp::{Account, Addressing, Server};
use serde_json::{Value, json};

use crate::support::{Daemon, Home, Kind, part, wait_for};

/// The number that the assistant shares with its owner.
pub(crate) const OWNER: &str = "4915550000001";
/// The friend's.
pub(crate) const ADA: &str = "4915550000002";

pub(crate) struct World {
    pub(crate) home: Home,
    pub(crate) server: Server,
    pub(crate) owner: Account,
    pub(crate) ada: Account,
}

impl World {
    /// A home that is linked to nothing yet.
    pub(crate) fn new(kind: Kind) -> World {
        let server = Server::start();
        let (owner, ada) = (server.account(OWNER, "Olga"), server.account(ADA, "Ada"));
        let mut home = Home::with(kind);
        home.set("WHATSAPP_URL", &server.url());
        home.set("WHATSAPP_VERSION", "2.3000.1043857760");
        World { home, server, owner, ada }
    }

    /// One that is linked.
    pub(crate) fn linked(kind: Kind) -> World {
        let world = World::new(kind);
        world.pair();
        world
    }

    /// Has the daemon that runs, else one of its own, link itself, and scans what it shows.
    pub(crate) fn pair(&self) {
        self.pair_as(OWNER);
    }

    /// Likewise, with the account of this number.
    pub(crate) fn pair_as(&self, number: &str) {
        let is_served = !self.home.json(&["status", "--json"])["daemon"].is_null();
        let daemon = (!is_served).then(|| self.home.start());
        self.ask_to_pair();
        let mut scanned = String::new();
        wait_for("the end of pairing", || {
            let pairing = self.state("whatsapp.pairing");
            let shown = pairing["qr"].as_str().map(str::to_owned);
            if let Some(qr) = shown.filter(|qr| *qr != scanned) {
                self.server.scan(number, &qr).expect("the code is good");
                scanned = qr;
            }
            pairing["step"] == "done"
        });
        if let Some(daemon) = daemon {
            assert_eq!(Some(0), daemon.stop());
        }
    }

    /// What `pair` says to a daemon that runs.
    pub(crate) fn ask_to_pair(&self) {
        let wanted = json!({"what": "pair", "method": "qr", "asked_at_ms": 0});
        self.home.edit(&format!("INSERT INTO state VALUES ('whatsapp.wanted', '{wanted}')"));
        rust_claw::doorbell::Doorbell::ring(&rust_claw::home::Home::at(&self.home.at("")));
    }

    /// What the program says about itself under `key`; null where it says nothing.
    pub(crate) fn state(&self, key: &str) -> Value {
        // Whoever makes the database makes the file first and the tables in it afterwards.
        if !self.home.at("store/messages.db").exists()
            || self.home.texts("SELECT name FROM sqlite_schema WHERE name = 'state'").is_empty()
        {
            return Value::Null;
        }
        let found = self.home.texts(&format!("SELECT value FROM state WHERE key = '{key}'"));
        found.first().map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"))
    }

    /// The daemon, as soon as it is online.
    pub(crate) fn start(&self) -> Daemon {
        let daemon = self.home.start();
        self.wait_online();
        daemon
    }

    pub(crate) fn wait_online(&self) {
        wait_for("a connection", || self.state("whatsapp")["state"] == "online");
    }

    /// Ada's Baileys, linked and online.
    pub(crate) fn friend(&self) -> Friend {
        self.baileys(ADA)
    }

    /// Another device of the owner's.
    pub(crate) fn phone(&self) -> Friend {
        self.baileys(OWNER)
    }

    /// A Baileys, linked and online.
    pub(super) fn baileys(&self, phone: &str) -> Friend {
        part("CLAW_TEST_BAILEYS");
        let mut friend = Friend::start();
        friend.connect(&self.server.url(), &self.server.root_key(), Some(&self.server.http_url()));
        let qr = friend.qr();
        self.server.scan(phone, &qr).expect("the code is good");
        friend.online();
        friend
    }

    /// A group of the two, which the folder `lunch` answers when it is called by name.
    pub(crate) fn group(&self, addressing: Addressing) -> String {
        let group = self.server.group("Lunch", &[OWNER, ADA], addressing);
        self.home.run(&["register-group", "--jid", &group, "--folder", "lunch"]).ok();
        group
    }

    /// The private chat with Ada, by number or by hidden id, which the folder `ada` answers.
    pub(crate) fn private(&self, jid: &str) {
        let args = ["register-group", "--jid", jid, "--folder", "ada", "--no-trigger-required"];
        self.home.run(&args).ok();
    }
}
