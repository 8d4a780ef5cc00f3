//! How many requests a group may have handled: a token bucket. Pure.

use std::time::{Duration, Instant};

use crate::limits::{IPC_BURST_MAX, IPC_REQUESTS_PER_SECOND};

/// What one group may still have handled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(now: Instant) -> Bucket {
        Bucket { tokens: f64::from(IPC_BURST_MAX), at: now }
    }

    /// How many there are now.
    pub(super) fn available(&mut self, now: Instant) -> usize {
        let grown = now.saturating_duration_since(self.at).as_secs_f64();
        let tokens = self.tokens + grown * f64::from(IPC_REQUESTS_PER_SECOND);
        self.tokens = tokens.min(f64::from(IPC_BURST_MAX));
        self.at = now;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to burst")]
        let whole = self.tokens as usize;
        whole
    }

    /// Takes `count`, of those that are available.
    pub(super) fn take(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.tokens = (self.tokens - f64::from(count)).max(0.0);
    }

    /// Whether there is so much that nobody needs to remember it.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.available(now) >= IPC_BURST_MAX as usize
    }
}

/// After this a bucket that was empty is worth another look.
pub(super) const REFILL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_steady_flow() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        assert_eq!(1000, bucket.available(start));
        bucket.take(1000);
        assert_eq!(0, bucket.available(start));
        assert_eq!(100, bucket.available(start + Duration::from_secs(1)));
        assert!(!bucket.is_full(start + Duration::from_secs(9)));
        assert!(bucket.is_full(start + Duration::from_mins(1)));
        assert_eq!(1000, bucket.available(start + Duration::from_mins(1)));
    }

    #[test]
    fn in_any_window_no_more_than_burst_and_flow() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let mut handled = 0;
        for ms in 0..10_000 {
            let count = bucket.available(start + Duration::from_millis(ms)).min(32);
            bucket.take(count);
            handled += count;
        }
        assert!((1990..=2000).contains(&handled), "{handled}");
    }
}
