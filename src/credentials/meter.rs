//! Reads the token counts out of an answer that passes by. It keeps one line, or one short
//! document, and never more; what it does not understand it does not count.

use serde::Deserialize;

use super::RunUsage;
use crate::limits::PROXY_METER_BYTES_MAX;

/// Watches one answer.
pub(super) struct Meter {
    form: Form,
    /// The unfinished line, or the document so far.
    kept: Vec<u8>,
    /// Whether the rest of the line is passed over, for being too long.
    is_skipping: bool,
    /// What was told so far, in the order of [`Tokens`]. The counts of one answer only grow.
    seen: [u64; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Events,
    Document,
    Nothing,
}

/// `usage` of the model API. A later event repeats some counts and leaves out others.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Tokens {
    #[serde(rename = "input_tokens")]
    input: Option<u64>,
    #[serde(rename = "output_tokens")]
    output: Option<u64>,
    #[serde(rename = "cache_read_input_tokens")]
    cache_read: Option<u64>,
    #[serde(rename = "cache_creation_input_tokens")]
    cache_write: Option<u64>,
}

/// As much of `message_start`, `message_delta` and a whole message as is needed.
#[derive(Deserialize)]
struct Event {
    message: Option<Message>,
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Message {
    usage: Option<Tokens>,
}

impl Meter {
    /// For an answer of this `content_type`, if it `is_counted` at all.
    pub(super) fn new(is_counted: bool, content_type: &str) -> Meter {
        let form = match content_type.split(';').next().unwrap_or_default().trim() {
            "text/event-stream" if is_counted => Form::Events,
            "application/json" if is_counted => Form::Document,
            _ => Form::Nothing,
        };
        Meter { form, kept: Vec::new(), is_skipping: false, seen: [0; 4] }
    }

    /// Looks at the next piece; what it told that was not known.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> RunUsage {
        let mut news = RunUsage::default();
        match self.form {
            Form::Nothing => (),
            Form::Document => self.keep(bytes),
            Form::Events => {
                let mut rest = bytes;
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    let line = &rest[..end];
                    rest = &rest[end + 1..];
                    if self.kept.is_empty() && !self.is_skipping {
                        news.add(self.line(line));
                        continue;
                    }
                    self.keep(line);
                    let whole = std::mem::take(&mut self.kept);
                    if !std::mem::take(&mut self.is_skipping) {
                        news.add(self.line(&whole));
                    }
                }
                self.keep(rest);
            }
        }
        news
    }

    /// The answer is complete; what that told.
    pub(super) fn end(&mut self) -> RunUsage {
        let kept = std::mem::take(&mut self.kept);
        match self.form {
            Form::Document if !self.is_skipping => self.event(&kept),
            _ => RunUsage::default(),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if PROXY_METER_BYTES_MAX < self.kept.len() + bytes.len() {
            self.is_skipping = true;
            self.kept = Vec::new();
        }
        if !self.is_skipping {
            self.kept.extend_from_slice(bytes);
        }
    }

    fn line(&mut self, line: &[u8]) -> RunUsage {
        match line.strip_prefix(b"data:") {
            // Nearly all lines are text of the answer: not worth parsing.
            Some(data) if memchr::memmem::find(data, b"\"usage\"").is_some() => self.event(data),
            _ => RunUsage::default(),
        }
    }

    fn event(&mut self, json: &[u8]) -> RunUsage {
        let Ok(event) = serde_json::from_slice::<Event>(json) else {
            return RunUsage::default();
        };
        let told = event.usage.or(event.message.and_then(|message| message.usage));
        let told = told.unwrap_or_default();
        let told = [told.input, told.output, told.cache_read, told.cache_write];
        let mut news = [0; 4];
        for ((news, seen), told) in news.iter_mut().zip(&mut self.seen).zip(told) {
            *news = told.unwrap_or(0).saturating_sub(*seen);
            *seen += *news;
        }
        let [input_tokens, output_tokens, cache_read_tokens, cache_write_tokens] = news;
        RunUsage {
            request_count: 0,
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cache_write_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVENTS: &str = concat!(
        "event: message_start\r\n",
        r#"data: {"type":"message_start","message":{"id":"m","content":[],"usage":{"input_tokens":25,"cache_creation_input_tokens":7,"cache_read_input_tokens":100,"output_tokens":1,"service_tier":"standard"}}}"#,
        "\r\n\r\n",
        "event: content_block_delta\n",
        r#"data: {"type":"content_block_delta","delta":{"text":"\"usage\":{\"output_tokens\":9999}"}}"#,
        "\n\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":15}}"#,
        "\n\n",
        r#"data: {"type":"message_delta","usage":{"output_tokens":40,"input_tokens":25}}"#,
        "\n\ndata: {\"usage\": broken\n\ndata: {\"type\":\"message_stop\"}\n\n",
    );

    fn check(content_type: &str, pieces: &[&[u8]], expected: [u64; 4]) {
        let mut meter = Meter::new(true, content_type);
        let mut usage = RunUsage::default();
        for piece in pieces {
            usage.add(meter.feed(piece));
        }
        usage.add(meter.end());
        let found = [
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
        ];
        assert_eq!(expected, found);
    }

    #[test]
    fn events_are_counted_once() {
        check("text/event-stream; charset=utf-8", &[EVENTS.as_bytes()], [25, 40, 100, 7]);
    }

    #[test]
    fn a_document_is_counted_at_its_end() {
        let json = br#"{"type":"message","content":[{"text":"hi"}],"usage":{"input_tokens":3,"output_tokens":4}}"#;
        check("application/json", &[&json[..20], &json[20..]], [3, 4, 0, 0]);
        check("application/json", &[&json[..20]], [0; 4]);
        check("text/plain", &[json], [0; 4]);
    }

    #[test]
    fn an_endless_line_is_passed_over_in_bounded_memory() {
        let mut meter = Meter::new(true, "text/event-stream");
        let piece = vec![b'x'; 300_000];
        for _ in 0..20 {
            assert_eq!(RunUsage::default(), meter.feed(&piece));
            assert!(meter.kept.len() <= PROXY_METER_BYTES_MAX);
        }
        let usage = meter.feed(b"\ndata: {\"usage\":{\"output_tokens\":2}}\n");
        assert_eq!(2, usage.output_tokens);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in prop::collection::vec(0..EVENTS.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, EVENTS.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> =
                cuts.windows(2).map(|cut| &EVENTS.as_bytes()[cut[0]..cut[1]]).collect();
            check("text/event-stream", &pieces, [25, 40, 100, 7]);
        }

        #[test]
        fn noise_counts_nothing_and_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut meter = Meter::new(true, "text/event-stream");
            prop_assert_eq!(RunUsage::default(), meter.feed(&noise));
        }
    }
}
