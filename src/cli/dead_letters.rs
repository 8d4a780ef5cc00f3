//! Dead letters: what was given up, and what becomes of it.

use argh::{ArgsInfo, FromArgs};

use super::{Error, out};
use crate::doorbell::Doorbell;
use crate::home::Home;

/// Answer again what was given up; `rust-claw status` shows the numbers.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "retry")]
pub(super) struct RetryCommand {
    /// number of the dead letter; all without it
    #[argh(positional)]
    number: Option<i64>,
}

impl RetryCommand {
    /// # Errors
    /// No such dead letter; the database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let mut store = super::store_with_main(home)?;
        let numbers = match self.number {
            Some(number) => vec![number],
            None => store.dead_letters()?.into_iter().map(|letter| letter.id).collect(),
        };
        if numbers.is_empty() {
            return out::line("nothing was given up");
        }
        for number in numbers {
            let letter = store.retry_dead_letter(number)?.ok_or_else(|| none(number))?;
            out::line(&format!("#{number}: chat {} is answered again", letter.chat))?;
        }
        Doorbell::ring(home);
        Ok(())
    }
}

/// Forget what was given up.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "drop")]
pub(super) struct DropCommand {
    /// number of the dead letter
    #[argh(positional)]
    number: i64,
}

impl DropCommand {
    /// # Errors
    /// No such dead letter; the database.
    pub(super) fn run(self, home: &Home) -> Result<(), Error> {
        let mut store = super::store_with_main(home)?;
        if !store.drop_dead_letter(self.number)? {
            return Err(none(self.number));
        }
        out::line(&format!("#{} is forgotten", self.number))
    }
}

fn none(number: i64) -> Error {
    Error::Refused(format!(
        "no dead letter #{number} is open; `rust-claw status` shows those that are"
    ))
}
