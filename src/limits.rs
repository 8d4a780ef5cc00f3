//! Every limit and interval of the program, with its unit and its reason, and how they relate.

use std::time::Duration;

/// A poll of the database where no doorbell rang: the net under lost wake-ups.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Of one chat's messages, how many reach a prompt; older ones are counted in a line.
pub const PROMPT_MESSAGES_MAX: usize = 200;
/// Size of the messages of one prompt; older ones are counted in a line.
pub const PROMPT_BYTES_MAX: usize = 100_000;
/// Text of one stored message; the rest is cut off. `WhatsApp` itself ends at 65,536 characters.
pub const MESSAGE_BYTES_MAX: usize = 65_536;
/// Longest JSON line that `inject` reads.
pub const INJECT_LINE_BYTES_MAX: u64 = 256 * 1024;

/// First pause after a failed run; doubles with each further failure.
pub const RETRY_FIRST: Duration = Duration::from_secs(5);
/// Retries after the first attempt; then a dead letter and one notice.
pub const RETRIES_MAX: u32 = 5;

/// From the polite request to end (`_close`, SIGTERM) to the kill.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// After a kill, how long an end may take to show before we go on without.
pub const KILL_GRACE: Duration = Duration::from_secs(5);
/// What the hard limit of a run keeps over the idle limit, so that `_close` always comes first.
pub const HARD_LIMIT_OVER_IDLE: Duration = Duration::from_secs(30);
/// After this the service manager kills us. Source: systemd `TimeoutStopSec`.
pub const SERVICE_STOP_MAX: Duration = Duration::from_secs(90);

/// Messages between a run's readers and its worker; a full channel holds the pipe back.
pub const RUN_EVENTS_MAX: usize = 256;
/// Messages on their way to the dispatcher; a full channel holds the sender back.
pub const DISPATCH_EVENTS_MAX: usize = 1024;
/// Most sandboxes at a time that a setting may ask for.
pub const CONCURRENT_RUNS_MAX: usize = 256;
/// Follow-ups that wait unread in one sandbox; further ones stay pending in the store.
pub const FOLLOW_UPS_MAX: usize = 64;

/// How often the containers that run are held against the runs that should.
pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(60);
/// First pause before a sandbox engine that did not answer is asked again; doubles.
pub const ENGINE_RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause between two such questions.
pub const ENGINE_RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a short command of an engine (`version`, `inspect`, `rm`) may take.
pub const ENGINE_COMMAND_MAX: Duration = Duration::from_secs(30);

/// First pause after a failed delivery; doubles.
pub const DELIVERY_RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause between two attempts at a delivery.
pub const DELIVERY_RETRY_MAX: Duration = Duration::from_secs(300);

/// Size of one log of the program before it is moved aside.
pub const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Size of the log of one run.
pub const RUN_LOG_BYTES_MAX: u64 = 1024 * 1024;

/// How long a statement waits for another process's transaction.
pub const DATABASE_BUSY_MAX: Duration = Duration::from_secs(10);

const _: () = {
    assert!(STOP_GRACE.as_secs() + 2 * KILL_GRACE.as_secs() < SERVICE_STOP_MAX.as_secs());
    // Every run can report its end even if nobody reads meanwhile.
    assert!(CONCURRENT_RUNS_MAX < DISPATCH_EVENTS_MAX);
    assert!(ENGINE_RETRY_FIRST.as_secs() <= ENGINE_RETRY_MAX.as_secs());
};
