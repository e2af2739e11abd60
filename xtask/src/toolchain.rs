//! Which Rust toolchain builds the eBPF programs.
//!
//! In: the machine. Out: a [`Toolchain`] that can, or a sentence that says what is missing. `xtask` (which installs
//! one) and `egress-user/build.rs` (which uses one) share this file, hence the standard library only.
//!
//! BPF is a tier 3 target: no toolchain ships its `core`, so `core` is built from source. That takes a compiler with
//! the sources of its own `core` (`rust-src`) that accepts unstable flags: a nightly, or any release with
//! `RUSTC_BOOTSTRAP=1`, which must reach the BPF build only. And it takes `bpf-linker`, whose LLVM has to be able to
//! read the compiler's bitcode.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Name under which `cargo xtask setup` makes Debian's Rust known to rustup.
pub const LINKED: &str = "egress-bpf";
/// Oldest compiler, as (major, minor): `rust-version` of the workspace.
const OLDEST: (u32, u32) = (1, 95);
/// LLVM majors that the pinned bpf-linker can be built with.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// A toolchain that can build for BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Its name in rustup, or `None` for `/usr/bin/cargo` on a machine without rustup.
    pub name: Option<String>,
    /// What `rustc` calls itself, for people.
    pub version: String,
    /// Major version of its LLVM.
    pub llvm: u32,
    /// Whether unstable flags need `RUSTC_BOOTSTRAP=1`.
    bootstrap: bool,
}

/// Finds the toolchain to use: a nightly with `rust-src` first, since it needs nothing else, then Debian's.
///
/// # Errors
/// Each toolchain that was looked at, and why it will not do.
pub fn find() -> Result<Toolchain, String> {
    let candidates = match output(command(None, "rustup").args(["toolchain", "list"])) {
        Ok(list) => candidates(&list),
        Err(_) => vec![None],
    };
    let mut refused = Vec::new();
    for name in candidates {
        match probe(name.as_deref()) {
            Ok(toolchain) => return Ok(toolchain),
            Err(why) => refused.push(format!(
                "{}: {why}",
                name.as_deref().unwrap_or("/usr/bin/rustc")
            )),
        }
    }
    Err(refused.join("; "))
}

impl Toolchain {
    /// What a build for BPF needs in its environment.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut environment = vec![
            ("PATH", path(self.name.as_deref())),
            // The workspace's release profile is the daemon's. Here an overflow check, also one in `core` or in
            // aya-ebpf, is a branch to a panic that the verifier refuses, and bpf-linker optimizes the whole program.
            ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false".into()),
            ("CARGO_PROFILE_RELEASE_LTO", "false".into()),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1".into()),
        ];
        if self.bootstrap {
            environment.push(("RUSTC_BOOTSTRAP", "1".into()));
        }
        environment
    }

    /// Proves that this compiler and bpf-linker fit each other, by building an empty program in `directory`.
    ///
    /// # Errors
    /// What the compiler said: no bpf-linker in `PATH` or `~/.cargo/bin`, or one with an older LLVM.
    pub fn prove(&self, directory: &Path) -> Result<(), String> {
        let object = directory.join("egress-toolchain-proof.o");
        let mut rustc = command(self.name.as_deref(), "rustc");
        rustc
            .envs(self.environment())
            .env("RUSTC_BOOTSTRAP", "1")
            .args([
                "--target",
                "bpfel-unknown-none",
                "--crate-type",
                "cdylib",
                "--crate-name",
                "proof",
            ])
            .arg("-o")
            .arg(&object)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = rustc
            .spawn()
            .map_err(|error| format!("{rustc:?}: {error}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A compiler that died early closed the pipe; its status tells.
            let _ = stdin.write_all(b"#![feature(no_core)]\n#![no_core]\n#![no_main]\n");
        }
        let done = child
            .wait_with_output()
            .map_err(|error| format!("{rustc:?}: {error}"))?;
        let _ = std::fs::remove_file(&object);
        if done.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
        }
    }
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.as_deref().unwrap_or("Debian's");
        write!(f, "{name} ({}, LLVM {})", self.version, self.llvm)
    }
}

/// `program` of a toolchain, with the `PATH` that finds it. A nameless toolchain's `rustup` is `rustup` itself.
pub fn command(name: Option<&str>, program: &str) -> Command {
    let mut command = match name {
        Some(name) => {
            let mut rustup = Command::new("rustup");
            rustup.args(["run", name, program]);
            rustup
        }
        None => Command::new(program),
    };
    command.env("PATH", path(name).as_os_str());
    // Cargo tells its children which compiler it runs; another toolchain must not listen.
    for inherited in ["RUSTC", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOC"] {
        command.env_remove(inherited);
    }
    command
}

/// Where `cargo install` puts bpf-linker.
pub fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

/// `PATH` with `~/.cargo/bin` first, since an older bpf-linker may lie elsewhere; before it, for a machine without
/// rustup, `/usr/bin`, where Debian's cargo is.
fn path(name: Option<&str>) -> OsString {
    let current = env::var_os("PATH").unwrap_or_default();
    let debian = name.is_none().then(|| PathBuf::from("/usr/bin"));
    let paths = debian
        .into_iter()
        .chain([cargo_home().join("bin")])
        .chain(env::split_paths(&current));
    env::join_paths(paths).unwrap_or(current)
}

/// The toolchains to try, of those that `rustup toolchain list` printed.
fn candidates(list: &str) -> Vec<Option<String>> {
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("nightly"))
        .chain([LINKED])
        .map(|name| Some(name.to_owned()))
        .collect()
}

fn probe(name: Option<&str>) -> Result<Toolchain, String> {
    let said = output(command(name, "rustc").arg("-vV"))?;
    let sysroot = output(command(name, "rustc").args(["--print", "sysroot"]))?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    judge(name, &said, sources.is_file())
}

/// Whether a toolchain will do, from what `rustc -vV` said and whether it has the sources of its `core`.
fn judge(name: Option<&str>, said: &str, has_sources: bool) -> Result<Toolchain, String> {
    let field = |key: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(key))
            .map(str::trim)
    };
    let release = field("release:").ok_or("`rustc -vV` does not say its release")?;
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let llvm = field("LLVM version:")
        .and_then(|llvm| llvm.split('.').next()?.parse().ok())
        .ok_or("`rustc -vV` does not say its LLVM")?;
    if version < OLDEST {
        return Err(format!("{release} is older than {}.{}", OLDEST.0, OLDEST.1));
    }
    if !LLVM.contains(&llvm) {
        return Err(format!(
            "LLVM {llvm}, and bpf-linker knows {} to {}",
            LLVM.start(),
            LLVM.end()
        ));
    }
    if !has_sources {
        return Err("without rust-src".to_owned());
    }
    Ok(Toolchain {
        name: name.map(str::to_owned),
        version: format!("rustc {release}"),
        llvm,
        bootstrap: !release.contains("nightly"),
    })
}

fn output(command: &mut Command) -> Result<String, String> {
    let done = command
        .output()
        .map_err(|error| format!("not there ({error})"))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&done.stderr);
        Err(said
            .lines()
            .next()
            .unwrap_or("failed silently")
            .trim()
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(release: &str, llvm: &str) -> String {
        format!("rustc {release}\nbinary: rustc\nrelease: {release}\nLLVM version: {llvm}\n")
    }

    #[test]
    fn a_nightly_with_sources_needs_no_bootstrap() {
        let nightly = judge(Some("nightly"), &said("1.97.0-nightly", "22.1.4"), true).unwrap();
        assert!(!nightly.bootstrap);
        assert_eq!(nightly.llvm, 22);
        assert!(
            !nightly
                .environment()
                .iter()
                .any(|(key, _)| *key == "RUSTC_BOOTSTRAP")
        );
    }

    #[test]
    fn a_release_with_sources_is_bootstrapped() {
        let debian = judge(Some(LINKED), &said("1.96.0", "22.1.8"), true).unwrap();
        assert!(
            debian
                .environment()
                .contains(&("RUSTC_BOOTSTRAP", "1".into()))
        );
    }

    #[test]
    fn what_will_not_do_says_why() {
        let why = |release, llvm, sources| judge(None, &said(release, llvm), sources).unwrap_err();
        assert_eq!(why("1.97.0-nightly", "22.1.4", false), "without rust-src");
        assert_eq!(why("1.85.1", "19.1.7", true), "1.85.1 is older than 1.95");
        assert_eq!(
            why("1.99.0", "24.1.0", true),
            "LLVM 24, and bpf-linker knows 21 to 23"
        );
        assert!(judge(None, "nonsense", true).is_err());
    }

    #[test]
    fn nightlies_come_before_debian() {
        let list = "stable-x86_64 (active, default)\nnightly-x86_64\negress-bpf /usr\n";
        assert_eq!(
            candidates(list),
            [Some("nightly-x86_64".to_owned()), Some(LINKED.to_owned())]
        );
    }
}
