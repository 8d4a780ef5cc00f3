//! Many messages at once.

use rust_claw_fake_whatsapp::Addressing;

use super::World;
use crate::support::{Kind, wait_for};

const COUNT: i64 = 300;

/// Waits until what `from` … was sent is stored, and looks at the order.
fn check(world: &World, chat: &str, prefix: &str) {
    let stored = format!("FROM messages WHERE chat_jid = '{chat}' AND text LIKE '{prefix} %'");
    wait_for("all to be stored", || {
        world.home.number(&format!("SELECT count(*) {stored}")) == COUNT
    });
    let expected: Vec<String> = (0..COUNT).map(|number| format!("{prefix} {number}")).collect();
    assert_eq!(expected, world.home.texts(&format!("SELECT text {stored} ORDER BY seq")));
}

#[test]
fn baileys_sends_three_hundred_live_and_while_away_and_all_are_stored_in_order() {
    let world = World::linked(Kind::Fake);
    let group = world.group(Addressing::Lid);
    world.private(&world.ada.pn.to_string());
    let mut friend = world.friend();
    let daemon = world.start();
    friend.burst(&group, (0..COUNT).map(|number| format!("live {number}")));
    check(&world, &group, "live");
    assert_eq!(Some(0), daemon.stop());
    friend.burst(&group, (0..COUNT).map(|number| format!("away {number}")));
    let daemon = world.start();
    check(&world, &group, "away");
    assert_eq!(0, world.home.number("SELECT count(*) FROM runs"), "nobody called it");
    assert_eq!(Some(0), daemon.stop());
}
