//! The lab: what the real-kernel tests share.
//!
//! In: the built `egress` binary and a Linux host on which we are root. Out: network namespaces with a ground truth of
//! their own ([`lab`]), the daemon as a guard ([`daemon`]), and its records, summed and checked ([`records`]).
//!
//! The daemon watches the whole host, so its lock lets one test at a time run it. Traffic stays on loopback and
//! between the namespaces of a [`lab::Lab`]; whatever a test starts ends with it, also when it panics or is killed.
#![forbid(unsafe_code)]

pub mod accuracy;
pub mod command;
pub mod daemon;
pub mod http;
pub mod kernel;
pub mod lab;
pub mod records;
pub mod require;
pub mod tally;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Where cargo puts what it builds: where this executable lies, or, for a test, the folder above its `deps/`.
///
/// # Errors
/// When this executable does not lie in a cargo target directory.
pub fn build_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("where this executable lies")?;
    let dir = exe.parent();
    let dir = dir.map(|dir| match dir.parent() {
        Some(above) if dir.ends_with("deps") => above,
        _ => dir,
    });
    let dir = dir.filter(|dir| dir.join("egress-gen").is_file());
    dir.map(Into::into).with_context(|| {
        format!(
            "no egress-gen beside {}: run cargo build -p egress-tests --bins",
            exe.display()
        )
    })
}

/// By how much this machine is slower than a real one: `EGRESS_SLOWNESS`, which is set where processors are emulated.
/// Waits are longer by this, and what only a fast machine can do is not asked for.
#[must_use]
pub fn slowness() -> u32 {
    let told = std::env::var("EGRESS_SLOWNESS").ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// Asks `poll` every 20 ms until it gives a value.
///
/// # Errors
/// What `poll` fails with, or that `what` did not come within `timeout`.
pub fn wait_for<T>(
    what: &str,
    timeout: Duration,
    mut poll: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let timeout = timeout * slowness();
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = poll().with_context(|| format!("waiting for {what}"))? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {timeout:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
