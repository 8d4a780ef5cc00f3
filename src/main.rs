//! Arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    rust_claw::cli::main()
}
