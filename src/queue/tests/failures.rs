//! What follows a failure.

use super::check;

#[test]
fn h08_failure_after_an_answer_is_a_new_streak() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 end 1 badly pending
        5 tick              -> start 2 a/x
        5 end 2 badly-later pending
        9 tick
        10 tick             -> start 3 a/x
        10 end 3 badly pending
        19 tick
        20 tick             -> start 4 a/x
        20 end 4 well
        21 message a/x      -> start 5 a/x
        21 end 5 badly pending
        25 tick
        26 tick             -> start 6 a/x
        ",
    );
}

#[test]
fn h11_given_up_after_five_retries_with_one_notice() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 end 1 badly pending
        4 tick
        5 tick              -> start 2 a/x
        5 end 2 badly pending
        14 tick
        15 tick             -> start 3 a/x
        15 end 3 too-fast pending
        34 tick
        35 tick             -> start 4 a/x
        35 end 4 badly pending
        74 tick
        75 tick             -> start 5 a/x
        75 end 5 badly pending
        154 tick
        155 tick            -> start 6 a/x
        155 end 6 badly pending -> give up a/x after 6 and say so
        9999 tick
        9999 message a/x    -> start 7 a/x
        9999 end 7 badly pending
        10004 tick          -> start 8 a/x
        ",
    );
}

#[test]
fn h12_steady_messages_neither_shorten_a_pause_nor_reset_the_count() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 end 1 badly pending
        1 message a/x
        2 message a/x
        5 message a/x       -> start 2 a/x
        6 message a/x       -> feed 2
        6 end 2 badly pending
        7 message a/x
        15 message a/x
        16 tick             -> start 3 a/x
        16 end 3 badly pending
        36 tick             -> start 4 a/x
        36 end 4 badly pending
        76 tick             -> start 5 a/x
        76 end 5 badly pending
        156 tick            -> start 6 a/x
        156 end 6 badly pending -> give up a/x after 6 and say so
        157 message a/x
        235 message a/x
        236 tick            -> start 7 a/x
        236 end 7 badly pending
        240 message a/x
        241 tick            -> start 8 a/x
        ",
    );
}

#[test]
fn h12_pause_of_one_chat_holds_back_no_other_work() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message a/y
        0 end 1 badly pending -> start 2 a/y
        1 turn 2 idle
        2 message a/x
        3 message a/y       -> feed 2
        3 fed 2 idle
        5 tick              -> close 2
        6 due a:t
        7 end 2 well        -> start 3 a:t
        8 end 3 badly       -> start 4 a/x
        ",
    );
}

#[test]
fn h16_refused_credential_is_said_at_once_and_only_once() {
    for (end, kind) in [("refused", "Credential"), ("unpaid", "Billing")] {
        check(
            1,
            &format!(
                "
                0 ready
                0 message a/x       -> start 1 a/x
                0 end 1 badly pending
                5 tick              -> start 2 a/x
                5 end 2 {end} pending -> tell a/x {kind}
                15 tick             -> start 3 a/x
                15 end 3 {end} pending
                35 tick             -> start 4 a/x
                35 end 4 badly pending
                75 tick             -> start 5 a/x
                75 end 5 {end} pending
                155 tick            -> start 6 a/x
                155 end 6 {end} pending -> give up a/x after 6
                "
            ),
        );
    }
}

#[test]
fn h16_what_is_wrong_anew_is_said_anew() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 end 1 refused pending -> tell a/x Credential
        5 tick              -> start 2 a/x
        5 end 2 refused-later pending -> tell a/x Credential
        10 tick             -> start 3 a/x
        10 end 3 refused pending
        ",
    );
}

#[test]
fn h16_streak_after_giving_up_has_a_notice_of_its_own() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 end 1 refused pending -> tell a/x Credential
        5 tick              -> start 2 a/x
        5 end 2 refused pending
        15 tick             -> start 3 a/x
        15 end 3 refused pending
        35 tick             -> start 4 a/x
        35 end 4 refused pending
        75 tick             -> start 5 a/x
        75 end 5 refused pending
        155 tick            -> start 6 a/x
        155 end 6 refused pending -> give up a/x after 6
        160 message a/x
        235 tick            -> start 7 a/x
        235 end 7 refused pending -> tell a/x Credential
        ",
    );
}

#[test]
fn failure_that_leaves_nothing_pending_is_no_reason_to_try_again() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 end 1 refused
        1 message a/x       -> start 2 a/x
        1 end 2 badly pending
        6 tick              -> start 3 a/x
        7 message a/x       -> feed 3
        8 end 3 badly
        12 tick
        13 tick             -> start 4 a/x
        13 end 4 badly pending
        22 tick
        23 tick             -> start 5 a/x
        ",
    );
}

#[test]
fn run_that_finds_nothing_although_something_is_pending_does_not_spin() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 end 1 nothing pending
        4 tick
        5 tick              -> start 2 a/x
        5 end 2 nothing pending
        14 tick
        15 tick             -> start 3 a/x
        15 end 3 nothing
        16 message a/x      -> start 4 a/x
        ",
    );
}

#[test]
fn person_ends_the_pauses() {
    check(
        3,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message b/x       -> start 2 b/x
        0 message c/x       -> start 3 c/x
        0 end 1 badly pending
        0 end 2 badly pending
        0 end 3 well
        1 retry a           -> start 4 a/x
        2 retry             -> start 5 b/x
        3 end 4 badly pending
        7 tick
        8 tick              -> start 6 a/x
        ",
    );
}
