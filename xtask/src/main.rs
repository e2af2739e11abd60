//! Sets up, builds, runs and tests.
fn main() {}
