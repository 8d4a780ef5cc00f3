//! An engine that is not there, or says that it is.

use super::check;

#[test]
fn h29_nothing_starts_until_the_engine_is_there() {
    check(
        2,
        "
        0 message a/x
        0 message b/x
        0 due c:t
        60 ready            -> start 1 a/x, start 2 b/x
        61 down
        62 end 1 well
        63 message a/x
        64 message b/x      -> feed 2
        65 ready            -> start 3 c:t
        ",
    );
}

#[test]
fn h29_run_that_finds_no_engine_costs_no_retry() {
    check(
        2,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 due b:t           -> start 2 b:t
        1 end 1 no-engine pending -> ask engine (gone)
        1 end 2 no-engine
        8 ready             -> start 3 a/x, start 4 b:t
        9 end 3 badly pending
        9 end 4 well
        13 tick
        14 tick             -> start 5 a/x
        ",
    );
}

#[test]
fn h29_engine_that_answers_but_starts_nothing_is_asked_at_a_bounded_rate() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 end 1 no-engine pending -> ask engine (gone)
        0 ready
        1 tick              -> start 2 a/x
        1 end 2 no-engine pending -> ask engine (gone)
        1 ready
        2 message b/x
        3 tick              -> start 3 a/x
        4 end 3 well        -> start 4 b/x
        4 end 4 no-engine pending -> ask engine (gone)
        5 ready             -> start 5 b/x
        ",
    );
}

#[test]
fn h29_engine_is_asked_at_least_once_a_minute() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 end 1 no-engine pending -> ask engine (gone)
        0 ready
        0 message a/x
        1 tick              -> start 2 a/x
        1 end 2 no-engine pending -> ask engine (gone)
        1 ready
        2 message a/x
        3 tick              -> start 3 a/x
        3 end 3 no-engine pending -> ask engine (gone)
        3 ready
        6 message a/x
        7 tick              -> start 4 a/x
        7 end 4 no-engine pending -> ask engine (gone)
        7 ready
        14 message a/x
        15 tick             -> start 5 a/x
        15 end 5 no-engine pending -> ask engine (gone)
        15 ready
        30 message a/x
        31 tick             -> start 6 a/x
        31 end 6 no-engine pending -> ask engine (gone)
        31 ready
        62 message a/x
        63 tick             -> start 7 a/x
        63 end 7 no-engine pending -> ask engine (gone)
        63 ready
        122 message a/x
        123 tick            -> start 8 a/x
        123 end 8 no-engine pending -> ask engine (gone)
        123 ready
        182 message a/x
        183 tick            -> start 9 a/x
        ",
    );
}

#[test]
fn h29_engine_that_goes_neither_ends_nor_lengthens_a_streak() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 end 1 badly pending
        5 tick              -> start 2 a/x
        5 end 2 no-engine pending -> ask engine (gone)
        10 ready            -> start 3 a/x
        10 end 3 badly pending
        19 tick
        20 tick             -> start 4 a/x
        ",
    );
}
