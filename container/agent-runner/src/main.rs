//! The only program of rust-claw inside a sandbox.
fn main() {}
