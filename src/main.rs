//! Parses arguments, dispatches, sets the exit code.

fn main() {}
