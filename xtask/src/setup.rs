//! Installs what is missing, and nothing else. Each step ends with running what it installed.
//!
//! In: the machine. Out: a [`Toolchain`] that was seen to build an eBPF program.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::packages::{KERNEL_TESTS, Package, RUST, RUST_LINTS, VM};
use crate::step::{quietly, say};
use crate::toolchain::{self, LINKED, Toolchain};

/// The release of bpf-linker; `toolchain.rs` knows which LLVMs it can be built with.
const BPF_LINKER: &str = "0.13.0";
/// For those who do not have Debian or may not install its packages.
const OTHERWISE: &str = "Elsewhere, or to use a nightly: `rustup toolchain install nightly --component rust-src`, \
    the development files of that compiler's LLVM, and `cargo install bpf-linker`, with LLVM_PREFIX set to that LLVM.";

/// What a build needs: a toolchain for BPF, and a linker that fits it.
///
/// # Errors
/// What could not be installed, and the commands that would do it.
pub fn build() -> Result<Toolchain> {
    let toolchain = toolchain::find().or_else(|why| {
        say(&format!(
            "no toolchain here builds eBPF programs ({why}); installing Debian's"
        ));
        install_rust()
    })?;
    let directory = env::temp_dir();
    if let Err(why) = toolchain.prove(&directory) {
        let why = why.lines().next().unwrap_or_default();
        say(&format!(
            "no bpf-linker that fits {toolchain} ({why}); building it"
        ));
        install_linker(&toolchain)?;
        toolchain
            .prove(&directory)
            .map_err(|why| anyhow!("bpf-linker was installed, but does not link: {why}"))?;
    }
    let reason = match toolchain.name.as_deref() {
        Some(LINKED) | None => "no nightly with rust-src here, so Debian's packages",
        Some(_) => "a nightly with rust-src, so no package is needed",
    };
    say(&format!(
        "eBPF toolchain: {toolchain}, with bpf-linker: {reason}"
    ));
    Ok(toolchain)
}

/// What the lints need, and, as root, what the tests on the real kernel need.
///
/// # Errors
/// As [`build`].
pub fn test(toolchain: &Toolchain) -> Result<()> {
    if matches!(toolchain.name.as_deref(), Some(LINKED) | None) {
        apt(RUST_LINTS)?;
    }
    for (tool, component) in [("clippy", "clippy"), ("fmt", "rustfmt")] {
        if !succeeds(Command::new("cargo").args([tool, "--version"])) {
            let mut rustup = Command::new("rustup");
            rustup.args(["component", "add", component]);
            quietly(
                &format!("installing {component}: this Rust came without it"),
                &mut rustup,
            )?;
        }
    }
    if is_root() {
        kernel_tests()
    } else {
        say(
            "not root: tests on the real kernel will be skipped, so their packages are not installed",
        );
        Ok(())
    }
}

/// What virtual machines need.
///
/// # Errors
/// What could not be installed, and the commands that would do it.
pub fn vm() -> Result<()> {
    // A part of qemu that came from backports has to be removed for the release's qemu: then all of it comes from there.
    if qemu_from_backports() && !installed("qemu-system-x86") {
        from_backports("qemu-system-x86")?;
    }
    apt(VM)
}

/// Whether any part of qemu was installed from backports (`~bpo` in its version).
fn qemu_from_backports() -> bool {
    Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat=${db:Status-Status} ${Version}\n",
            "qemu-*",
        ])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|done| {
            String::from_utf8_lossy(&done.stdout)
                .lines()
                .any(|line| line.starts_with("installed ") && line.contains("~bpo"))
        })
}

/// Installs a package from this release's backports, with package lists of our own: the host's sources are not touched.
fn from_backports(package: &str) -> Result<()> {
    let system = std::fs::read_to_string("/etc/os-release")?;
    let codename = system
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no release")?;
    let dir = crate::vm::cache()?.join("backports");
    for place in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(dir.join(place))?;
    }
    let (mirror, keyring) = (crate::vm::mirror("/debian")?, crate::vm::KEYRING);
    let source = format!("deb [signed-by={keyring}] {mirror}");
    std::fs::write(
        dir.join("sources.list"),
        format!("{source} {codename} main\n{source} {codename}-backports main\n"),
    )?;
    let dir = dir.display();
    let options = [
        format!("-oDir::State::Lists={dir}/lists"),
        format!("-oDir::Cache={dir}/cache"),
        format!("-oDir::Etc::SourceList={dir}/sources.list"),
        "-oDir::Etc::SourceParts=/dev/null".to_owned(),
        "-oAcquire::Languages=none".to_owned(),
    ];
    quietly(
        &format!("reading the package lists of {codename}-backports"),
        as_root("apt-get").args(&options).args(["-qq", "update"]),
    )?;
    let mut install = as_root("apt-get");
    install
        .args(&options)
        .args([
            "install",
            "--yes",
            "--no-remove",
            "--no-install-recommends",
            "-t",
        ])
        .arg(format!("{codename}-backports"))
        .arg(package);
    quietly(
        &format!(
            "installing {package} from {codename}-backports, from where a part of it is here already"
        ),
        &mut install,
    )
}

/// What the tests on the real kernel run.
///
/// # Errors
/// As [`build`].
pub fn kernel_tests() -> Result<()> {
    apt(KERNEL_TESTS)
}

/// Whether this process is root.
pub fn is_root() -> bool {
    // The owner of /proc/self is the effective user: no unsafe call, no dependency.
    std::fs::metadata("/proc/self")
        .is_ok_and(|status| std::os::unix::fs::MetadataExt::uid(&status) == 0)
}

/// Whether `program` can be found in `PATH`.
pub fn has(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| {
        env::split_paths(&path).any(|directory| directory.join(program).is_file())
    })
}

fn install_rust() -> Result<Toolchain> {
    apt(RUST)?;
    if has("rustup") || toolchain::cargo_home().join("bin/rustup").is_file() {
        let mut link = toolchain::command(None, "rustup");
        link.args(["toolchain", "link", LINKED, "/usr"]);
        quietly(
            &format!("making it known to rustup, as {LINKED}"),
            &mut link,
        )?;
    }
    toolchain::find()
        .map_err(|why| anyhow!("Debian's Rust is installed, but will not do: {why}. {OTHERWISE}"))
}

fn install_linker(toolchain: &Toolchain) -> Result<()> {
    let llvm = toolchain.llvm;
    let names = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    let why = "LLVM that reads this compiler's bitcode, for bpf-linker";
    apt_by_name(
        &names
            .iter()
            .map(|name| (name.as_str(), why))
            .collect::<Vec<_>>(),
    )?;

    let prefix = format!("/usr/lib/llvm-{llvm}");
    let mut path = vec![Path::new(&prefix).join("bin")];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut install = Command::new("cargo");
    install
        .args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER,
            "--locked",
            "--force",
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{llvm}"),
            "--root",
        ])
        .arg(toolchain::cargo_home())
        // Without them llvm-sys takes the first LLVM that it finds.
        .env("LLVM_PREFIX", &prefix)
        .env("PATH", env::join_paths(path)?);
    quietly(
        "building bpf-linker, which takes a minute or two",
        &mut install,
    )
}

/// Installs Debian packages that are not there yet.
fn apt(packages: &[Package]) -> Result<()> {
    apt_by_name(
        &packages
            .iter()
            .map(|package| (package.name, package.why))
            .collect::<Vec<_>>(),
    )
}

fn apt_by_name(packages: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|(name, _)| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let listed = names.join(" ");
    for (name, why) in &missing {
        say(&format!("needed from Debian: {name}: {why}"));
    }
    if !has("apt-get") {
        bail!("these are Debian packages, and there is no apt-get here: {listed}. {OTHERWISE}");
    }
    if !is_root() && !has("sudo") {
        bail!(
            "installing needs root, and there is no sudo. Run as root: apt-get update && apt-get install {listed}"
        );
    }
    let by_hand = || format!("by hand: apt-get update && apt-get install {listed}. {OTHERWISE}");
    quietly(
        "updating the package lists",
        as_root("apt-get").arg("update"),
    )
    .with_context(by_hand)?;
    let mut install = as_root("apt-get");
    install
        // Nothing of the user's is removed for this: Debian's rustup and rustc conflict with rustc-web.
        .args(["install", "--yes", "--no-remove", "--no-install-recommends"])
        .args(&names);
    quietly(&format!("installing {listed}"), &mut install).with_context(by_hand)?;
    match names.iter().find(|name| !installed(name)) {
        Some(name) => bail!("apt-get ended well, but {name} is not installed"),
        None => Ok(()),
    }
}

fn as_root(program: &str) -> Command {
    let mut command = if is_root() {
        Command::new("env")
    } else {
        Command::new("sudo")
    };
    // As an argument, since sudo clears the environment.
    if !is_root() {
        command.arg("env");
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", program]);
    if is_root() {
        command.stdin(Stdio::null());
    }
    command
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|done| done.status.success() && done.stdout == b"installed")
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
