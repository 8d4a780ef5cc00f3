//! `MAX_CONCURRENT_CONTAINERS` at a time; who waits is served when one ends.

use super::home;
use crate::support::wait_for;

#[test]
fn at_most_so_many_at_a_time_and_everybody_in_the_end() {
    let home = home().env("MAX_CONCURRENT_CONTAINERS", "1");
    let chats: Vec<String> = (0..4).map(|n| home.register(&format!("g{n}"))).collect();
    let all: Vec<(&str, &str)> = chats.iter().map(|chat| (chat.as_str(), "hi")).collect();
    home.inject_all(&all);
    let daemon = home.start();
    let mut most = 0;
    wait_for("four answers", || {
        most = most.max(home.containers().len());
        home.number("SELECT count(DISTINCT jid) FROM outbox") == 4
    });
    assert!(most <= 1, "{most} at a time");
    assert_eq!(Some(0), daemon.stop());
}
