//! `cargo xtask vm`: the tests on real distribution kernels, in virtual machines.

mod archive;
mod boot;
mod guest;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use archive::{Archive, Kernel, LINES};
pub use archive::{KEYRING, cache, mirror};

use crate::cargo::{build_release, cargo};
use crate::setup;
use crate::step::say;

/// Security modules, with BPF's among them: 5.10 has it only when it is named.
const LSM: &str = "lsm=landlock,lockdown,yama,integrity,apparmor,bpf";
/// A guest may take this long.
const LIMIT: Duration = Duration::from_mins(5);
/// Guests at once.
const JOBS: usize = 2;

/// Runs the tests on these lines of kernels, or on all.
///
/// # Errors
/// When a kernel cannot be had, or something could not be built or started.
pub fn run(kernels: &[String], shell: Option<&str>) -> Result<ExitCode> {
    for name in kernels {
        if !LINES.iter().any(|line| line.name == name) {
            let known: Vec<_> = LINES.iter().map(|line| line.name).collect();
            bail!(
                "no line of kernels is called {name}: there is {}",
                known.join(", ")
            );
        }
    }
    setup::build()?;
    setup::vm()?;
    let binary = build_release(&["--package", "egress-user", "--package", "egress-tests"])?;
    let archive = Archive::open()?;
    let kernels = LINES
        .iter()
        .filter(|line| kernels.is_empty() || kernels.iter().any(|name| name == line.name))
        .map(|line| archive.fetch(line))
        .collect::<Result<Vec<_>>>()?;
    let dir = archive::cache()?.join("guests");
    std::fs::create_dir_all(&dir)?;
    let mut files = tests()?;
    files.insert("/usr/bin/egress".into(), binary.clone());
    files.insert("/t/egress-gen".into(), binary.with_file_name("egress-gen"));
    let base = guest::base(&dir, &files, &script(shell))?;
    let sessions = boot_all(&kernels, &base, &dir)?;
    let mut failed = false;
    for (kernel, session) in kernels.iter().zip(sessions) {
        say(&format!(
            "kernel {} ({}): {:.0} s",
            kernel.line,
            kernel.release,
            session.took.as_secs_f64()
        ));
        for line in &session.lines {
            println!("{}: {line}", kernel.line);
        }
        if !session.ended {
            failed = true;
            let tail: Vec<_> = session.console.lines().rev().take(20).collect();
            say("it did not come to its end; the kernel's last words:");
            for line in tail.into_iter().rev() {
                eprintln!("  {line}");
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The test programs, by their path in the guest. They look for the generators in the folder above.
fn tests() -> Result<BTreeMap<PathBuf, PathBuf>> {
    let build = [
        "test",
        "--no-run",
        "--quiet",
        "--message-format=json",
        "--package",
        "egress-tests",
    ];
    let done = cargo(build)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    ensure!(done.status.success(), "the tests did not build");
    let mut tests = BTreeMap::new();
    for line in done.stdout.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(line) else {
            continue;
        };
        let is_test = message["target"]["kind"][0] == "test";
        if let (true, Some(name), Some(path)) = (
            is_test,
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) {
            tests.insert(Path::new("/t/deps").join(name), path.into());
        }
    }
    Ok(tests)
}

/// What the guest runs.
fn script(shell: Option<&str>) -> String {
    let mut script = String::new();
    let _ = writeln!(
        script,
        "export CI=true EGRESS_BIN=/usr/bin/egress EGRESS_SLOWNESS=10 RUST_BACKTRACE=0"
    );
    let _ = writeln!(script, "{}", shell.unwrap_or("egress doctor --json"));
    script
}

/// Boots all, some at a time.
fn boot_all(kernels: &[Kernel], base: &Path, dir: &Path) -> Result<Vec<boot::Session>> {
    let next = Mutex::new(0..kernels.len());
    let done: Mutex<Vec<Option<Result<boot::Session>>>> =
        Mutex::new(kernels.iter().map(|_| None).collect());
    let lock = "no thread panics while it holds this";
    std::thread::scope(|scope| {
        for _ in 0..JOBS.min(kernels.len()) {
            scope.spawn(|| {
                loop {
                    let Some(index) = next.lock().expect(lock).next() else {
                        return;
                    };
                    let Some(kernel) = kernels.get(index) else {
                        return;
                    };
                    say(&format!(
                        "booting kernel {} ({})",
                        kernel.line, kernel.release
                    ));
                    let session = boot::boot(kernel, base, &dir.join(kernel.line), LSM, LIMIT);
                    if let Some(place) = done.lock().expect(lock).get_mut(index) {
                        *place = Some(session);
                    }
                }
            });
        }
    });
    done.into_inner()
        .expect(lock)
        .into_iter()
        .flatten()
        .collect()
}
