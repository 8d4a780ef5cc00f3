//! A message comes in, the agent answers, its name stands before the answer.

use super::home;

#[test]
fn main_answers_everything_and_thoughts_are_not_said() {
    let home = home();
    let daemon = home.start();
    let done = home.run(&["ask", "hello nano:aloud"]).ok();
    assert_eq!("said: hello nano:aloud\n", done);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn the_name_stands_before_an_answer_unless_the_number_is_its_own() {
    for (own, expected) in [("false", "Kit: said: hi"), ("true", "said: hi")] {
        let home = home().env("ASSISTANT_NAME", "Kit").env("ASSISTANT_HAS_OWN_NUMBER", own);
        let chat = home.register("family");
        let daemon = home.start();
        home.inject(&chat, "hi");
        home.wait_answers(&chat, &[expected]);
        assert_eq!(Some(0), daemon.stop());
    }
}
