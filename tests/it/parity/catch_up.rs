//! What came while nobody served is answered at the start, all of a chat together.

use super::home;

#[test]
fn what_came_meanwhile_is_one_prompt_per_chat() {
    let home = home();
    let (a, b) = (home.register("a"), home.register("b"));
    home.inject_all(&[(&a, "one"), (&b, "other"), (&a, "two")]);
    let daemon = home.start();
    home.wait_answers(&a, &["Andy: said: one | two"]);
    home.wait_answers(&b, &["Andy: said: other"]);
    assert_eq!(Some(0), daemon.stop());
}
