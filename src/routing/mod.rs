//! What a message means and how an answer looks: pure functions of text, names and times. Nothing
//! here reads a clock, a file or the database.

pub mod prompt;
pub mod reply;
pub mod trigger;
