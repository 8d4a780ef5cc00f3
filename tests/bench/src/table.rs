//! What is printed: one line per figure, with the bound and what the reference system measured.

use std::io::{self, Write};
use std::time::Duration;

use crate::Outcome;

/// One line of the table.
pub(crate) struct Row<'a> {
    pub(crate) what: &'a str,
    pub(crate) measured: String,
    pub(crate) must: &'a str,
    pub(crate) reference: &'a str,
}

/// Prints a heading.
pub(crate) fn head(what: &str) -> Outcome<()> {
    line(what, "measured", "must", "reference")?;
    note("|---|---|---|---|")
}

/// Prints a line, at once: the next one may take a minute.
pub(crate) fn row(row: &Row<'_>) -> Outcome<()> {
    line(row.what, &row.measured, row.must, row.reference)
}

fn line(what: &str, measured: &str, must: &str, reference: &str) -> Outcome<()> {
    let mut out = io::stdout();
    writeln!(out, "| {what:<76} | {measured:>30} | {must:>17} | {reference:>18} |")?;
    Ok(out.flush()?)
}

/// Prints a sentence between the lines.
pub(crate) fn note(text: &str) -> Outcome<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Durations in order, to be asked for their percentiles.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Times {
        times.sort_unstable();
        Times(times)
    }

    /// The time below which `percent` of them are.
    pub(crate) fn at(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.at(50)
    }

    /// `0.61 / 1.02 ms (n=100)`: median and 95th percentile.
    pub(crate) fn both(&self) -> String {
        format!("{} / {} (n={})", bare_ms(self.median()), ms(self.at(95)), self.0.len())
    }
}

pub(crate) fn ms(time: Duration) -> String {
    format!("{} ms", bare_ms(time))
}

fn bare_ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}

/// `12.3k`: how many in a second.
pub(crate) fn rate(count: usize, time: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let rate = count as f64 / time.as_secs_f64();
    format!("{:.1}k /s", rate / 1000.0)
}

/// Megabytes of what the kernel counts in KiB.
pub(crate) fn mb(kib: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let kib = kib as f64;
    kib * 1024.0 / 1e6
}
