//! The daemon, as its users run it: the built binary, its arguments, signals, files and ports.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Running, run};
use crate::tally::Tally;
use crate::{build_dir, http, records, wait_for};

/// How long the daemon may take until it is ready.
const READY: Duration = Duration::from_secs(20);
/// How long it may take to drain and end.
const END: Duration = Duration::from_secs(15);

/// Configuration of most tests: everything is told, soon.
pub const TELL_ALL: &str = "
[events]
flow_interval = \"500ms\"
health_interval = \"1s\"
files = \"all\"
";

/// The `egress` binary: `EGRESS_BIN`, or what was built last in this test's target directory.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("EGRESS_BIN") {
        return PathBuf::from(&path)
            .canonicalize()
            .with_context(|| format!("EGRESS_BIN={}", path.display()));
    }
    let built = build_dir()?;
    let target = built.parent().context("a target directory")?;
    let binaries = ["release", "debug"].map(|profile| target.join(profile).join("egress"));
    let age = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
    let newest = binaries
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(age);
    newest.with_context(|| {
        format!(
            "no egress binary below {}: run `cargo xtask build`",
            target.display()
        )
    })
}

/// The only one allowed to run a daemon on this host; given back when dropped, or when its holder dies. An abstract
/// socket rather than a file: the kernel gives it to one process at a time, and nothing stays behind.
#[derive(Debug)]
pub struct HostLock(#[expect(dead_code, reason = "held, not used")] UnixListener);

impl HostLock {
    /// Waits for it.
    ///
    /// # Errors
    /// When others keep it for ten minutes.
    pub fn take() -> Result<Self> {
        let name = std::os::unix::net::SocketAddr::from_abstract_name("egress-tests")?;
        wait_for(
            "the other tests to release the host",
            Duration::from_mins(10),
            || Ok(UnixListener::bind_addr(&name).ok().map(Self)),
        )
    }
}

/// What a daemon is given: a state directory, a configuration, a free port.
#[derive(Debug)]
pub struct Setup {
    dir: TempDir,
    /// Where `/metrics`, `/healthz` and `/readyz` will be.
    pub listen: SocketAddr,
}

impl Setup {
    /// Writes the configuration and finds a port.
    ///
    /// # Errors
    /// When the disk or the ports are full.
    pub fn new(config: &str) -> Result<Self> {
        let dir = TempDir::with_prefix("egress-daemon-")?;
        fs::write(dir.path().join("egress.toml"), config)?;
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Ok(Self { dir, listen })
    }

    /// `--config`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("egress.toml")
    }

    /// `--state-dir`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// `--events`.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.dir.path().join("events.jsonl")
    }

    /// A folder for what the daemon prints.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The arguments of `egress run`.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let (config, state, events) = (self.config(), self.state(), self.events());
        let values = [
            ("--config", config.display().to_string()),
            ("--state-dir", state.display().to_string()),
            ("--listen", self.listen.to_string()),
            ("--events", events.display().to_string()),
        ];
        let pairs = values
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]);
        std::iter::once("run".to_owned()).chain(pairs).collect()
    }

    /// Runs `egress unload`.
    ///
    /// # Errors
    /// When it does not exit with 0.
    pub fn unload(&self) -> Result<String> {
        run(Command::new(binary()?)
            .arg("unload")
            .arg("--state-dir")
            .arg(self.state()))
    }
}

/// A running daemon. Dropping it ends it and takes what it may have left out of the kernel.
#[derive(Debug)]
pub struct Daemon {
    process: Option<Running>,
    setup: Setup,
    records: Vec<Value>,
    read: u64,
    /// There until the daemon has ended; then whoever asked for the end has it.
    host: Option<HostLock>,
}

/// A daemon that has ended as it should.
#[derive(Debug)]
pub struct Run {
    /// Every record, in order.
    pub records: Vec<Value>,
    /// What it said.
    pub stderr: String,
    /// No other test's daemon runs while this is held.
    pub host: HostLock,
}

impl Daemon {
    /// Starts a daemon with this configuration, when no other test runs one, and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready within 20 s, with what it said.
    pub fn start(config: &str) -> Result<Self> {
        Self::start_on(HostLock::take()?, config)
    }

    /// As [`start`](Self::start), by whom has the host already.
    ///
    /// # Errors
    /// When it is not ready within 20 s, with what it said.
    pub fn start_on(host: HostLock, config: &str) -> Result<Self> {
        Self::start_with(host, Setup::new(config)?, 0)
    }

    /// Starts it with what another was given, whose events file has been read up to `read`.
    fn start_with(host: HostLock, setup: Setup, read: u64) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary()?)
            .args(setup.arguments());
        let process = Running::start(&mut command, setup.dir())?;
        let mut daemon = Self {
            process: Some(process),
            setup,
            records: Vec::new(),
            read,
            host: Some(host),
        };
        let listen = daemon.setup.listen;
        wait_for("egress to be ready", READY, || {
            daemon.check_alive()?;
            Ok(http::get(listen, "/readyz")
                .is_ok_and(|(status, _)| status == 200)
                .then_some(()))
        })?;
        Ok(daemon)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Running::pid)
    }

    /// What it was given.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Does something while the daemon stands still (`SIGSTOP`), and lets it go on.
    ///
    /// # Errors
    /// When the daemon has ended.
    pub fn while_stopped<T>(&mut self, work: impl FnOnce() -> T) -> Result<T> {
        let process = self.process.as_mut().context("the daemon has ended")?;
        process.signal(Signal::STOP)?;
        let done = work();
        process.signal(Signal::CONT)?;
        Ok(done)
    }

    /// Every record so far.
    ///
    /// # Errors
    /// When a complete line is not JSON.
    pub fn records(&mut self) -> Result<&[Value]> {
        let mut file = match File::open(self.setup.events()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(&self.records),
            file => file?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        let complete = new
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        for line in new[..complete].split_inclusive(|byte| *byte == b'\n') {
            let record = serde_json::from_slice(line);
            self.records.push(
                record.with_context(|| format!("not JSON: {}", String::from_utf8_lossy(line)))?,
            );
            self.read += line.len() as u64;
        }
        Ok(&self.records)
    }

    /// Waits until `wanted` likes the records.
    ///
    /// # Errors
    /// When that takes longer than `timeout`, or the daemon ends before.
    pub fn wait_records(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Result<&[Value]> {
        wait_for(what, timeout, || {
            self.check_alive()?;
            Ok(wanted(self.records()?).then_some(()))
        })?;
        Ok(&self.records)
    }

    /// Ends it by SIGTERM, and holds it to what it owes: exit code 0, a complete last line, books that balance.
    ///
    /// # Errors
    /// When it owes something.
    pub fn stop(self) -> Result<Run> {
        self.stop_by(Signal::TERM)
    }

    /// As [`stop`](Self::stop), by another signal.
    ///
    /// # Errors
    /// When it owes something.
    pub fn stop_by(mut self, signal: Signal) -> Result<Run> {
        self.check_alive()?;
        let status = self.end(signal)?;
        let stderr = self
            .process
            .take()
            .map(|process| process.stderr())
            .unwrap_or_default();
        ensure!(status.code() == Some(0), "{signal:?}: {status}: {stderr}");
        let size = fs::metadata(self.setup.events())?.len();
        self.records()?;
        ensure!(
            self.read == size,
            "the last line is cut: {size} bytes, {} in complete lines",
            self.read
        );
        records::check_books(&self.records).with_context(|| stderr.clone())?;
        let host = self.host.take().context("the daemon has ended")?;
        Ok(Run {
            records: std::mem::take(&mut self.records),
            stderr,
            host,
        })
    }

    /// Ends it by SIGTERM, when it is configured to leave its hooks counting.
    ///
    /// # Errors
    /// When it does not exit with 0.
    pub fn stop_and_keep(mut self) -> Result<Killed> {
        let status = self.end(Signal::TERM)?;
        let process = self.process.take().context("the daemon has ended")?;
        ensure!(status.code() == Some(0), "{status}: {}", process.stderr());
        Ok(Killed(self))
    }

    /// As [`stop`](Self::stop), for a run with more records than one wants to hold: they are added up, and the books are
    /// those of [`Tally::check`].
    ///
    /// # Errors
    /// When it owes something.
    pub fn stop_tallied(mut self) -> Result<Tally> {
        self.check_alive()?;
        let status = self.end(Signal::TERM)?;
        let process = self.process.take();
        let stderr = process.map(|process| process.stderr()).unwrap_or_default();
        ensure!(status.code() == Some(0), "{status}: {stderr}");
        let tally = Tally::read(&self.setup.events())?;
        tally.check().with_context(|| stderr)?;
        Ok(tally)
    }

    /// Kills it, as the kernel does when memory runs out, and gives what it leaves behind on disk.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> Result<Killed> {
        self.end(Signal::KILL)?;
        self.process = None;
        Ok(Killed(self))
    }

    fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        let process = self.process.as_mut().context("the daemon has ended")?;
        process.signal(signal)?;
        process.wait(END).with_context(|| process.stderr())
    }

    fn check_alive(&mut self) -> Result<()> {
        let process = self.process.as_mut().context("the daemon has ended")?;
        let ended = process.ended()?;
        ensure!(
            ended.is_none(),
            "egress ended ({ended:?}): {}",
            process.stderr()
        );
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Still there: the test has failed, and its reader wants to know what the daemon said.
        if let Some(process) = &self.process {
            eprintln!("egress said:\n{}", process.stderr());
            let _ = self.end(Signal::TERM);
            self.process = None;
        }
        // It did not end as it should, so it may have left something.
        if self.host.is_some() {
            let _ = self.setup.unload();
        }
    }
}

/// What is left of a daemon that was killed, or stopped for a moment. The host stays locked.
#[derive(Debug)]
pub struct Killed(Daemon);

impl Killed {
    /// What it was given.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.0.setup
    }

    /// Starts the daemon again, with another configuration if there is one, and gives what the killed one had told.
    ///
    /// # Errors
    /// When it is not ready within 20 s, with what it said; or when what was told is not JSON.
    pub fn restart(mut self, config: Option<&str>) -> Result<(Vec<Value>, Daemon)> {
        self.0.records()?;
        let told = std::mem::take(&mut self.0.records);
        let host = self.0.host.take().context("the host is ours")?;
        // Nothing is left to unload by this one.
        let setup = std::mem::replace(&mut self.0.setup, Setup::new("")?);
        if let Some(config) = config {
            fs::write(setup.config(), config)?;
        }
        Ok((told, Daemon::start_with(host, setup, self.0.read)?))
    }

    /// Runs `egress unload`.
    ///
    /// # Errors
    /// When it does not exit with 0.
    pub fn unload(&self) -> Result<String> {
        self.0.setup.unload()
    }
}
