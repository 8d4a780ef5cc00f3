//! What one chat's failures lead to: when it is tried again, when it is given up, who is told.

use super::{FailureKind, Limits, Uptime};

/// Failures of one chat in a row. Exists from the first one until a run succeeds, or until nothing
/// is left to try and the last pause is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Retry {
    /// In this streak; 0 after giving up.
    pub(super) failure_count: u32,
    /// No run before that; `None` once it has passed.
    pub(super) until: Option<Uptime>,
    /// Messages wait for `until`.
    pub(super) is_pending: bool,
    /// The chat was told in this streak what is wrong.
    is_noticed: bool,
}

/// What one more failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Tried again later; with `notice`, the chat is told now.
    Again { notice: bool },
    /// Enough; with `notice`, the chat is told now.
    GiveUp { attempts: u32, notice: bool },
}

impl Retry {
    /// Counts a failure that leaves messages unanswered.
    pub(super) fn count(&mut self, now: Uptime, kind: FailureKind, limits: &Limits) -> Verdict {
        self.failure_count += 1;
        if self.failure_count > limits.retries_max {
            let attempts = self.failure_count;
            let notice = !self.is_noticed;
            // The pause holds after giving up too: otherwise steady messages would start a failing
            // agent without end, a full streak at a time.
            let until = now.plus(pause(limits.retries_max, limits));
            *self = Retry { until: Some(until), ..Retry::default() };
            return Verdict::GiveUp { attempts, notice };
        }
        self.until = Some(now.plus(pause(self.failure_count, limits)));
        self.is_pending = true;
        // Only a person can mend these, so there is no point in waiting for the last retry.
        let by_person = matches!(kind, FailureKind::Credential | FailureKind::Billing);
        let notice = by_person && !self.is_noticed;
        self.is_noticed |= notice;
        Verdict::Again { notice }
    }
}

/// The pause after the `failure_count`-th failure in a row: doubles, never wraps.
fn pause(failure_count: u32, limits: &Limits) -> std::time::Duration {
    doubled(limits.retry_first, failure_count)
}

/// `first` for the first time, twice that for the second, and so on.
pub(super) fn doubled(first: std::time::Duration, nth: u32) -> std::time::Duration {
    first.saturating_mul(2_u32.saturating_pow(nth.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn pauses_double_and_never_wrap() {
        let pauses = [0, 1, 2, 5, 40].map(|nth| doubled(Duration::from_secs(5), nth).as_secs());
        assert_eq!([5, 5, 10, 80, 5 * u64::from(u32::MAX)], pauses);
        assert_eq!(Duration::MAX, doubled(Duration::MAX, 2));
        assert_eq!(Uptime(Duration::MAX), Uptime(Duration::MAX).plus(Duration::MAX));
    }
}
