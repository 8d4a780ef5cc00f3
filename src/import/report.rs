//! What came over and what did not, and why.

use crate::ids::shown;

/// Different reasons that are told of one kind of thing.
const REASONS_MAX: usize = 8;

/// One kind of thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// What it is.
    pub what: &'static str,
    /// How many came over.
    pub came: u64,
    /// How many did not.
    pub stayed: u64,
    /// Why not, and what else is to be said.
    pub why: Vec<String>,
}

/// All kinds, in the order in which they came up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One line for each.
    pub lines: Vec<Line>,
}

impl Report {
    /// The line of a kind.
    pub(super) fn of(&mut self, what: &'static str) -> &mut Line {
        let known = self.lines.iter().position(|line| line.what == what);
        let at = known.unwrap_or_else(|| {
            self.lines.push(Line { what, ..Line::default() });
            self.lines.len() - 1
        });
        &mut self.lines[at]
    }
}

impl Line {
    /// One stays where it is.
    pub(super) fn stay(&mut self, why: &str) {
        self.stayed += 1;
        self.say(why);
    }

    /// Something to be said, once.
    pub(super) fn say(&mut self, what: &str) {
        let what = what.lines().next().map(shown).unwrap_or_default();
        if !self.why.contains(&what) {
            match self.why.len() {
                REASONS_MAX => self.why.push("…".to_owned()),
                len if len < REASONS_MAX => self.why.push(what),
                _ => {}
            }
        }
    }
}
