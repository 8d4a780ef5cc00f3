//! Prints the speed table; asserts nothing.
fn main() {}
