//! What an earlier life left running is ended at the start; what is another program's is not.

use std::fs;

use super::home;
use crate::support::wait_for;

#[test]
fn containers_left_by_an_earlier_life_are_removed() {
    let home = home();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "hi");
    home.wait_runs("idle", 1);
    daemon.kill();
    let containers = home.path("engine/containers");
    let name = |path: &std::path::PathBuf| {
        path.file_name().expect("it has one").to_string_lossy().into_owned()
    };
    let left: Vec<String> = crate::support::entries(&containers).iter().map(name).collect();
    assert_eq!(1, left.len(), "it outlives the daemon: {left:?}");
    fs::write(containers.join("nanoclaw-a-1"), "0 other=1").expect("a file");
    let daemon = home.start();
    wait_for("the sweep", || !containers.join(&left[0]).exists());
    assert!(containers.join("nanoclaw-a-1").exists());
    assert_eq!(Some(0), daemon.stop());
}
