//! Printing: stdout carries only what was asked for, stderr the rest.

use std::io::{self, IsTerminal, Write};

use super::Error;

/// One line of what was asked for.
///
/// # Errors
/// [`Error::Output`].
pub(super) fn line(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// A JSON value on one line.
///
/// # Errors
/// [`Error::Output`].
pub(super) fn json(value: &serde_json::Value) -> Result<(), Error> {
    line(&value.to_string())
}

/// One line for the person at the terminal, beside what was asked for.
pub(super) fn say(text: &str) {
    // Nobody is left to tell that nobody can be told.
    writeln!(io::stderr(), "{text}").ok();
}

/// A question; the answer is typed behind it.
pub(super) fn ask(question: &str) {
    // Nobody is left to ask.
    write!(io::stderr(), "{question}").ok();
}

/// An error: one line, with the program's name.
pub(super) fn complain(text: &str) {
    say(&format!("rust-claw: {text}"));
}

/// Whether a person types and reads.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Text that somebody else wrote, without what could steer a terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// A path as people write it: `~` for their own folder.
pub(super) fn path(path: &std::path::Path) -> String {
    let own = std::env::home_dir().filter(|own| own.is_absolute());
    match own.and_then(|own| path.strip_prefix(own).ok().map(ToOwned::to_owned)) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

/// Columns, each as wide as its widest cell but the last.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(column, cell)| format!("{cell:<0$}", widths[column]))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up_and_escape_sequences_do_not_pass() {
        let rows = [vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(vec!["a    bb", "ccc  d"], super::table(&rows));
        assert_eq!("a\u{fffd}[31mb\n", super::harmless("a\x1b[31mb\n"));
    }
}
