//! How much of something may happen: a token bucket. Pure.

#[cfg(feature = "whatsapp")]
use std::time::Duration;
use std::time::Instant;

/// So many at once, and after that so many a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// At once.
    pub(crate) burst: u32,
    /// A second, once the burst is used up. More than zero.
    pub(crate) per_second: f64,
}

/// What is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: Instant) -> Bucket {
        Bucket { rate, tokens: f64::from(rate.burst), at: now }
    }

    /// How many there are now.
    pub(crate) fn available(&mut self, now: Instant) -> usize {
        let grown = now.saturating_duration_since(self.at).as_secs_f64();
        let tokens = self.tokens + grown * self.rate.per_second;
        self.tokens = tokens.min(f64::from(self.rate.burst));
        self.at = now;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to burst")]
        let whole = self.tokens as usize;
        whole
    }

    /// Takes `count`, of those that are available.
    pub(crate) fn take(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.tokens = (self.tokens - f64::from(count)).max(0.0);
    }

    /// How long until there is one.
    #[cfg(feature = "whatsapp")]
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        if self.available(now) > 0 {
            return Duration::ZERO;
        }
        // A bit more, since the sum of the parts may be less than the whole.
        Duration::from_secs_f64((1.0 - self.tokens) / self.rate.per_second)
            + Duration::from_millis(1)
    }

    /// Whether there is so much that nobody needs to remember it.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.available(now) >= self.rate.burst as usize
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate { burst: 1000, per_second: 100.0 };

    #[test]
    fn a_burst_then_a_steady_flow() {
        let start = Instant::now();
        let mut bucket = Bucket::full(RATE, start);
        assert_eq!(1000, bucket.available(start));
        bucket.take(1000);
        assert_eq!(0, bucket.available(start));
        assert_eq!(100, bucket.available(start + Duration::from_secs(1)));
        assert!(!bucket.is_full(start + Duration::from_secs(9)));
        assert!(bucket.is_full(start + Duration::from_mins(1)));
        assert_eq!(1000, bucket.available(start + Duration::from_mins(1)));
    }

    #[test]
    #[cfg(feature = "whatsapp")]
    fn who_waits_as_told_finds_one() {
        let start = Instant::now();
        let mut bucket = Bucket::full(Rate { burst: 1, per_second: 1.0 / 3.0 }, start);
        assert_eq!(Duration::ZERO, bucket.wait(start));
        bucket.take(1);
        let wait = bucket.wait(start);
        assert!((3.0..3.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(1, bucket.available(start + wait));
    }

    #[test]
    fn in_any_window_no_more_than_burst_and_flow() {
        let start = Instant::now();
        let mut bucket = Bucket::full(RATE, start);
        let mut handled = 0;
        for ms in 0..10_000 {
            let count = bucket.available(start + Duration::from_millis(ms)).min(32);
            bucket.take(count);
            handled += count;
        }
        assert!((1990..=2000).contains(&handled), "{handled}");
    }
}
