//! Pure: what of a chat was handed into a sandbox, and what of it is answered. A message counts as
//! handled when the runner took it *and* something of the turn that contains it came out, or the
//! turn ended well; until then it is pending again whenever the sandbox ends.

use rust_claw_protocol::{ErrorKind, Output, Status};

use crate::ids::Seq;

/// What one frame means for the chat.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Step {
    /// All messages of the chat up to here are answered.
    pub(super) settle: Option<Seq>,
    /// The turn is over.
    pub(super) turn_ended: bool,
    /// The turn failed.
    pub(super) failed: Option<(ErrorKind, String)>,
}

/// A follow-up that lies in the sandbox, or was taken into a turn that has not answered yet.
#[derive(Debug)]
struct Fed {
    file: String,
    seq: Seq,
    taken: bool,
}

/// The state of one run's conversation.
#[derive(Debug)]
pub(super) struct Progress {
    /// Up to here the first prompt reaches, until it is answered.
    first: Option<Seq>,
    fed: Vec<Fed>,
    /// Newest message that was handed in.
    handed: Seq,
    turn_running: bool,
    /// The running turn has said something already: what it was asked counts as answered.
    has_spoken: bool,
    /// Something was settled in this run.
    has_settled: bool,
}

impl Progress {
    /// A run whose first prompt holds the messages up to `first`; `None` for a task, which answers
    /// no message.
    pub(super) fn new(first: Option<Seq>) -> Progress {
        Progress {
            first,
            fed: Vec::new(),
            handed: first.unwrap_or_default(),
            turn_running: true,
            has_spoken: false,
            has_settled: false,
        }
    }

    /// Newest message that was handed in.
    pub(super) fn handed(&self) -> Seq {
        self.handed
    }

    /// Follow-ups that no turn has answered.
    pub(super) fn unread_count(&self) -> usize {
        self.fed.len()
    }

    /// Whether no turn runs and nothing lies unread.
    pub(super) fn is_idle(&self) -> bool {
        !self.turn_running && self.fed.is_empty()
    }

    /// Whether something was handed in that is not answered.
    pub(super) fn is_owing(&self) -> bool {
        self.first.is_some() || !self.fed.is_empty() || (self.turn_running && !self.has_spoken)
    }

    /// Whether something was settled in this run.
    pub(super) fn has_settled(&self) -> bool {
        self.has_settled
    }

    /// Whether the running turn has said something.
    pub(super) fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// A follow-up with the messages up to `seq` is about to be written as `file`.
    pub(super) fn feed(&mut self, file: String, seq: Seq) {
        assert!(self.handed < seq, "messages are handed in once, in order");
        self.handed = seq;
        self.fed.push(Fed { file, seq, taken: false });
    }

    /// The file could not be written after all.
    pub(super) fn unfeed(&mut self, file: &str, handed_before: Seq) {
        self.fed.retain(|fed| fed.file != file);
        self.handed = handed_before;
    }

    /// Names of the follow-ups that the runner has not reported as taken.
    pub(super) fn untaken(&self) -> impl Iterator<Item = &str> {
        self.fed.iter().filter(|fed| !fed.taken).map(|fed| fed.file.as_str())
    }

    /// Takes in one frame. `gone`: names of [`Progress::untaken`] files that are not in the
    /// sandbox any more; only asked of a runner that does not report what it takes.
    pub(super) fn frame(&mut self, output: &Output, gone: &[String]) -> Step {
        // NanoClaw's runner knows neither field: each of its frames ends a turn.
        let turn_ended = output.turn_end.unwrap_or(true);
        let taken = output.consumed.as_deref().unwrap_or(gone);
        for fed in &mut self.fed {
            fed.taken |= taken.contains(&fed.file);
        }
        let mut step = Step { turn_ended, ..Step::default() };
        match output.status {
            Status::Error => {
                let error = output.error.clone().unwrap_or_else(|| "no reason given".to_owned());
                step.failed = Some((output.error_kind.unwrap_or(ErrorKind::Other), error));
            }
            Status::Success => {
                let speaks = output.result.as_deref().is_some_and(|text| !text.trim().is_empty());
                if speaks || turn_ended {
                    step.settle = self.settle();
                }
                self.has_spoken = (self.has_spoken || speaks) && !turn_ended;
            }
        }
        if turn_ended {
            // A follow-up that was taken and not reported with this turn begins the next one.
            self.turn_running = self.fed.iter().any(|fed| fed.taken);
        } else {
            self.turn_running = true;
        }
        step
    }

    fn settle(&mut self) -> Option<Seq> {
        let taken = self.fed.iter().filter(|fed| fed.taken).map(|fed| fed.seq).max();
        self.fed.retain(|fed| !fed.taken);
        let settled = self.first.take().max(taken);
        self.has_settled |= settled.is_some();
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(result: Option<&str>, turn_end: Option<bool>, consumed: Option<&[&str]>) -> Output {
        Output {
            result: result.map(str::to_owned),
            turn_end,
            consumed: consumed.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            ..Output::new(Status::Success)
        }
    }

    fn failure() -> Output {
        Output { error: Some("boom".into()), turn_end: Some(true), ..Output::new(Status::Error) }
    }

    #[test]
    fn h04_a_follow_up_is_settled_by_the_turn_that_took_it() {
        let mut progress = Progress::new(Some(Seq(3)));
        progress.feed("5-1.json".into(), Seq(5));
        let first = progress.frame(&output(Some("a"), Some(true), Some(&[])), &[]);
        assert_eq!(Some(Seq(3)), first.settle);
        assert!(!progress.is_idle(), "a file lies there");
        assert!(progress.is_owing());
        let second = progress.frame(&output(Some("b"), Some(true), Some(&["5-1.json"])), &[]);
        assert_eq!(Some(Seq(5)), second.settle);
        assert!(progress.is_idle() && !progress.is_owing());
    }

    #[test]
    fn h04_one_result_may_answer_several() {
        let mut progress = Progress::new(Some(Seq(3)));
        progress.feed("5-1.json".into(), Seq(5));
        progress.feed("7-2.json".into(), Seq(7));
        let step =
            progress.frame(&output(Some("a"), Some(true), Some(&["5-1.json", "7-2.json"])), &[]);
        assert_eq!(Some(Seq(7)), step.settle);
    }

    #[test]
    fn h08_a_failed_turn_settles_nothing_and_undoes_nothing() {
        let mut progress = Progress::new(Some(Seq(3)));
        assert_eq!(Some(Seq(3)), progress.frame(&output(Some("a"), Some(true), None), &[]).settle);
        progress.feed("5-1.json".into(), Seq(5));
        let step = progress.frame(&failure(), &["5-1.json".into()]);
        assert_eq!((None, true), (step.settle, step.failed.is_some()));
        assert!(progress.is_owing() && progress.has_settled());
    }

    #[test]
    fn h25_a_partial_answer_settles_but_does_not_end_the_turn() {
        let mut progress = Progress::new(Some(Seq(3)));
        assert_eq!(Step::default(), progress.frame(&output(None, Some(false), None), &[]));
        let partial = progress.frame(&output(Some("a"), Some(false), None), &[]);
        assert_eq!((Some(Seq(3)), false), (partial.settle, partial.turn_ended));
        assert!(!progress.is_idle() && progress.has_spoken());
        let end = progress.frame(&output(None, Some(true), None), &[]);
        assert_eq!((None, true), (end.settle, end.turn_ended));
        assert!(progress.is_idle());
    }

    #[test]
    fn a_runner_that_reports_no_files_is_judged_by_what_is_gone() {
        let mut progress = Progress::new(Some(Seq(3)));
        progress.feed("5-1.json".into(), Seq(5));
        assert_eq!(Some(Seq(3)), progress.frame(&output(Some("a"), None, None), &[]).settle);
        assert!(!progress.is_idle());
        let gone = vec!["5-1.json".to_owned()];
        assert_eq!(Some(Seq(5)), progress.frame(&output(Some("b"), None, None), &gone).settle);
        assert!(progress.is_idle());
    }

    #[test]
    fn a_forged_name_settles_nothing() {
        let mut progress = Progress::new(None);
        progress.feed("5-1.json".into(), Seq(5));
        let step = progress.frame(&output(Some("a"), Some(true), Some(&["9-1.json"])), &[]);
        assert_eq!(None, step.settle);
    }
}
