//! Pure: what the end of a sandbox means for its run.

use rust_claw_protocol::ErrorKind;

use super::run::failed;
use crate::queue::{FailureKind, Outcome};
use crate::sandbox::{Ended, EndedBy};
use crate::store::{RunKind, RunState};

/// How the sandbox came to its end.
#[derive(Debug)]
pub(super) enum End {
    /// By itself or after `_close`.
    Exited(Ended),
    /// A limit was reached.
    OutOfTime(String),
    /// The dispatcher said so, or is gone.
    Killed,
}

/// What a run has come to, when its sandbox ends.
pub(super) struct Standing {
    /// A task is not tried again.
    pub(super) kind: RunKind,
    /// What it was asked is not answered in full.
    pub(super) is_owing: bool,
    /// `_close` was written.
    pub(super) was_asked_to_end: bool,
    /// Something was settled.
    pub(super) progress: bool,
    /// What the runner said of a turn that failed.
    pub(super) failure: Option<(ErrorKind, String)>,
}

impl Standing {
    /// Judges. `is_engine_gone` is asked where the sandbox's engine and not the agent failed.
    pub(super) fn judge(
        self,
        end: End,
        is_engine_gone: impl FnOnce() -> bool,
    ) -> (RunState, Outcome) {
        let progress = self.progress;
        if let Some((kind, error)) = self.failure {
            let kind = failure_kind(kind);
            return (RunState::Failed, Outcome::Failed { progress, kind, error });
        }
        match end {
            End::Killed => (RunState::Interrupted, Outcome::Succeeded),
            End::Exited(_) if !self.is_owing => (RunState::Succeeded, Outcome::Succeeded),
            End::OutOfTime(_) if self.was_asked_to_end && !self.is_owing => {
                (RunState::Succeeded, Outcome::Succeeded)
            }
            // Nobody asks a task to end before it is done but the end of the program.
            _ if self.kind == RunKind::Task && self.was_asked_to_end => {
                (RunState::Interrupted, Outcome::Succeeded)
            }
            // Nor a turn, but by an oversight: what it was to answer is pending again.
            End::OutOfTime(_) if self.was_asked_to_end => {
                (RunState::Interrupted, Outcome::Succeeded)
            }
            End::OutOfTime(why) => (RunState::Failed, failed(progress, &why)),
            // Asked to close while follow-ups lay there: they are pending again, nobody failed.
            End::Exited(ended) if ended.by == EndedBy::Code(0) && self.was_asked_to_end => {
                (RunState::Succeeded, Outcome::Succeeded)
            }
            End::Exited(ended) => {
                let why = match ended.complaint.trim() {
                    "" => format!("the agent ended without an answer ({})", ended.by),
                    said => format!("the agent ended without an answer ({}): {said}", ended.by),
                };
                let outcome = if ended.by == EndedBy::Code(ENGINE_FAILED) && is_engine_gone() {
                    Outcome::EngineDown(why)
                } else {
                    failed(progress, &why)
                };
                (RunState::Failed, outcome)
            }
        }
    }
}

/// Exit code of `docker run` and `podman run` where not the container but they themselves failed.
const ENGINE_FAILED: i32 = 125;

fn failure_kind(kind: ErrorKind) -> FailureKind {
    match kind {
        ErrorKind::Credential => FailureKind::Credential,
        ErrorKind::Billing => FailureKind::Billing,
        ErrorKind::RateLimit => FailureKind::RateLimit,
        ErrorKind::Overflow | ErrorKind::SessionUnknown | ErrorKind::Other => FailureKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(kind: RunKind, is_owing: bool, was_asked_to_end: bool) -> Standing {
        Standing { kind, is_owing, was_asked_to_end, progress: false, failure: None }
    }

    fn exited(code: i32) -> End {
        End::Exited(Ended { by: EndedBy::Code(code), complaint: String::new(), leaked: false })
    }

    fn check(expected: RunState, standing: Standing, end: End) {
        assert_eq!(expected, standing.judge(end, || false).0);
    }

    #[test]
    fn h39_a_task_that_was_cut_off_by_a_stop_is_interrupted_and_not_failed() {
        for end in [exited(0), exited(143), End::OutOfTime("late".into()), End::Killed] {
            check(RunState::Interrupted, standing(RunKind::Task, true, true), end);
        }
        for end in [exited(0), End::OutOfTime("late".into())] {
            check(RunState::Succeeded, standing(RunKind::Task, false, true), end);
        }
        // Not the program's end, but its own.
        check(RunState::Failed, standing(RunKind::Task, true, false), exited(0));
        check(
            RunState::Failed,
            standing(RunKind::Task, true, false),
            End::OutOfTime("late".into()),
        );
    }

    #[test]
    fn a_chat_that_was_cut_off_is_pending_again() {
        check(RunState::Succeeded, standing(RunKind::Chat, true, true), exited(0));
        let late = || End::OutOfTime("late".into());
        check(RunState::Interrupted, standing(RunKind::Chat, true, true), late());
        check(RunState::Failed, standing(RunKind::Chat, true, false), late());
        check(RunState::Failed, standing(RunKind::Chat, true, false), exited(0));
    }

    #[test]
    fn what_the_runner_said_comes_first_and_a_gone_engine_is_nobodys_failure() {
        let failure = Some((ErrorKind::Billing, "no credit".to_owned()));
        let (_, outcome) = Standing { failure, ..standing(RunKind::Chat, true, true) }
            .judge(End::Killed, || panic!("not asked"));
        assert!(matches!(outcome, Outcome::Failed { kind: FailureKind::Billing, .. }));
        let (_, outcome) = standing(RunKind::Task, true, false).judge(exited(125), || true);
        assert!(matches!(outcome, Outcome::EngineDown(_)));
    }
}
