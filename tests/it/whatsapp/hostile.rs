//! A server that means harm: it may keep us from WhatsApp, and from nothing else.

use std::time::Duration;

use rust_claw_fake_whatsapp::{Fault, Hostile};

use super::{ADA, OWNER, World};
use crate::support::{Kind, wait_longer};

/// Within it the program has made as many attempts as it may in a minute, or has noticed silence.
const MINUTE: Duration = Duration::from_mins(1);

/// Meets `hostile` twice, or once where the connection outlasts it; then all is well again.
fn check(hostile: Hostile) {
    let world = World::linked(Kind::Fake);
    world.private(&world.ada.pn.to_string());
    world.home.register("other");
    let mut daemon = world.start();
    let harmed = || world.server.journal(|journal| journal.harmed);
    world.server.fault(Fault::Hostile(hostile));
    if hostile.is_early() {
        world.server.fault_for(OWNER, Fault::Hangup);
        wait_longer(MINUTE, "a second harm", || 2 <= harmed());
    } else {
        wait_longer(MINUTE, "a harm", || 1 <= harmed());
    }
    world.check_others("are you there?");
    world.server.fault(Fault::Heal);
    // A connection that has met it may be of no more use; that is noticed by its silence.
    world.server.say_text(ADA, OWNER, "and you?");
    wait_longer(2 * MINUTE, "an answer", || world.ada_sees() == ["Andy: echo: and you?"]);
    world.check_others("still?");
    assert!(daemon.is_alive());
    assert_eq!(1, world.server.max_connections_at_once(OWNER));
    assert_eq!(Some(0), daemon.stop());
    let log = world.home.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn noise_in_place_of_the_upgrade_ends_nothing() {
    check(Hostile::Upgrade);
}

#[test]
fn an_upgrade_without_end_ends_nothing() {
    check(Hostile::Header);
}

#[test]
fn noise_in_place_of_the_handshake_ends_nothing() {
    check(Hostile::Hello);
}

#[test]
fn a_message_longer_than_memory_ends_nothing() {
    check(Hostile::Length);
}

#[test]
fn half_a_frame_of_the_largest_size_ends_nothing() {
    check(Hostile::Frame);
}

#[test]
fn noise_after_the_login_ends_nothing() {
    check(Hostile::Frames);
}

#[test]
fn well_encrypted_noise_ends_nothing() {
    check(Hostile::Sealed);
}

#[test]
fn five_thousand_stanzas_without_sense_end_nothing() {
    check(Hostile::Stanzas);
}
