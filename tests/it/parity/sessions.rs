//! The session that the runner tells is the one that its group's next container continues.

use super::home;

#[test]
fn the_next_container_continues_the_session() {
    let home = home();
    let (a, b) = (home.register("a"), home.register("b"));
    for (chat, number, expected) in [(&a, 1, "null"), (&a, 2, "\"nano-1\""), (&b, 1, "null")] {
        let daemon = home.start();
        home.inject(chat, "nano:session");
        crate::support::wait_for("an answer", || home.answers(chat).len() == number);
        assert_eq!(format!("Andy: session: {expected}"), home.answers(chat)[number - 1]);
        assert_eq!(Some(0), daemon.stop());
    }
}
