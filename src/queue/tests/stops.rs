//! Ends: of groups, of the queue, of runs that nobody knows.

use super::*;

#[test]
fn removed_group_is_closed_and_leaves_nothing_behind() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message a/y
        0 due a:t
        1 message b/x
        1 remove b
        2 remove a          -> close 1
        2 remove a
        3 remove c
        4 end 1 badly pending
        99 tick
        100 message a/x     -> start 2 a/x
        100 end 2 badly pending
        101 remove a
        102 message a/x     -> start 3 a/x
        ",
    );
}

#[test]
fn group_that_was_made_anew_waits_for_the_old_run_to_end() {
    check(
        5,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message a/x       -> feed 1
        1 remove a          -> close 1
        2 message a/x
        2 fed 1 busy
        3 end 1 badly pending -> start 2 a/x
        4 end 2 well
        5 message a/x       -> start 3 a/x
        6 remove a          -> close 3
        7 end 3 no-engine pending -> ask engine (gone)
        8 ready
        9 due a:t           -> start 4 a:t
        10 remove a         -> close 4
        11 end 4 no-engine  -> ask engine (gone)
        99 ready
        ",
    );
}

#[test]
fn stop_closes_then_kills_and_ends_when_all_have_ended() {
    check(
        3,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        0 message b/x       -> start 2 b/x
        0 message c/x       -> start 3 c/x
        1 turn 2 idle
        2 remove c          -> close 3
        3 stop              -> close 1, close 2
        3 stop
        4 message a/x
        4 message d/x
        4 due a:t
        4 turn 1 idle
        5 end 2 badly pending
        12 tick
        13 tick             -> kill 1, kill 3
        14 stop-now
        15 end 3 refused pending
        15 end 3 well
        16 end 1 well       -> stopped
        17 message a/x
        17 stop
        17 stop-now
        ",
    );
}

#[test]
fn stop_now_kills_also_during_a_stop() {
    for (first, effects) in [("stop", "close 1"), ("tick", "")] {
        check(
            1,
            &format!(
                "
                0 ready
                0 message a/x   -> start 1 a/x
                1 {first}       -> {effects}
                2 stop-now      -> kill 1
                2 stop-now
                99 stop
                99 end 1 badly pending -> stopped
                "
            ),
        );
    }
}

#[test]
fn stop_of_a_queue_without_runs_is_immediate() {
    for stop in ["stop", "stop-now"] {
        check(1, &format!("0 message a/x\n 1 {stop} -> stopped\n 2 ready"));
    }
}

#[test]
fn reports_of_runs_that_ended_are_ignored() {
    check(
        1,
        "
        0 ready
        0 message a/x       -> start 1 a/x
        1 end 1 well
        1 end 1 badly pending
        2 turn 1 idle
        2 fed 1 idle
        3 message a/x       -> start 2 a/x
        4 turn 1 idle
        5 message b/x
        ",
    );
}

#[test]
fn snapshot_tells_who_waits_runs_and_failed() {
    let mut queue = Queue::new(limits(2, 0));
    let at = |seconds| Uptime(Duration::from_secs(seconds));
    for (seconds, event) in [
        (0, "ready"),
        (0, "message d/x"),
        (1, "end 1 badly pending"),
        (1, "message a/x"),
        (2, "message b/x"),
        (3, "message c/y"),
        (3, "due c:t"),
        (3, "message a/y"),
        (3, "turn 3 idle"),
    ] {
        queue.step(at(seconds), parse(event));
    }
    let waiting = |group: &str, tasks: &[&str], chat: &str| WaitingGroup {
        group: folder(group),
        tasks: tasks.iter().map(|&id| id.to_owned()).collect(),
        chats: vec![chat_of(group, chat)],
    };
    let run = |run, group: &str, phase, phase_age| RunStatus {
        run: RunKey(run),
        group: folder(group),
        work: Work::Chat(chat_of(group, "x")),
        phase,
        phase_age: Duration::from_secs(phase_age),
    };
    let expected = Snapshot {
        engine_is_ready: true,
        is_stopping: false,
        waiting: vec![waiting("c", &["t"], "y"), waiting("a", &[], "y")],
        runs: vec![run(2, "a", Phase::Busy, 3), run(3, "b", Phase::Closing, 1)],
        retries: vec![RetryStatus {
            group: folder("d"),
            chat: chat_of("d", "x"),
            failure_count: 1,
            is_pending: true,
            remaining: Duration::from_secs(2),
        }],
    };
    assert_eq!(expected, queue.snapshot(at(4)));
}
