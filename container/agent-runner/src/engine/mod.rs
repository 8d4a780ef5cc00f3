//! What answers: the Claude Code CLI, or the demo.

pub(crate) mod claude;
pub(crate) mod demo;

use std::fs::File;
use std::io::{self, Read as _};

/// Random bytes for names that must not repeat.
///
/// # Errors
/// The sandbox has no `/dev/urandom`.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits of `bytes`.
fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(digit.into(), 16).expect("four bits are a digit"))
        .collect()
}
