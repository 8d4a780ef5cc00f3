//! Prints the speed table: what is promised, what the reference system took on the same kind of
//! machine, and what is measured here. Asserts nothing.
//!
//! The real program serves a home of its own; in place of sandboxes it starts `bench-agent`, which
//! answers at once. Both look at the same clock. For figures that hold, nothing else should run.

mod bed;
mod disconnects;
mod living;
mod load;
mod phone;
mod soak;
mod storing;
mod table;
mod tasks;
mod tools;
mod turns;
mod wall;
mod whatsapp;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use argh::FromArgs;

/// What everything here returns.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Measure the speed of rust-claw.
#[derive(FromArgs)]
struct Arguments {
    /// a tenth of the samples: figures for a first look only
    #[argh(switch)]
    quick: bool,

    /// no table: WhatsApp with drops and restarts, for so many seconds
    #[argh(option, arg_name = "seconds")]
    soak: Option<u64>,

    /// no table: so many forced disconnects of WhatsApp, by every code in turn
    #[argh(option, arg_name = "count")]
    disconnects: Option<usize>,

    /// which parts: turns, storing, idle, output, crowd, tools, tasks, wall, living, whatsapp; all, if none is named
    #[argh(positional)]
    parts: Vec<String>,
}

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    quick: bool,
}

impl Extent {
    /// How many samples, of `full`.
    pub(crate) fn count(self, full: usize) -> usize {
        if self.quick { full / 10 } else { full }
    }

    /// How often, of `full`.
    pub(crate) fn repeats(self, full: usize) -> usize {
        if self.quick { 1 } else { full }
    }

    /// How long, of `full`.
    pub(crate) fn time(self, full: Duration) -> Duration {
        if self.quick { full / 10 } else { full }
    }
}

/// A part of the table.
type Part = (&'static str, fn(Extent) -> Outcome<()>);

const PARTS: [Part; 11] = [
    ("turns", turns::measure),
    ("storing", storing::measure),
    ("idle", load::idle),
    ("output", load::output),
    ("crowd", load::crowd),
    ("tools", tools::measure),
    ("tasks", tasks::measure),
    ("rush", tasks::rush),
    ("wall", |extent| {
        wall::proxy(extent)?;
        wall::mount_check(extent)?;
        wall::bwrap(extent)?;
        wall::size()
    }),
    ("living", living::measure),
    ("whatsapp", whatsapp::measure),
];

fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<()> {
    build()?;
    if let Some(seconds) = arguments.soak {
        return soak::run(Duration::from_secs(seconds));
    }
    if let Some(count) = arguments.disconnects {
        return disconnects::run(count);
    }
    let extent = Extent { quick: arguments.quick };
    table::head("what")?;
    for (name, measure) in PARTS {
        if arguments.parts.is_empty() || arguments.parts.iter().any(|part| part == name) {
            measure(extent)?;
        }
    }
    Ok(())
}

/// Builds the programs that are measured, as `make` does; without optimisation where this one has
/// none, for who works on the measurement.
fn build() -> Outcome<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let packages = ["rust-claw", "rust-claw-agent-runner", "rust-claw-bench"];
    let built = Command::new(cargo)
        .args(["build", "--locked", "--bins"])
        .args(if cfg!(debug_assertions) { None } else { Some("--release") })
        .args(packages.iter().flat_map(|package| ["--package", *package]))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if !built.success() {
        return Err("the programs could not be built".into());
    }
    if !programs().join("bench-agent").is_file() {
        return Err("there is no bench-agent here: run `make bench-agent`".into());
    }
    Ok(())
}

/// Where the programs are: beside this one.
pub(crate) fn programs() -> PathBuf {
    let ours = std::env::current_exe().unwrap_or_default();
    ours.parent().map(PathBuf::from).unwrap_or_default()
}

pub(crate) fn complain(error: &dyn std::error::Error) {
    // There is nowhere else to say it.
    writeln!(io::stderr(), "rust-claw-bench: {}", rust_claw::chain(error)).ok();
}
