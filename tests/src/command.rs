//! Commands: run to their end, or kept running by a guard.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::wait_for;

/// Runs a command to its end and gives its standard output.
///
/// # Errors
/// When it cannot be started or does not exit with 0; what it said on standard error is in the message.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        error.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a generator to its end and gives the line of JSON that it prints.
///
/// # Errors
/// As [`run`], or when that line is not JSON.
pub fn json(command: &mut Command) -> Result<Value> {
    let output = run(command)?;
    serde_json::from_str(&output).with_context(|| format!("{command:?} printed {output:?}"))
}

/// A process that runs beside the test, in a process group of its own. Dropping it ends the group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Held open: our servers end when it closes, so they cannot outlive a test that is killed.
    stdin: Option<ChildStdin>,
    what: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Starts a command; what it prints goes to files in `dir`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, dir: &Path) -> Result<Self> {
        command.process_group(0);
        Self::start_ungrouped(command, dir)
    }

    /// As [`start`](Self::start), for a command that makes a group of its own: `setsid`, which forks when it leads one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_ungrouped(command: &mut Command, dir: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (stdout, stderr) = (
            dir.join(format!("{number}.out")),
            dir.join(format!("{number}.err")),
        );
        command
            .stdin(Stdio::piped())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?);
        let what = format!("{command:?}");
        let mut child = command.spawn().with_context(|| what.clone())?;
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            stdin,
            what,
            stdout,
            stderr,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed on standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        let bytes = std::fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The lines of JSON that it has printed, up to the last complete one.
    ///
    /// # Errors
    /// When one is not JSON.
    pub fn lines(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.stdout)?;
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        complete
            .lines()
            .map(|line| {
                serde_json::from_str(line).with_context(|| format!("{}: {line}", self.what))
            })
            .collect()
    }

    /// Waits until `wanted` likes what it has printed.
    ///
    /// # Errors
    /// When that takes longer than `timeout`, or the process ends before.
    pub fn wait_lines(
        &mut self,
        timeout: Duration,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>> {
        let what = self.what.clone();
        wait_for(&what, timeout, || {
            let ended = self.child.try_wait()?;
            let lines = self.lines()?;
            if wanted(&lines) {
                return Ok(Some(lines));
            }
            ensure!(ended.is_none(), "ended ({ended:?}): {}", self.stderr());
            Ok(None)
        })
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// When it does not read any more.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self
            .stdin
            .as_mut()
            .context("its standard input is closed")?;
        writeln!(stdin, "{line}").with_context(|| self.what.clone())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When that takes longer than `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.what);
        wait_for(&what, timeout, || Ok(self.child.try_wait()?))
    }

    /// Closes its standard input, which ends our servers, waits, and gives all that they have printed.
    ///
    /// # Errors
    /// When it does not end within 10 s, or not with exit code 0.
    pub fn finish(mut self) -> Result<Vec<Value>> {
        self.stdin = None;
        let status = self.wait(Duration::from_secs(10))?;
        ensure!(
            status.success(),
            "{}: {status}: {}",
            self.what,
            self.stderr()
        );
        self.lines()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| self.what.clone())
    }

    /// Sends a signal to the process alone.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // A reaped process's number could be another's.
        ensure!(self.ended()?.is_none(), "{} has ended", self.what);
        rustix::process::kill_process(self.unix_pid()?, signal)
            .with_context(|| format!("{signal:?} to {}", self.what))
    }

    fn unix_pid(&self) -> Result<Pid> {
        Pid::from_raw(self.pid().cast_signed()).context("a pid")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let (Ok(None), Ok(pid)) = (self.ended(), self.unix_pid()) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
