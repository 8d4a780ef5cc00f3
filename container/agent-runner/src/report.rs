//! The only module that prints: frames on standard output, notes on standard error.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use rust_claw_protocol::{Output, write_frame};

use crate::Failed;

/// Prints frames.
pub(crate) struct Reporter(Box<dyn Write>);

impl Reporter {
    /// Frames go to standard output.
    pub(crate) fn stdout() -> Reporter {
        Reporter(Box::new(io::stdout()))
    }

    /// Prints one frame.
    ///
    /// # Errors
    /// [`Failed::Frame`]: nobody reads; the run has no purpose any more.
    pub(crate) fn frame(&mut self, output: &Output) -> Result<(), Failed> {
        write_frame(&mut self.0, output).map_err(|source| Failed::Frame { source })
    }
}

/// Prints `line` on standard output, for commands that a person runs.
pub(crate) fn print_line(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Says something on standard error. Never pass it a prompt, a message or a secret.
pub(crate) fn note(what: fmt::Arguments<'_>) {
    if writeln!(io::stderr(), "claw-agent-runner: {what}").is_err() {
        // Whoever read it has gone; a note is no reason to end.
    }
}

/// An error with its sources, on one line.
pub(crate) struct Chain<'error>(pub(crate) &'error dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
