//! The program as it is shipped. It checks the server's certificate, which no test can sign; but a
//! device that is linked already resumes with the key that it knows, and that needs none.

use rust_claw_fake_whatsapp::Addressing;
use serde_json::Value;

use super::{World, e2e};
use crate::support::{Kind, Model, part, wait_for};

#[test]
fn baileys_claude_cli_under_bwrap_is_answered_by_the_release_program() {
    let mut world = World::linked(Kind::Bwrap);
    let _model = Model::start(&mut world.home);
    world.home.use_program(&part("CLAW_TEST_RELEASE"));
    let group = world.group(Addressing::Lid);
    let mut friend = world.friend();
    let daemon = world.start();
    e2e::check(&mut friend, &group, &group, "@Andy\nSAY Soup.", "Andy: Soup.");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn the_release_program_shows_no_code_of_a_server_that_cannot_prove_itself() {
    let mut world = World::new(Kind::Fake);
    world.home.use_program(&part("CLAW_TEST_RELEASE"));
    let daemon = world.home.start();
    world.ask_to_pair();
    wait_for("a second attempt", || 2 <= world.server.attempts().len());
    assert_eq!(Value::Null, world.state("whatsapp.pairing")["qr"]);
    assert!(world.server.connections().iter().all(|each| !each.logged_in));
    assert_eq!(Some(0), daemon.stop());
}
