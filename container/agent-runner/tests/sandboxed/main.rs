//! The runner as the host starts it: in a bubblewrap sandbox, with the real paths inside.
//!
//! Modules named `bwrap_…` need bubblewrap; those named `claude_cli_…` need the Claude Code CLI
//! too, whose path is in `CLAW_TEST_CLAUDE`, and talk to a fake model API.

mod bwrap_demo;
mod claude_cli_failures;
mod claude_cli_turns;
mod harness;
