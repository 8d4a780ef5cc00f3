//! Its folder comes over, and its own runner goes on where it was. More in `crate::import`.

use super::home;
use crate::support::nanoclaw::{FAMILY, MAIN, NanoClaw};
use crate::support::wait_for;

#[test]
fn after_the_move_just_the_unanswered_is_answered_in_the_same_session() {
    let home = home();
    let old = NanoClaw::lived_in(&home.path("old"));
    old.message(MAIN, "m4", 22, "nano:session", 1, 0);
    home.run(&["import", &old.path().display().to_string()]).ok();
    let daemon = home.start();
    wait_for("both answers", || !home.answers(MAIN).is_empty() && !home.answers(FAMILY).is_empty());
    assert_eq!(["Andy: session: \"6f1c0c56-0000-4000-8000-000000000001\""], *home.answers(MAIN));
    assert_eq!(["Andy: said: and milk? | @Andy milk too?"], *home.answers(FAMILY));
    assert_eq!(Some(0), daemon.stop());
}
