//! Builds with the cargo that started us.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{setup, step};

/// The workspace.
pub fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The host's cargo, in the workspace.
pub fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// Sets up, builds the release binary, and returns its absolute path.
///
/// # Errors
/// When something could not be installed, or did not build.
pub fn release() -> Result<PathBuf> {
    setup::build()?;
    build_release(&["--package", "egress-user"])
}

/// Builds packages for release and returns the absolute path of `egress`.
///
/// # Errors
/// When something did not build.
pub fn build_release(packages: &[&str]) -> Result<PathBuf> {
    let what = "building the release (the eBPF programs take a minute the first time)";
    let status = step::show(what, cargo(["build", "--release", "--bins"]).args(packages))?;
    if !status.success() {
        bail!("the build failed");
    }
    let binary = target().join("release/egress");
    if !binary.is_file() {
        bail!(
            "the build ended well, but did not leave {}: does a cargo configuration build elsewhere?",
            binary.display()
        );
    }
    Ok(binary)
}
