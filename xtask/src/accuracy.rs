//! `cargo xtask accuracy`: what egress tells of each way of sending, on this host, as a table and as docs/accuracy.md.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{cargo, setup, step};

/// Builds a release and runs the suite on it. A run of all scenarios is written to docs/accuracy.md.
///
/// # Errors
/// When something could not be installed, or did not build, or there is no way to become root.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    setup::build()?;
    setup::kernel_tests()?;
    let binary = cargo::build_release(&["--package", "egress-user", "--package", "egress-tests"])?;
    let suite = binary.with_file_name("egress-accuracy");
    let mut command = if setup::is_root() {
        Command::new("env")
    } else if setup::has("sudo") {
        step::say("through sudo: it makes network namespaces and loads eBPF programs");
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    } else {
        bail!("it makes network namespaces and loads eBPF programs: run it as root");
    };
    // As an argument, since sudo clears the environment.
    let mut release = OsString::from("EGRESS_BIN=");
    release.push(&binary);
    command.arg(release).arg(&suite).args(arguments);
    let given = |name: &str| {
        arguments
            .iter()
            .any(|argument| argument.to_string_lossy().starts_with(name))
    };
    if !["--only", "--list", "--write", "--help", "-h"]
        .into_iter()
        .any(given)
    {
        command
            .arg("--write")
            .arg(cargo::root().join("docs/accuracy.md"));
    }
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", suite.display()))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
