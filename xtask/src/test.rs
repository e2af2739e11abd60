//! `cargo xtask test`: everything that CI checks. Its last lines are cargo test's own.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::{build_release, cargo};
use crate::{lint, setup, step};

/// Sets up, lints, builds what the tests run, and runs them. A failed lint does not keep the tests from running.
///
/// # Errors
/// When something could not be installed, or did not build.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let toolchain = setup::build()?;
    setup::test(&toolchain)?;
    let failed = lint::all(&toolchain)?;
    // The tests drive the daemon and their traffic generators as release builds: what is shipped is what is tested.
    let binary = build_release(&["--package", "egress-user", "--package", "egress-tests"])?;
    let mut test = cargo(["test", "--no-fail-fast"]);
    test.args(arguments).env("EGRESS_BIN", &binary);
    step::say("testing");
    let status = test.status()?;
    if !failed.is_empty() {
        step::say(&format!("failed before the tests: {}", failed.join(", ")));
        return Ok(ExitCode::FAILURE);
    }
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
