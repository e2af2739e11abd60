//! Boots a kernel in qemu and gives what the guest said.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::archive::Kernel;
use super::guest;

/// What a guest said, and how long it took.
pub struct Session {
    /// Its lines.
    pub lines: Vec<String>,
    /// The last of its kernel's own messages, for when it did not come to the end.
    pub console: String,
    /// From start to power off.
    pub took: Duration,
    /// It came to its end.
    pub ended: bool,
}

/// Boots `kernel` with the shared archive; kills it after `limit`.
///
/// # Errors
/// When qemu cannot be started or files cannot be written.
pub fn boot(
    kernel: &Kernel,
    base: &Path,
    dir: &Path,
    append: &str,
    limit: Duration,
) -> Result<Session> {
    fs::create_dir_all(dir)?;
    let (console, result, initrd) = (dir.join("console"), dir.join("result"), dir.join("initrd"));
    let modules = guest::modules(&kernel.modules, dir)?;
    // Archives may follow each other (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
    let mut whole = fs::File::create(&initrd)?;
    for part in [base, modules.as_path()] {
        std::io::copy(&mut fs::File::open(part)?, &mut whole)?;
    }
    let begun = Instant::now();
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu
        // Emulated, always: a hypervisor below may not run unmodified kernels, and is not needed.
        .args([
            "-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1024",
        ])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-monitor",
            "none",
        ])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", result.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initrd)
        .arg("-append")
        .arg(format!("console=ttyS0 loglevel=4 panic=-1 {append}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("qemu"))?);
    let mut child = qemu.spawn().context("qemu-system-x86_64")?;
    while child.try_wait()?.is_none() {
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::remove_file(&initrd)?;
    let text = |path| {
        fs::read(path)
            .map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', ""))
            .unwrap_or_default()
    };
    let lines: Vec<_> = text(&result).lines().map(ToOwned::to_owned).collect();
    Ok(Session {
        ended: lines.iter().any(|line| line == "@ end"),
        console: text(&console),
        took: begun.elapsed(),
        lines,
    })
}
