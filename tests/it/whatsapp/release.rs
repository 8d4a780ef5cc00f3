//! The program as it is shipped. It checks the server's certificate, which no test can sign; but a
//! device that is linked already resumes with the key that it knows, and that needs none.

use rust_claw_fake_whatsapp::Addressing;
use serde_json::Value;

use super::{World, e2e};
use crate::support::{Home, Kind, Model, part, wait_for};

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

#[cfg(target_os = "linux")]
#[test]
fn the_release_program_waits_in_ten_megabytes() {
    let mut home = Home::new();
    home.use_program(&part("CLAW_TEST_RELEASE"));
    for number in 1..10 {
        home.register(&format!("g{number}"));
    }
    let daemon = home.start();
    wait_for("the engine", || home.json(&["status", "--json"])["engine"]["state"] == "ready");
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("a process");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib <= 10 * 1024, "{kib} KiB; see what `make layout` makes of it");
    assert_eq!(Some(0), daemon.stop());
}
