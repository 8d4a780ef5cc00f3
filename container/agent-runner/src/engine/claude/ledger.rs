//! What a turn cost, from totals that run on: over the turns of a process, and in newer versions of
//! the CLI over all processes of a session.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use rust_claw_protocol::Usage;
use serde::Deserialize;

use super::event::TurnEnd;
use crate::limits::TRANSCRIPT_BYTES_MAX;

/// Tokens of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    #[serde(rename = "inputTokens")]
    pub(super) input: u64,
    #[serde(rename = "outputTokens")]
    pub(super) output: u64,
    #[serde(rename = "cacheReadInputTokens")]
    pub(super) cache_read: u64,
    #[serde(rename = "cacheCreationInputTokens")]
    pub(super) cache_write: u64,
}

/// Totals at some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spent {
    tokens: Tokens,
    cost_usd: f64,
}

impl Spent {
    /// Where the totals of a session that is continued begin: the CLI writes them into its
    /// transcript when it exits, as a line of the type `cost-state`.
    pub(super) fn of_session(transcript: &Path) -> Spent {
        read(transcript).unwrap_or_default()
    }

    /// The cost of the turn that ended with `end`, all models and subagents together.
    pub(super) fn turn(&mut self, end: &TurnEnd) -> Usage {
        let now = Spent::sum(end.model_usage.values(), end.total_cost_usd);
        // Where the CLI did not take up its old totals, it began from nothing.
        let before = if now.is_past(self) { std::mem::take(self) } else { Spent::default() };
        *self = now.clone();
        Usage {
            input_tokens: now.tokens.input - before.tokens.input,
            output_tokens: now.tokens.output - before.tokens.output,
            cache_read_tokens: now.tokens.cache_read - before.tokens.cache_read,
            cache_write_tokens: now.tokens.cache_write - before.tokens.cache_write,
            cost_usd: (now.cost_usd - before.cost_usd).max(0.0),
        }
    }

    fn sum<'tokens>(models: impl Iterator<Item = &'tokens Tokens>, cost_usd: f64) -> Spent {
        let mut sum = Tokens::default();
        for model in models {
            sum.input = sum.input.saturating_add(model.input);
            sum.output = sum.output.saturating_add(model.output);
            sum.cache_read = sum.cache_read.saturating_add(model.cache_read);
            sum.cache_write = sum.cache_write.saturating_add(model.cache_write);
        }
        Spent { tokens: sum, cost_usd }
    }

    fn is_past(&self, before: &Spent) -> bool {
        before.tokens.input <= self.tokens.input
            && before.tokens.output <= self.tokens.output
            && before.tokens.cache_read <= self.tokens.cache_read
            && before.tokens.cache_write <= self.tokens.cache_write
    }
}

#[derive(Deserialize)]
struct CostState {
    #[serde(rename = "totalCostUSD")]
    total_cost_usd: f64,
    #[serde(rename = "modelUsage")]
    model_usage: std::collections::BTreeMap<String, Tokens>,
}

fn read(transcript: &Path) -> Option<Spent> {
    let mut file = File::open(transcript).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TRANSCRIPT_BYTES_MAX))).ok()?;
    let mut reader = BufReader::new(file.take(TRANSCRIPT_BYTES_MAX));
    let (mut line, mut last) = (Vec::new(), None);
    while 0 < reader.read_until(b'\n', &mut line).ok()? {
        if line.starts_with(br#"{"type":"cost-state""#) {
            last = serde_json::from_slice::<CostState>(&line).ok().or(last);
        }
        line.clear();
    }
    last.map(|state| Spent::sum(state.model_usage.values(), state.total_cost_usd))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(input: u64, output: u64, cost_usd: f64) -> TurnEnd {
        let tokens = Tokens { input, output, ..Tokens::default() };
        TurnEnd {
            model_usage: [("m".to_owned(), tokens)].into(),
            total_cost_usd: cost_usd,
            ..TurnEnd::default()
        }
    }

    fn check(spent: &mut Spent, end: &TurnEnd, expected: (u64, u64, f64)) {
        let usage = spent.turn(end);
        assert_eq!((expected.0, expected.1), (usage.input_tokens, usage.output_tokens));
        assert!((expected.2 - usage.cost_usd).abs() < 1e-9, "{usage:?}");
    }

    #[test]
    fn a_turn_costs_what_the_totals_grew_by() {
        let mut spent = Spent::default();
        check(&mut spent, &end(100, 10, 0.5), (100, 10, 0.5));
        check(&mut spent, &end(150, 11, 0.75), (50, 1, 0.25));
        check(&mut spent, &end(150, 11, 0.75), (0, 0, 0.0));
    }

    #[test]
    fn a_session_that_is_continued_goes_on_from_its_transcripts_last_total() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let state = |input: u64, cost: f64| {
            format!(
                "{{\"type\":\"cost-state\",\"totalCostUSD\":{cost},\
                 \"modelUsage\":{{\"m\":{{\"inputTokens\":{input},\"costUSD\":1}}}}}}\n"
            )
        };
        let text = format!("{}{{\"type\":\"user\"}}\n{}", state(7, 0.1), state(70, 1.0));
        std::fs::write(file.path(), text).expect("writes");
        let mut spent = Spent::of_session(file.path());
        check(&mut spent, &end(100, 10, 1.5), (30, 10, 0.5));
    }

    #[test]
    fn totals_that_began_anew_count_whole() {
        let mut spent = Spent { tokens: Tokens { input: 500, ..Tokens::default() }, cost_usd: 2.0 };
        check(&mut spent, &end(100, 10, 0.5), (100, 10, 0.5));
        assert_eq!(Spent::default(), Spent::of_session(Path::new("/nonexistent")));
    }
}
