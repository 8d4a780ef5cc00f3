//! What was answered is not answered again; what failed is tried again, with all that belongs to it.

use super::home;

#[test]
fn an_answer_settles_and_a_failure_does_not() {
    let home = home();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "one");
    home.wait_answers(&chat, &["Andy: said: one"]);
    assert_eq!(Some(0), daemon.stop());
    let daemon = home.start();
    home.inject(&chat, "two nano:fail-once");
    home.wait_answers(&chat, &["Andy: said: one", "Andy: said: two nano:fail-once"]);
    let states = "SELECT state FROM runs ORDER BY id LIMIT 2";
    assert_eq!(["succeeded", "failed"], *home.texts(states));
    assert_eq!(Some(0), daemon.stop());
}
