//! Builds the eBPF programs and leaves them at `$OUT_DIR/egress-ebpf`.
//!
//! aya-build hands its own environment on to the BPF build, and changing one's own environment is unsafe. So this
//! script runs itself once more with the environment of that build, and passes on what cargo has to know.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

const INNER: &str = "--with-bpf-environment";
const EBPF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../egress-ebpf");

fn main() -> ExitCode {
    let result = if std::env::args().nth(1).as_deref() == Some(INNER) {
        inner()
    } else {
        outer()
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(said) => {
            eprintln!("{said}");
            ExitCode::FAILURE
        }
    }
}

fn outer() -> Result<(), String> {
    let setup = "`cargo xtask setup` installs what is missing.";
    let toolchain = toolchain::find()
        .map_err(|why| format!("No Rust toolchain here builds eBPF programs ({why}).\n{setup}"))?;
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    toolchain.prove(&out_dir).map_err(|why| {
        format!("{toolchain} and bpf-linker do not build an eBPF program: {why}\n{setup}")
    })?;

    let itself =
        std::env::current_exe().map_err(|error| format!("where is this script? {error}"))?;
    let done = Command::new(&itself)
        .arg(INNER)
        .args(&toolchain.name)
        .envs(toolchain.environment())
        // aya-build turns every line of progress into a warning.
        .env("CARGO_TERM_QUIET", "true")
        .env("CARGO_TERM_COLOR", "never")
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{}: {error}", itself.display()))?;
    let said = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() {
        // As text, not as warnings: this is why nothing else was built.
        let mut report = format!("{toolchain} did not build the eBPF programs:\n");
        for line in said
            .lines()
            .filter_map(|line| line.strip_prefix("cargo:warning="))
        {
            report.push_str(line);
            report.push('\n');
        }
        report.push_str(&String::from_utf8_lossy(&done.stderr));
        return Err(report);
    }
    // Without rustup aya-build warns that it takes cargo from PATH; that PATH was chosen above.
    for line in said
        .lines()
        .filter(|line| !line.starts_with("cargo:warning=which(rustup)"))
    {
        println!("{line}");
    }
    for input in ["../egress-common", "../Cargo.toml", "../Cargo.lock"] {
        println!("cargo:rerun-if-changed={input}");
    }
    Ok(())
}

fn inner() -> Result<(), String> {
    let name = std::env::args().nth(2);
    let package = aya_build::Package {
        name: "egress-ebpf",
        root_dir: EBPF,
        ..aya_build::Package::default()
    };
    // Without rustup aya-build ignores the name.
    let toolchain = aya_build::Toolchain::Custom(name.as_deref().unwrap_or(toolchain::LINKED));
    aya_build::build_ebpf([package], toolchain).map_err(|error| format!("{error:#}"))
}
