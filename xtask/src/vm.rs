//! `cargo xtask vm`: the tests on real distribution kernels, in virtual machines.

mod archive;
mod boot;
mod guest;
mod report;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use archive::{Archive, Kernel, LINES};
pub use archive::{KEYRING, cache, mirror};
use report::Report;

use crate::cargo::{build_release, cargo, root};
use crate::setup;
use crate::step::say;

/// Security modules, with BPF's among them: 5.10 has it only when it is named.
const LSM: &str = "lsm=landlock,lockdown,yama,integrity,apparmor,bpf";
/// A guest may take this long.
const LIMIT: Duration = Duration::from_mins(5);
/// Guests at once.
const JOBS: usize = 2;
/// Lines of a guest that are shown when something failed.
const TAIL: usize = 60;
/// How much slower than a real processor an emulated one is taken to be.
const SLOWNESS: u32 = 10;

/// Test programs that run in the guest, with their arguments: what differs from kernel to kernel.
const STEPS: &[(&str, &str)] = &[
    ("methods", ""),
    ("compat", ""),
    ("main_job", "one_alert"),
    ("restart", "a_kill_under_load"),
];

/// What is asked for.
pub struct Wanted<'a> {
    /// Lines of kernels; all, when empty.
    pub kernels: &'a [String],
    /// What the guest's shell runs instead of the tests.
    pub shell: Option<&'a str>,
    /// Take today's verifier figures for the budget.
    pub bless: bool,
}

/// Runs the tests on these lines of kernels.
///
/// # Errors
/// When a kernel cannot be had, or something could not be built or started.
pub fn run(wanted: &Wanted<'_>) -> Result<ExitCode> {
    for name in wanted.kernels {
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
        .filter(|line| {
            wanted.kernels.is_empty() || wanted.kernels.iter().any(|name| name == line.name)
        })
        .map(|line| archive.fetch(line))
        .collect::<Result<Vec<_>>>()?;
    let dir = archive::cache()?.join("guests");
    std::fs::create_dir_all(&dir)?;
    let mut files = tests()?;
    files.insert("/usr/bin/egress".into(), binary.clone());
    files.insert("/t/egress-gen".into(), binary.with_file_name("egress-gen"));
    let base = guest::base(&dir, &files, &script(wanted.shell))?;
    let sessions = boot_all(&kernels, &base, &dir)?;
    if wanted.shell.is_some() {
        for (kernel, session) in kernels.iter().zip(&sessions) {
            for line in &session.lines {
                println!("{}: {line}", kernel.line);
            }
        }
        let ended = sessions.iter().all(|session| session.ended);
        return Ok(if ended {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let steps: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
    let report = Report::of(&kernels, &sessions, &steps);
    let page = report.page();
    println!("{page}");
    if wanted.kernels.is_empty() {
        std::fs::write(root().join("docs/kernels.md"), &page)?;
    }
    let mut wrong: Vec<_> = report.wrong().collect();
    let grown = report.budget(&root().join("xtask/verifier-budget.tsv"), wanted.bless)?;
    if !grown.is_empty() {
        say("if that is as it should be: cargo xtask vm --bless");
    }
    wrong.extend(grown);
    for what in &wrong {
        say(&format!("FAILED: {what}"));
    }
    if !wrong.is_empty() {
        for (kernel, session) in kernels.iter().zip(&sessions) {
            let path = dir.join(kernel.line);
            say(&format!(
                "what kernel {} said is in {}; the end of it:",
                kernel.line,
                path.display()
            ));
            for line in session
                .lines
                .iter()
                .skip(session.lines.len().saturating_sub(TAIL))
            {
                eprintln!("  {line}");
            }
            if !session.ended {
                for line in session
                    .console
                    .lines()
                    .rev()
                    .take(TAIL / 2)
                    .collect::<Vec<_>>()
                    .iter()
                    .rev()
                {
                    eprintln!("  console: {line}");
                }
            }
        }
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
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
    let mut script = format!(
        "export CI=true EGRESS_BIN=/usr/bin/egress EGRESS_SLOWNESS={SLOWNESS} RUST_BACKTRACE=0\n"
    );
    if let Some(shell) = shell {
        script.push_str(shell);
        script.push('\n');
        return script;
    }
    for (name, arguments) in STEPS {
        let _ = writeln!(
            script,
            "began=$(cut -d. -f1 /proc/uptime)\n\
             /t/deps/{name} --test-threads=1 --nocapture {arguments}\n\
             code=$?\n\
             echo \"@ step {name} $code $(($(cut -d. -f1 /proc/uptime) - began))\""
        );
    }
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
