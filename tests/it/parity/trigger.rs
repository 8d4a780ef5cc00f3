//! Beside main, `@Name` at the beginning wakes the assistant, in any case, as a whole word; what was
//! said before comes along.

use super::home;

#[test]
fn only_the_name_wakes_and_what_was_said_before_comes_along() {
    let home = home();
    let chat = "script:family";
    home.run(&["register-group", "--jid", chat, "--folder", "family"]).ok();
    let daemon = home.start();
    home.inject_all(&[(chat, "who buys bread?"), (chat, "@Andyman?"), (chat, "ask @Andy")]);
    home.inject(chat, "  @aNDY, who?");
    let answer = "Andy: said: who buys bread? | @Andyman? | ask @Andy |   @aNDY, who?";
    home.wait_answers(chat, &[answer]);
    assert_eq!(1, home.number("SELECT count(*) FROM runs"));
    assert_eq!(Some(0), daemon.stop());
}
