//! After `IDLE_TIMEOUT` a container is asked to end by the file `_close`, and ends by itself.

use super::home;
use crate::support::wait_for;

#[test]
fn an_idle_container_is_closed_by_the_file() {
    let home = home().env("IDLE_TIMEOUT", "1000");
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "hi");
    wait_for("its end", || home.number("SELECT count(*) FROM runs WHERE state = 'succeeded'") == 1);
    let calls = home.engine_calls();
    assert!(!calls.contains("stop -t") && !calls.contains("rm --force"), "no kill: {calls}");
    assert!(!home.at("data/ipc/a/input/_close").exists());
    assert_eq!(Some(0), daemon.stop());
}
