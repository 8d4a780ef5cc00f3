//! Who starts, is fed and is closed, and when.

use super::{check, check_with, limits};

#[test]
fn h04_follow_up_that_was_not_answered_is_served_again() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        1 message a/x       -> feed 1
        1 fed 1 busy
        2 turn 1 busy
        3 end 1 well pending -> start 2 a/x
        ",
    );
}

#[test]
fn h05_message_that_races_the_close_waits_for_the_next_run() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        1 turn 1 idle
        1801 tick           -> close 1
        1801 message a/x
        1802 turn 1 idle
        1803 end 1 well     -> start 2 a/x
        ",
    );
}

#[test]
fn h05_feed_that_meets_the_end_is_not_lost() {
    // The worker had looked into the store before the message was there.
    for end in ["well", "nothing"] {
        check(
            1,
            &format!(
                "
                0 ready
                0 message a/x       -> start 1 a/x
                1 message a/x       -> feed 1
                2 end 1 {end}       -> start 2 a/x
                3 end 2 nothing
                "
            ),
        );
    }
}

#[test]
fn h05_one_feed_at_a_time_and_none_forgotten() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        1 message a/x       -> feed 1
        1 message a/x
        1 message a/x
        2 fed 1 busy        -> feed 1
        3 fed 1 busy
        4 message a/x       -> feed 1
        4 message a/x
        4 end 1 well        -> start 2 a/x
        5 end 2 well
        ",
    );
}

#[test]
fn h06_task_takes_no_messages() {
    check(
        2,
        "
        0 ready
        0 due a:t           -> start 1 a:t
        1 message a/x
        2 turn 1 busy
        3 turn 1 idle       -> close 1
        4 message a/x
        5 end 1 well pending -> start 2 a/x
        6 message a/x       -> feed 2
        ",
    );
}

#[test]
fn h20_longest_idle_makes_room() {
    check(
        2,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message b/x       -> start 2 b/x
        5 turn 2 idle
        6 turn 1 idle
        9 message c/x       -> close 2
        9 message a/x       -> feed 1
        10 end 2 well       -> start 3 c/x
        ",
    );
}

#[test]
fn h20_a_run_that_is_ready_has_room_made_for_it() {
    check_with(
        limits(2, 1),
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message b/x       -> start 2 b/x
        1 message c/x       -> start 3 c/x
        2 message d/x
        3 turn 1 idle       -> close 1
        4 turn 2 idle       -> close 2
        5 end 1 well        -> start 4 d/x
        5 end 2 well
        6 message c/x       -> feed 3
        7 turn 4 idle
        ",
    );
}

#[test]
fn h20_one_is_closed_for_each_group_that_lacks_a_slot() {
    check(
        3,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message b/x       -> start 2 b/x
        0 message c/x       -> start 3 c/x
        1 turn 1 idle
        2 turn 2 idle
        3 turn 3 idle
        4 message d/x       -> close 1
        4 message d/y
        4 due d:t
        5 message e/x       -> close 2
        6 end 1 well        -> start 4 d:t
        7 end 2 well        -> start 5 e/x
        ",
    );
}

#[test]
fn h20_busy_one_is_never_closed_for_others_but_gets_no_more_work() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        1 message b/x
        2 message a/x
        3 turn 1 busy
        4 turn 1 idle       -> close 1
        5 end 1 well pending -> start 2 b/x
        6 turn 2 idle       -> close 2
        7 end 2 well        -> start 3 a/x
        ",
    );
}

#[test]
fn h20_groups_and_their_chats_take_turns() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message a/y
        0 message b/x
        0 message a/z
        0 message b/y
        1 message a/x
        2 end 1 well pending -> start 2 b/x
        3 end 2 well        -> start 3 a/y
        4 end 3 well        -> start 4 b/y
        5 end 4 well        -> start 5 a/z
        6 end 5 well        -> start 6 a/x
        7 end 6 well
        ",
    );
}

#[test]
fn h20_tasks_that_are_always_due_let_a_chat_through() {
    check(
        1,
        "
        0 ready
        0 due a:t           -> start 1 a:t
        1 due a:u
        1 message a/x
        2 end 1 well        -> start 2 a:u
        3 due a:t
        4 end 2 well        -> start 3 a:t
        5 due a:u
        6 end 3 well        -> start 4 a:u
        7 due a:t
        8 end 4 well        -> start 5 a/x
        9 turn 5 idle       -> close 5
        9 end 5 well        -> start 6 a:t
        ",
    );
}

#[test]
fn h20_what_was_kept_back_for_others_is_fed_when_they_have_room() {
    check(
        2,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message b/x       -> start 2 b/x
        1 message c/x
        2 message a/x
        3 end 2 well        -> start 3 c/x, feed 1
        ",
    );
}

#[test]
fn h21_task_closes_the_idle_run_of_its_group_and_goes_first() {
    check(
        5,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        1 message a/y
        2 turn 1 idle       -> close 1
        3 due a:t
        3 due a:t
        4 due a:u
        5 end 1 well        -> start 2 a:t
        6 turn 2 idle       -> close 2
        7 end 2 well        -> start 3 a:u
        8 end 3 badly       -> start 4 a/y
        9 turn 4 idle
        99 due a:t          -> close 4
        ",
    );
}

#[test]
fn h21_busy_run_is_not_closed_for_a_task() {
    check(
        5,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        1 due a:t
        2 message a/x
        99 turn 1 idle      -> close 1
        ",
    );
}

#[test]
fn h22_task_run_is_closed_as_soon_as_it_is_idle() {
    check(
        5,
        "
        0 ready
        0 due a:t           -> start 1 a:t
        9 turn 1 idle       -> close 1
        9 turn 1 idle
        ",
    );
}

#[test]
fn task_is_not_tried_again() {
    check(
        1,
        "
        0 ready
        0 due a:t           -> start 1 a:t
        1 end 1 badly pending
        999 tick
        ",
    );
}

#[test]
fn h23_every_end_of_a_turn_starts_the_idle_time() {
    check(
        5,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        1 turn 1 idle
        1000 message a/x    -> feed 1
        1001 fed 1 busy
        1010 turn 1 idle
        1500 turn 1 idle
        2811 tick
        3299 tick
        3300 tick           -> close 1
        9999 tick
        ",
    );
}

#[test]
fn h24_idle_time_ends_in_a_close_and_a_message_in_time_prevents_it() {
    check(
        5,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message b/x       -> start 2 b/x
        1 turn 1 idle
        1 turn 2 idle
        1801 message a/x    -> feed 1, close 2
        1801 fed 1 idle
        3600 tick
        3601 tick           -> close 1
        ",
    );
}

#[test]
fn h25_only_a_report_that_knows_of_the_feed_makes_idle() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        1 message a/x       -> feed 1
        2 turn 1 idle
        3 message b/x
        4 fed 1 busy
        9999 tick
        9999 turn 1 busy
        9999 turn 1 idle    -> close 1
        ",
    );
}

#[test]
fn h42_withdrawn_task_does_not_start() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 due a:t
        0 due b:t
        0 message a/x
        1 withdraw a:t      
        1 withdraw b:t      -> feed 1
        1 withdraw c:t
        2 fed 1 busy
        3 turn 1 idle
        4 due b:u           -> close 1
        5 end 1 well        -> start 2 b:u
        6 withdraw b:u
        7 end 2 well
        ",
    );
}
