//! The link: what ends a connection ends nothing else, and it comes back by itself or says what a
//! person must do.

use std::time::Duration;

use rusqlite::Connection;
use rust_claw_fake_whatsapp::Fault;
use serde_json::json;

use super::{ADA, OWNER, World};
use crate::support::{Kind, wait_for, wait_longer};

impl World {
    pub(super) fn logins(&self) -> usize {
        self.server.connections().iter().filter(|connection| connection.logged_in).count()
    }

    /// Waits for a further login; a person cuts the pauses short.
    pub(super) fn wait_login(&self, before: usize) {
        wait_for("a further login", || {
            let shown = self.state("whatsapp");
            if matches!(shown["state"].as_str(), Some("backoff" | "replaced" | "outdated")) {
                self.home.run(&["reconnect"]);
            }
            before < self.logins() && shown["state"] == "online"
        });
    }

    fn wait_state(&self, expected: &str) {
        wait_for(expected, || self.state("whatsapp")["state"] == expected);
    }

    /// That the terminal and the scripts are served as ever.
    pub(super) fn check_others(&self, text: &str) {
        let before = self.home.answers("script:other").len();
        self.home.inject("script:other", text);
        wait_for("an answer elsewhere", || before < self.home.answers("script:other").len());
    }

    fn notices(&self) -> Vec<String> {
        self.home.texts("SELECT text FROM outbox WHERE kind = 'notice' ORDER BY id")
    }
}

#[test]
fn h62_every_code_of_the_server_is_survived_with_one_connection_at_a_time() {
    let world = World::linked(Kind::Fake);
    let daemon = world.start();
    for fault in [
        Fault::StreamError(428),
        Fault::StreamError(499),
        Fault::StreamError(500),
        Fault::StreamError(503),
        Fault::StreamError(515),
        Fault::Hangup,
        Fault::Close,
        Fault::CloseWith(1011),
    ] {
        let before = world.logins();
        world.server.fault_for(OWNER, fault);
        wait_for("the end to be noticed", || {
            world.state("whatsapp")["state"] != "online" || before < world.logins()
        });
        world.wait_login(before);
    }
    assert_eq!(1, world.server.max_connections_at_once(OWNER));
    let attempts = world.server.attempts();
    let minute = Duration::from_mins(1);
    for from in &attempts {
        let count = attempts.iter().filter(|at| (*from..*from + minute).contains(at)).count();
        // Those of `pair` and of the daemon are two programs.
        assert!(count <= 20, "{count} attempts within a minute");
    }
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h62_replaced_is_said_and_mended_by_reconnect() {
    let world = World::linked(Kind::Fake);
    let daemon = world.start();
    world.server.fault_for(OWNER, Fault::Replace);
    world.wait_state("replaced");
    assert!(world.notices().iter().any(|text| text.contains("rust-claw reconnect")));
    let before = world.logins();
    world.wait_login(before);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h62_a_frozen_server_is_noticed_within_a_minute() {
    let world = World::linked(Kind::Fake);
    let daemon = world.start();
    world.server.fault(Fault::Freeze);
    wait_longer(Duration::from_mins(1), "that it is noticed", || {
        world.state("whatsapp")["state"] != "online"
    });
    world.server.fault(Fault::Thaw);
    world.wait_login(world.logins());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h63_a_refused_version_is_said_and_mended_by_reconnect() {
    let world = World::linked(Kind::Fake);
    world.server.fault(Fault::Failure(405));
    let daemon = world.home.start();
    world.wait_state("outdated");
    let shown = world.home.run(&["status"]).ok();
    assert!(shown.contains("outdated") && shown.contains("WHATSAPP_VERSION"), "{shown}");
    world.server.fault(Fault::Heal);
    let before = world.logins();
    world.wait_login(before);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h64_unlinked_on_the_phone_is_told_once_and_mended_without_a_restart() {
    let world = World::linked(Kind::Fake);
    world.home.register("other");
    let daemon = world.start();
    let device = world.server.companions(OWNER)[0].device;
    world.server.unlink(OWNER, device);
    world.wait_state("needs-pairing");
    world.check_others("are you there?");
    let told = || world.notices().iter().filter(|text| text.contains("rust-claw pair")).count();
    assert_eq!(1, told());
    assert_eq!(Some(0), daemon.stop());
    // The service manager starts it again, and again.
    let mut daemon = world.home.start();
    world.check_others("and now?");
    assert_eq!(1, told(), "once");
    assert_eq!(json!("needs-pairing"), world.state("whatsapp")["state"]);
    world.pair();
    world.wait_online();
    assert!(daemon.is_alive(), "it was not restarted for that");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h65_a_server_that_is_down_at_the_start_holds_up_nothing() {
    let world = World::linked(Kind::Fake);
    world.home.register("other");
    world.server.fault(Fault::Refuse(true));
    let daemon = world.home.start();
    world.check_others("are you there?");
    world.wait_state("backoff");
    world.server.fault(Fault::Refuse(false));
    let before = world.logins();
    world.wait_login(before);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn a_link_that_fails_is_made_again_and_nothing_else_notices() {
    let world = World::linked(Kind::Fake);
    world.private(&world.ada.pn.to_string());
    world.home.register("other");
    let mut daemon = world.start();
    // It cannot go on where it cannot say how it stands.
    world.home.edit(
        "CREATE TRIGGER broken BEFORE INSERT ON state WHEN new.key = 'whatsapp'
         BEGIN SELECT RAISE(ABORT, 'broken'); END",
    );
    world.server.fault_for(OWNER, Fault::Hangup);
    let line = daemon.wait_line("the thread `whatsapp` begins again in ");
    assert!(line.contains("5 s") && line.contains("broken"), "{line}");
    world.check_others("are you there?");
    daemon.wait_line("begins again in 10 s");
    world.home.edit("DROP TRIGGER broken");
    world.server.say_text(ADA, OWNER, "and you?");
    wait_for("an answer", || world.ada_sees() == ["Andy: echo: and you?"]);
    assert!(daemon.is_alive());
    assert_eq!(1, world.server.max_connections_at_once(OWNER));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn a_message_that_cannot_be_stored_comes_again_as_soon_as_it_can() {
    let world = World::linked(Kind::Fake);
    world.private(&world.ada.pn.to_string());
    let daemon = world.start();
    world.server.say_text(ADA, OWNER, "one");
    wait_for("an answer", || world.ada_sees() == ["Andy: echo: one"]);
    // No constraint, which would be the message's own fault.
    let fails = "BEGIN SELECT abs(-9223372036854775807 - 1); END";
    let open = |name| Connection::open(world.home.at("store").join(name)).expect("it is there");
    let (store, keys) = (open("messages.db"), open("whatsapp.db"));
    for (text, database, refuse) in [
        // What the program stores, and what the library keeps until then.
        ("two", &store, "CREATE TRIGGER fails BEFORE INSERT ON messages"),
        ("three", &keys, "CREATE TRIGGER fails BEFORE INSERT ON entry WHEN new.kind = 'pending'"),
    ] {
        database.execute_batch(&format!("{refuse} {fails}")).expect("a trigger");
        let (before, count) = (world.logins(), world.ada_sees().len());
        world.server.say_text(ADA, OWNER, text);
        wait_for("that the connection ends", || {
            world.state("whatsapp")["reason"] == "a message cannot be stored"
        });
        database.execute_batch("DROP TRIGGER fails").expect("it is there");
        world.wait_login(before);
        wait_for("its answer", || count < world.ada_sees().len());
        assert_eq!([format!("Andy: echo: {text}")], world.ada_sees()[count..]);
    }
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h67_a_new_name_outlives_a_crash_and_the_phone_rings_on() {
    let world = World::linked(Kind::Fake);
    let daemon = world.start();
    let shown = || -> Vec<bool> {
        world.server.journal(|journal| journal.presences.iter().map(|one| one.available).collect())
    };
    wait_for("that the phone may ring", || shown().last() == Some(&false));
    let before = shown().len();
    world.server.rename(OWNER, "Olga the Great");
    // The library says that we are there whenever the name changes.
    wait_for("that the phone may ring again", || shown()[before..] == [true, false]);
    daemon.kill();
    let daemon = world.home.start();
    wait_for("the name", || world.state("whatsapp")["name"] == "Olga the Great");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn keys_that_cannot_be_read_are_kept_and_read_later() {
    let world = World::linked(Kind::Fake);
    world.home.register("other");
    let (keys, aside) = (world.home.at("store/whatsapp.db"), world.home.at("aside.db"));
    std::fs::rename(&keys, &aside).expect("it is there");
    std::fs::write(&keys, "no database").expect("a file");
    let daemon = world.home.start();
    world.check_others("are you there?");
    world.wait_state("off");
    let shown = world.home.run(&["status"]).ok();
    assert!(shown.contains("the keys of WhatsApp cannot be read"), "{shown}");
    assert_eq!("no database", std::fs::read_to_string(&keys).expect("it is there"));
    std::fs::rename(&aside, &keys).expect("it is there");
    world.wait_online();
    assert_eq!(Some(0), daemon.stop());
}
