//! A container that says nothing for longer than its group's `timeout` is ended, and its messages
//! are not lost.

use super::home;
use crate::support::wait_for;

#[test]
fn one_that_hangs_is_ended_and_tried_again() {
    let home = home();
    let chat = home.register("a");
    home.edit("UPDATE groups SET container_config = '{\"timeout\":1000}' WHERE folder = 'a'");
    let daemon = home.start();
    home.inject(&chat, "x nano:hang");
    wait_for("its end", || home.number("SELECT count(*) FROM runs WHERE state = 'failed'") == 1);
    let error = home.texts("SELECT error FROM runs WHERE state = 'failed'");
    assert!(error[0].contains("longer than the group's 1 s"), "{error:?}");
    wait_for("the next attempt", || 1 < home.number("SELECT count(*) FROM runs"));
    daemon.kill();
}
