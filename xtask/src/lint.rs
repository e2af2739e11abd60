//! Formatting, clippy for both targets, documentation.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::cargo::{cargo, target};
use crate::toolchain::{self, Toolchain};
use crate::{setup, step};

/// The compilers whose lints this code answers, as rustc prints them. A newer clippy brings lints that nobody here
/// has seen: those are shown, and do not fail.
const SEEN: [&str; 2] = ["rustc 1.95.", "rustc 1.96."];

/// Sets up and runs every check.
///
/// # Errors
/// When something could not be installed or started.
pub fn run() -> Result<ExitCode> {
    let toolchain = setup::build()?;
    setup::test(&toolchain)?;
    let failed = all(&toolchain)?;
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    step::say(&format!("failed: {}", failed.join(", ")));
    Ok(ExitCode::FAILURE)
}

/// Runs every check, also after one has failed, and returns the names of those that did.
///
/// # Errors
/// When a check cannot be started.
pub fn all(toolchain: &Toolchain) -> Result<Vec<&'static str>> {
    let host = deny(&String::from_utf8_lossy(
        &Command::new("rustc").arg("--version").output()?.stdout,
    ));
    let checks = [
        ("rustfmt", cargo(["fmt", "--all", "--check"])),
        ("clippy", {
            let mut clippy = cargo([
                "clippy",
                "--workspace",
                "--exclude",
                "egress-ebpf",
                "--all-targets",
                "--",
            ]);
            clippy.args(host);
            clippy
        }),
        ("clippy for eBPF", clippy_ebpf(toolchain)),
        ("rustdoc", {
            let mut doc = cargo([
                "doc",
                "--workspace",
                "--exclude",
                "egress-ebpf",
                "--no-deps",
            ]);
            doc.env("RUSTDOCFLAGS", host.join(" "));
            doc
        }),
    ];
    let mut failed = Vec::new();
    for (name, mut check) in checks {
        if !step::show(name, &mut check)?.success() {
            failed.push(name);
        }
    }
    Ok(failed)
}

/// Clippy belongs to a compiler, so the eBPF programs are linted by the toolchain that builds them.
fn clippy_ebpf(toolchain: &Toolchain) -> Command {
    let mut clippy = toolchain::command(toolchain.name.as_deref(), "cargo");
    clippy
        .current_dir(crate::cargo::root())
        .envs(toolchain.environment())
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        )
        .args(["clippy", "--release", "--package", "egress-ebpf"])
        .args([
            "--target",
            "bpfel-unknown-none",
            "-Zbuild-std=core",
            "--target-dir",
        ])
        .arg(target().join("bpf-lint"))
        .arg("--")
        .args(deny(&toolchain.version));
    clippy
}

fn deny(version: &str) -> &'static [&'static str] {
    if SEEN.iter().any(|seen| version.starts_with(seen)) {
        &["-Dwarnings"]
    } else {
        &[]
    }
}
