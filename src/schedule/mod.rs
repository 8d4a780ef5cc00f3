//! When a task runs: what its owner wrote, and the instants that this means.
//!
//! [`Schedule`] and all under it are pure: the time is an argument, nothing is stored, nothing
//! waits. Around it, [`Scheduler`] is the thread that waits for the next slot.
//!
//! A cron expression has crontab(5)'s meaning in the clocks of one zone. Where those clocks are
//! changed:
//! - A job of certain hours runs once for each time of day that it names. A time that the clocks
//!   skip is made up for at the first instant after the gap; one that they show twice counts the
//!   first time. cron(8) does the same for "jobs that run at a particular time".
//! - A job of every hour runs by what the clocks show, whenever they show it: it neither pauses
//!   for the hour that comes twice, nor runs for one that never came. cron(8) does this too.
//!
//! We count a job to the second kind when its hours are all 24. cron(8) looks for a leading star
//! in the hour or in the minute field instead, and so loses `0 */6 * * *` where midnight is
//! skipped, and runs `*/10 2 * * *` twelve times in the night that has two o'clock twice.

mod crontab;
pub mod duration;
mod next;
mod scheduler;
mod spec;
mod zone;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod next_tests;
#[cfg(test)]
mod oracle;

pub use crontab::CronSpec;
pub use next::{Missed, describe};
pub use scheduler::{Scheduler, claim_due};
pub use spec::{Invalid, Schedule};
