//! Reading standard input by lines, each of them bounded.

use std::io::{BufRead, Read};

use super::Error;

/// The next line without its end, or why it is none; `None` at the end.
///
/// # Errors
/// [`Error::Input`].
pub(super) fn next_line(
    input: &mut impl BufRead,
    bytes_max: usize,
) -> Result<Option<Result<Vec<u8>, String>>, Error> {
    let mut line = Vec::new();
    // The line, and one that ends it.
    let mut begun = input.by_ref().take(bytes_max as u64 + 1);
    let read = begun.read_until(b'\n', &mut line).map_err(Error::Input)?;
    if read == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
    } else if bytes_max < read {
        input.skip_until(b'\n').map_err(Error::Input)?;
        return Ok(Some(Err(format!("it is longer than {bytes_max} bytes"))));
    }
    Ok(Some(Ok(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[Result<&str, &str>]) {
        let mut input = text.as_bytes();
        let mut found = Vec::new();
        while let Some(line) = next_line(&mut input, 4).expect("memory reads") {
            found.push(line.map(|line| String::from_utf8(line).expect("it is text")));
        }
        let expected: Vec<_> =
            expected.iter().map(|line| line.map(str::to_owned).map_err(str::to_owned)).collect();
        assert_eq!(expected, found, "{text:?}");
    }

    #[test]
    fn h51_a_long_line_is_refused_and_the_next_is_read() {
        let long = Err("it is longer than 4 bytes");
        check("", &[]);
        check("one\n\ntwo", &[Ok("one"), Ok(""), Ok("two")]);
        check("four\nfour", &[Ok("four"), Ok("four")]);
        check("fives\nnext\n", &[long, Ok("next")]);
        check("five and much more\nnext\nfives", &[long, Ok("next"), long]);
    }
}
