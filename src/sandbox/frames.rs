//! Finds the frames in what a sandbox writes to its standard output.
//!
//! A frame is three lines: [`OUTPUT_START`], one line of JSON, [`OUTPUT_END`]. Each marker stands
//! alone on its line, so neither an answer that quotes them nor a program that prints them in
//! passing can begin or end one. Everything else is skipped without being kept.
//!
//! The input is hostile: memory stays below the largest allowed frame whatever comes, the work per
//! byte is constant, and a damaged frame costs nothing but itself.

use std::fmt;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};
use rust_claw_protocol::{OUTPUT_END, OUTPUT_START, Output};

static START: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(OUTPUT_START));

/// What is kept of a line that can only be a marker: enough to see that it is longer than one.
const MARKER_LINE_BYTES: usize = OUTPUT_START.len() + 2;
/// A line's buffer beyond this is given back after use.
const KEPT_BYTES: usize = 64 * 1024;

const _: () = assert!(OUTPUT_END.len() <= OUTPUT_START.len());

/// What was found.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// A frame.
    Frame {
        /// What it says.
        output: Box<Output>,
        /// Size of its JSON.
        bytes: usize,
    },
    /// A frame that is none.
    Bad(BadFrame),
}

/// A frame that was given up. It never says what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame {
    /// How much of it was seen.
    pub bytes: u64,
    /// What is wrong with it.
    pub why: Flaw,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Not the JSON of an [`Output`].
    NotOutput,
    /// Longer than allowed.
    TooLarge,
    /// Its last line is not the end marker.
    NoEnd,
    /// The sandbox ended before the frame did.
    CutOff,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::NotOutput => "not-output",
            Flaw::TooLarge => "too-large",
            Flaw::NoEnd => "no-end",
            Flaw::CutOff => "cut-off",
        })
    }
}

/// Which line comes next.
enum Expect {
    /// Any; a start marker begins a frame.
    Start,
    /// The JSON.
    Json,
    /// The end marker of this frame.
    End(Result<Box<Output>, Flaw>, usize),
}

/// The parser: give it bytes as they come.
pub struct Frames {
    json_bytes_max: usize,
    expect: Expect,
    /// What is kept of the line that is not complete yet.
    line: Vec<u8>,
    /// How long that line is, kept or not.
    line_bytes: u64,
}

impl Frames {
    /// `json_bytes_max`: longest JSON of a frame; `CONTAINER_MAX_OUTPUT_SIZE`.
    pub fn new(json_bytes_max: usize) -> Frames {
        Frames { json_bytes_max, expect: Expect::Start, line: Vec::new(), line_bytes: 0 }
    }

    /// Takes the next bytes, split anywhere, and hands what they complete to `found`.
    pub fn push(&mut self, mut bytes: &[u8], found: &mut impl FnMut(Found)) {
        while !bytes.is_empty() {
            if self.line_bytes == 0 && matches!(self.expect, Expect::Start) {
                bytes = self.skip_to_start(bytes);
            }
            let Some(end) = memchr(b'\n', bytes) else {
                self.keep(bytes);
                return;
            };
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.line_bytes == 0 {
                // The common case: a whole line at once, looked at where it is.
                self.line_ended(line, line.len() as u64, found);
            } else {
                self.keep(line);
                let line = std::mem::take(&mut self.line);
                let line_bytes = std::mem::take(&mut self.line_bytes);
                self.line_ended(&line, line_bytes, found);
                if line.capacity() <= KEPT_BYTES {
                    self.line = line;
                    self.line.clear();
                }
            }
            bytes = rest;
        }
    }

    /// Nothing comes any more: reports a frame that is not complete.
    pub fn finish(self, found: &mut impl FnMut(Found)) {
        let bytes = match self.expect {
            Expect::Start => return,
            Expect::Json => self.line_bytes,
            Expect::End(_, bytes) => bytes as u64,
        };
        found(Found::Bad(BadFrame { bytes, why: Flaw::CutOff }));
    }

    /// Skips what cannot be a frame, much faster than line by line. Returns what is left, which
    /// begins with a line; the line after a start marker if that is [`Expect::Json`] now.
    fn skip_to_start<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut from = 0;
        while let Some(hit) = START.find(&bytes[from..]) {
            let at = from + hit;
            from = at + OUTPUT_START.len();
            if at != 0 && bytes[at - 1] != b'\n' {
                continue;
            }
            match &bytes[from..] {
                [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => {
                    self.expect = Expect::Json;
                    return rest;
                }
                // What comes next decides.
                [] | [b'\r'] => return &bytes[at..],
                _ => {}
            }
        }
        // No complete marker: only a line that is not over can still become one.
        &bytes[memrchr(b'\n', bytes).map_or(0, |newline| newline + 1)..]
    }

    fn keep(&mut self, part: &[u8]) {
        let max = match self.expect {
            // One more than allowed, for the `\r` of a line that is not too long.
            Expect::Json => (self.json_bytes_max + 1).max(MARKER_LINE_BYTES),
            Expect::Start | Expect::End(..) => MARKER_LINE_BYTES,
        };
        let room = max - self.line.len().min(max);
        self.line.extend_from_slice(&part[..room.min(part.len())]);
        self.line_bytes += part.len() as u64;
    }

    /// `line` may be cut; `line_bytes` is its true length.
    fn line_ended(&mut self, line: &[u8], line_bytes: u64, found: &mut impl FnMut(Found)) {
        let is_cut = (line.len() as u64) < line_bytes;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut bad = |bytes, why| found(Found::Bad(BadFrame { bytes, why }));
        let is_start = line == OUTPUT_START.as_bytes();
        self.expect = match std::mem::replace(&mut self.expect, Expect::Start) {
            // A frame that begins again is the one that counts.
            Expect::Json if is_start => {
                bad(0, Flaw::NotOutput);
                Expect::Json
            }
            Expect::Json if is_cut || self.json_bytes_max < line.len() => {
                bad(line_bytes, Flaw::TooLarge);
                Expect::Start
            }
            Expect::Json => match serde_json::from_slice(line) {
                Ok(output) => Expect::End(Ok(output), line.len()),
                Err(_) => Expect::End(Err(Flaw::NotOutput), line.len()),
            },
            Expect::End(output, bytes) => {
                let is_end = line == OUTPUT_END.as_bytes();
                match output {
                    Ok(output) if is_end => found(Found::Frame { output, bytes }),
                    Ok(_) => bad(bytes as u64, Flaw::NoEnd),
                    Err(why) => bad(bytes as u64, why),
                }
                if is_start { Expect::Json } else { Expect::Start }
            }
            Expect::Start if is_start => Expect::Json,
            Expect::Start => Expect::Start,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_claw_protocol::{Status, write_frame};

    use super::*;

    const MAX: usize = 300;

    fn output(text: &str) -> Output {
        Output {
            status: Status::Success,
            result: Some(text.to_owned()),
            new_session_id: Some("s-1".into()),
            error: None,
            error_kind: None,
            turn_end: Some(true),
            consumed: None,
            usage: None,
            skipped: None,
        }
    }

    fn frame(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &output(text)).expect("a vector takes all");
        bytes
    }

    /// Size of the JSON of a frame with `text`.
    fn size(text: &str) -> usize {
        serde_json::to_string(&output(text)).expect("an output serialises").len()
    }

    /// Feeds `stream` in chunks whose sizes repeat `sizes`. One line per thing found: the text of a
    /// frame, or the flaw and the size of a bad one.
    fn run(stream: &[u8], sizes: &[usize]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut found = |found| {
            seen.push(match found {
                Found::Frame { output, .. } => output.result.unwrap_or_default(),
                Found::Bad(BadFrame { bytes, why }) => format!("{why} {bytes}"),
            });
        };
        let mut frames = Frames::new(MAX);
        let mut rest = stream;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, left) = rest.split_at((*size).clamp(1, rest.len()));
            frames.push(chunk, &mut found);
            assert!(frames.line.capacity() <= 2 * (MAX + 2), "keeps no more than a frame");
            rest = left;
        }
        frames.finish(&mut found);
        seen
    }

    fn check(stream: &[u8], expected: &[&str]) {
        for sizes in [&[usize::MAX][..], &[1], &[2], &[3, 1, 7], &[64]] {
            assert_eq!(expected, run(stream, sizes), "in chunks of {sizes:?}");
        }
    }

    #[test]
    fn h35_one_byte_chunks_of_emoji() {
        check(&frame("👩‍👩‍👧‍👦 小助手 José"), &["👩‍👩‍👧‍👦 小助手 José"]);
    }

    #[test]
    fn h35_an_answer_that_quotes_both_markers_is_delivered_whole() {
        let text = format!("{OUTPUT_START}\n{{}}\n{OUTPUT_END}\n{OUTPUT_START} {OUTPUT_END}");
        check(&frame(&text), &[&text]);
    }

    #[test]
    fn markers_count_only_alone_on_their_line() {
        let good = String::from_utf8(frame("a")).expect("frames are UTF-8");
        let json = good.lines().nth(1).expect("a frame has three lines");
        let (cut_off, no_end) =
            (&*format!("cut-off {}", size("a")), &*format!("no-end {}", size("a")));
        let cases: [(String, &[&str]); 16] = [
            (good.clone(), &["a"]),
            (good.replace('\n', "\r\n"), &["a"]),
            (format!("noise\n\n{good}noise{good}"), &["a"]),
            (format!("noise {good}"), &[]),
            (format!("{OUTPUT_START} \n{json}\n{OUTPUT_END}\n"), &[]),
            (format!("{OUTPUT_START}{OUTPUT_START}\n{good}"), &["a"]),
            (format!("{OUTPUT_START}\n{json}\n{OUTPUT_END}"), &[cut_off]),
            (format!("{OUTPUT_START}\n{json}\n{OUTPUT_END} \n{good}"), &[no_end, "a"]),
            (format!("{OUTPUT_START}\n{json}\n{good}"), &[no_end, "a"]),
            (format!("{OUTPUT_START}\n{good}"), &["not-output 0", "a"]),
            (format!("{OUTPUT_START}\n{OUTPUT_END}\n{good}"), &["not-output 25", "a"]),
            (format!("{OUTPUT_START}\nnope\n{OUTPUT_END}\n{good}"), &["not-output 4", "a"]),
            (format!("{OUTPUT_END}\n{good}"), &["a"]),
            (format!("{good}{OUTPUT_START}\n"), &["a", "cut-off 0"]),
            (format!("{good}{OUTPUT_START}\n{{\"sta"), &["a", "cut-off 5"]),
            (format!("{good}{OUTPUT_START}"), &["a"]),
        ];
        for (stream, expected) in cases {
            check(stream.as_bytes(), expected);
        }
    }

    #[test]
    fn a_frame_that_is_too_large_costs_only_itself() {
        let large = "x".repeat(MAX);
        let stream = [frame(&large), frame("b")].concat();
        check(&stream, &[&format!("too-large {}", size(&large)), "b"]);
        // The largest that is allowed, with either end of line.
        let fits = "x".repeat(MAX - size(""));
        check(&frame(&fits), &[&fits]);
        let crlf = String::from_utf8(frame(&fits)).expect("ASCII").replace('\n', "\r\n");
        check(crlf.as_bytes(), &[&fits]);
        check(&frame(&(fits + "x")), &[&format!("too-large {}", MAX + 1)]);
    }

    #[test]
    fn hostile_json_is_no_frame() {
        let deep = format!("{{\"status\":{}", "[".repeat(200));
        for json in [deep.as_str(), "\u{0}", "null", "[]", r#"{"status":"success"}x"#] {
            let stream = format!("{OUTPUT_START}\n{json}\n{OUTPUT_END}\n");
            check(stream.as_bytes(), &[&format!("not-output {}", json.len())]);
        }
        let not_utf8 = [OUTPUT_START.as_bytes(), b"\n\"\xff\"\n", OUTPUT_END.as_bytes(), b"\n"];
        check(&not_utf8.concat(), &["not-output 3"]);
    }

    #[test]
    fn h35_output_without_an_end_stays_bounded() {
        let mut frames = Frames::new(MAX);
        let mut count = 0;
        let flood = vec![b'x'; 1024 * 1024];
        frames.push(format!("{OUTPUT_START}\n").as_bytes(), &mut |_| count += 1);
        for _ in 0..64 {
            frames.push(&flood, &mut |_| count += 1);
        }
        assert_eq!(0, count);
        assert!(frames.line.capacity() <= 2 * (MAX + 2), "{}", frames.line.capacity());
        let mut seen = Vec::new();
        frames.push(b"\n", &mut |found| seen.push(found));
        frames.push(&frame("after"), &mut |found| seen.push(found));
        let bad = BadFrame { bytes: 64 * 1024 * 1024, why: Flaw::TooLarge };
        assert_eq!(Some(&Found::Bad(bad)), seen.first());
        assert!(
            matches!(&seen[1], Found::Frame { output: after, .. } if **after == output("after"))
        );
    }

    /// Lines that matter to the parser, and some that do not.
    fn any_line() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(format!("{OUTPUT_START}\n").into_bytes()),
            Just(format!("{OUTPUT_END}\n").into_bytes()),
            Just(format!("{OUTPUT_START}\r\n").into_bytes()),
            Just(OUTPUT_START.as_bytes().to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            ".{0,20}".prop_map(|text| frame(&text)),
            prop::collection::vec(any::<u8>(), 0..60),
            Just(vec![b'y'; 2 * MAX]),
        ]
    }

    proptest! {
        #[test]
        fn any_split_of_any_stream_finds_the_same(
            lines in prop::collection::vec(any_line(), 0..20),
            sizes in prop::collection::vec(1usize..80, 1..8),
        ) {
            let stream = lines.concat();
            prop_assert_eq!(run(&stream, &[usize::MAX]), run(&stream, &sizes));
        }

        #[test]
        fn frames_among_noise_are_all_found(
            parts in prop::collection::vec((".{0,30}", "[^-\n]{0,40}"), 0..10),
            sizes in prop::collection::vec(1usize..80, 1..8),
        ) {
            let mut stream = Vec::new();
            for (text, noise) in &parts {
                stream.extend_from_slice(noise.as_bytes());
                stream.push(b'\n');
                stream.extend_from_slice(&frame(text));
            }
            let texts: Vec<String> = parts.into_iter().map(|(text, _)| text).collect();
            prop_assert_eq!(texts, run(&stream, &sizes));
        }
    }
}
