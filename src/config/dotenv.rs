//! The file `.env`: `NAME=value` by lines, `#` comments, quotes, `export` before the name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// Bytes of the file; more is no file of settings.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A value, or what is wrong with its quotes.
type Value = Result<String, &'static str>;

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct DotEnv {
    path: PathBuf,
    /// Line number, name, value.
    lines: Vec<(usize, String, Value)>,
}

impl DotEnv {
    /// Reads the file; one that is not there says nothing.
    pub(super) fn read(path: &Path) -> Result<DotEnv, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(DotEnv::default());
            }
            file => file.map_err(unreadable)?,
        };
        let text = text(file).map_err(unreadable)?;
        Ok(DotEnv { path: path.to_owned(), lines: parse(&text) })
    }

    /// What a file at `path` with this text says.
    pub(super) fn of(path: &Path, text: &str) -> DotEnv {
        DotEnv { path: path.to_owned(), lines: parse(text) }
    }

    /// The value of `name` and its place in the file. The last line counts, as in a shell.
    pub(super) fn get(&self, name: &str) -> Option<(String, &Value)> {
        let (line, _, value) = self.lines.iter().rev().find(|(_, key, _)| key == name)?;
        Some((format!("{}:{line}", self.path.display()), value))
    }
}

fn text(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if FILE_BYTES_MAX < text.len() as u64 {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// Sets `name` in the file, or takes it out; all other lines stay as they are. The new file is
/// the owner's alone and takes the place of the old one in one step; a link leads to it as before.
///
/// # Errors
/// What the file system says; the file is as it was then.
pub(super) fn set(path: &Path, name: &str, value: Option<&str>) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = match File::open(&target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        file => text(file?)?,
    };
    let new = changed(&old, name, value);
    let fresh = target.with_file_name(".env.new");
    // Left over from a write that was cut short.
    fs::remove_file(&fresh).ok();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(new.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, &target)
}

/// The text with one setting changed: in the place of its last line, which is the one that counts.
fn changed(text: &str, name: &str, value: Option<&str>) -> String {
    let places: Vec<usize> =
        parse(text).into_iter().filter(|(_, key, _)| key == name).map(|(line, ..)| line).collect();
    let set = value.map(|value| format!("{name}={}", written(value)));
    let mut new = String::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if !places.contains(&number) {
            new.push_str(line);
        } else if let Some(set) = set.as_ref().filter(|_| places.last() == Some(&number)) {
            new.push_str(set);
            new.push('\n');
        }
    }
    if let Some(set) = set.filter(|_| places.is_empty()) {
        if !new.is_empty() && !new.ends_with('\n') {
            new.push('\n');
        }
        new.push_str(&set);
        new.push('\n');
    }
    new
}

/// A value as [`value`] reads it.
fn written(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:+@,=".contains(&byte);
    if value.bytes().all(is_plain) {
        return value.to_owned();
    }
    let escaped = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("\"{escaped}\"")
}

/// Lines that are no settings are skipped: the file may hold more than ours.
pub(super) fn parse(text: &str) -> Vec<(usize, String, Value)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    (1..)
        .zip(text.lines())
        .filter_map(|(number, line)| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, rest) = line.split_once('=')?;
            let name = name.trim();
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            (!name.is_empty() && name.bytes().all(is_name))
                .then(|| (number, name.to_owned(), value(rest)))
        })
        .collect()
}

/// A line that [`parse`] reads back.
pub(super) fn line(name: &str, value: &str) -> String {
    if value.contains('\'') {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{name}=\"{value}\"\n")
    } else {
        format!("{name}='{value}'\n")
    }
}

/// `'as it is'`, `"with \" \\ \n \t"`, or plain up to a `#` after a space.
fn value(rest: &str) -> Value {
    let rest = rest.trim();
    let (value, tail) = if let Some(quoted) = rest.strip_prefix('\'') {
        let (value, tail) = quoted.split_once('\'').ok_or(UNCLOSED)?;
        (value.to_owned(), tail)
    } else if let Some(quoted) = rest.strip_prefix('"') {
        double_quoted(quoted)?
    } else {
        return Ok(without_comment(rest).to_owned());
    };
    let tail = tail.trim_start();
    if !tail.is_empty() && !tail.starts_with('#') {
        return Err("there is text after the closing quote");
    }
    Ok(value)
}

const UNCLOSED: &str = "the quote is not closed on its line";

fn double_quoted(quoted: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next().ok_or(UNCLOSED)? {
            '"' => return Ok((value, chars.as_str())),
            '\\' => match chars.next().ok_or(UNCLOSED)? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                // The backslash of anything else is a character like others, as in a shell.
                other => {
                    if !matches!(other, '"' | '\\' | '$' | '`') {
                        value.push('\\');
                    }
                    value.push(other);
                }
            },
            other => value.push(other),
        }
    }
}

fn without_comment(rest: &str) -> &str {
    let is_comment =
        |&(at, _): &(usize, &str)| rest[..at].chars().next_back().is_none_or(char::is_whitespace);
    match rest.match_indices('#').find(is_comment) {
        Some((at, _)) => rest[..at].trim_end(),
        None => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, Result<&str, ()>)>) {
        let parsed = parse(line);
        let found = parsed
            .first()
            .map(|(_, name, value)| (name.as_str(), value.as_deref().map_err(|_| ())));
        assert_eq!(expected, found, "{line:?}");
    }

    #[test]
    fn h72_one_character_quotes_export_and_comments() {
        for (line, name, value) in [
            ("X=a", "X", "a"),
            ("X=", "X", ""),
            ("X=#", "X", ""),
            ("  X = a b  ", "X", "a b"),
            ("export X=a", "X", "a"),
            ("X=\"a\"", "X", "a"),
            ("X='a'", "X", "a"),
            ("X='a # b' # c", "X", "a # b"),
            ("X=\"a # b\"# c", "X", "a # b"),
            ("X=a # b", "X", "a"),
            ("X=a#b", "X", "a#b"),
            ("X=a=b=", "X", "a=b="),
            ("X='a\\n'", "X", "a\\n"),
            (r#"X="\"\\\n\d""#, "X", "\"\\\n\\d"),
            ("X=\"'\"", "X", "'"),
            ("X=it's", "X", "it's"),
            ("X=小助手\r", "X", "小助手"),
            ("\u{feff}X=a", "X", "a"),
        ] {
            check(line, Some((name, Ok(value))));
        }
        for line in ["", "# X=a", "X", "=a", "a b=c", "-----BEGIN KEY-----"] {
            check(line, None);
        }
        for line in ["X='a", "X=\"a\\\"", "X='a'b", "X=\"a\" b"] {
            check(line, Some(("X", Err(()))));
        }
    }

    #[test]
    fn last_line_counts_and_is_named() {
        let file = DotEnv { path: "/h/.env".into(), lines: parse("X=a\n\nX=b\r\nY=c") };
        let (place, value) = file.get("X").expect("it is there");
        assert_eq!(("/h/.env:3", Ok("b".to_owned())), (place.as_str(), value.clone()));
        assert!(file.get("Z").is_none());
    }

    #[test]
    fn what_is_written_is_read_again() {
        proptest::proptest!(|(value in "[^\r\n]*")| {
            let text = line("X", &value);
            let parsed = parse(&text);
            assert_eq!(Some(Ok(value.as_str())), parsed.first().map(|(_, _, value)| value.as_deref()));
        });
    }

    #[test]
    fn any_text_parses() {
        proptest::proptest!(|(text in ".*")| {
            for (_, name, _) in parse(&text) {
                assert!(!name.is_empty());
            }
        });
    }
}
