//! What goes on beside the job, and is nobody's exfiltration: a clock that asks the time, downloads, a web server that
//! answers, and a person who copies one file.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, run};
use egress_tests::lab::{Lab, Namespace, SINK_V4, SOURCE_V4};
use egress_tests::records::{flows_to, number, of, sum, text};
use egress_tests::require::find;
use serde_json::Value;
use tempfile::TempDir;

/// How often each does what it does; one more than the job.
const TIMES: usize = 13;

const CLOCK: SocketAddr = SocketAddr::new(SINK_V4, 123);
const ARCHIVE: SocketAddr = SocketAddr::new(SINK_V4, 8081);
const SERVER: SocketAddr = SocketAddr::new(SOURCE_V4, 8082);
const SSH: SocketAddr = SocketAddr::new(SINK_V4, 22);

/// All of it, running.
pub struct Quiet {
    clock: Running,
    _clock_server: Running,
    _sshd: Running,
    downloads: Running,
    archive: Running,
    pulls: Running,
    server: Running,
    copied: PathBuf,
    _programs: TempDir,
}

/// Starts it. `file` is what the person will copy.
pub fn start(lab: &Lab, file: &Path) -> Result<Quiet> {
    // The project may have been built below /tmp, and a program that lies where anybody can write counts as disguised.
    let programs = TempDir::with_prefix_in("egress-quiet-", "/var/lib")?;
    let program = &programs.path().join("egress-gen");
    fs::copy(egress_tests::lab::generator()?, program)?;
    let clock_server = lab.serve(&lab.sink, &["udp-sink", "--echo"], CLOCK)?;
    let mut clock = lab.source.command("setsid");
    clock.arg(program);
    clock.args([
        "ntp-like",
        "--count",
        &TIMES.to_string(),
        "--to",
        &CLOCK.to_string(),
    ]);
    let archive = lab.serve_by(program, &lab.sink, &["http"], ARCHIVE)?;
    let server = lab.serve_by(program, &lab.source, &["http"], SERVER)?;
    Ok(Quiet {
        clock: Running::start_ungrouped(&mut clock, lab.dir())?,
        _clock_server: clock_server,
        _programs: programs,
        downloads: fetch(
            lab,
            &lab.source,
            "update.sh",
            &format!("http://{ARCHIVE}/bytes/3000000"),
        )?,
        archive,
        pulls: fetch(
            lab,
            &lab.sink,
            "pull.sh",
            &format!("http://{SERVER}/bytes/1000000"),
        )?,
        server,
        _sshd: sshd(lab)?,
        copied: file.to_owned(),
    })
}

/// A script without a terminal that fetches something every two seconds.
fn fetch(lab: &Lab, namespace: &Namespace, name: &str, url: &str) -> Result<Running> {
    let script = lab.path(name);
    let fetch = format!("curl -sS --fail --max-time 5 -o /dev/null {url} || exit 1");
    fs::write(
        &script,
        format!("n=0\nwhile [ $n -lt {TIMES} ]; do\n{fetch}\nn=$((n + 1))\nsleep 2\ndone\n"),
    )?;
    Running::start_ungrouped(namespace.command("setsid").arg("sh").arg(script), lab.dir())
}

/// A server with keys of its own, and a `/run` of its own for its privilege separation.
fn sshd(lab: &Lab) -> Result<Running> {
    let dir = lab.path("ssh");
    fs::create_dir(&dir)?;
    for key in ["host", "user"] {
        run(std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(dir.join(key)))?;
    }
    let (config, keys) = (dir.join("sshd_config"), dir.display());
    let settings = format!(
        "ListenAddress {SSH}\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/user.pub\nStrictModes no\nPidFile none\n\
         UsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    );
    fs::write(&config, settings)?;
    let sshd = find("sshd").context("sshd")?;
    let mut command = lab.sink.command("unshare");
    let private = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec \"$@\"";
    command
        .args(["--mount", "--", "sh", "-c", private, "sh"])
        .arg(sshd)
        .args(["-D", "-e", "-f"])
        .arg(config);
    let server = Running::start(&mut command, lab.dir())?;
    egress_tests::wait_for("sshd to listen", Duration::from_secs(10), || {
        Ok(server.stderr().contains("Server listening").then_some(()))
    })?;
    Ok(server)
}

impl Quiet {
    /// A person at a terminal copies one sensitive file; gives the copy's path.
    pub fn copy_by_hand(&self, lab: &Lab) -> Result<PathBuf> {
        let copy = lab.path("copy");
        let (from, key, to) = (self.copied.display(), lab.path("ssh/user"), copy.display());
        let options = "-q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -F none";
        let scp = format!(
            "scp {options} -P {} -i {} {from} root@{}:{to}",
            SSH.port(),
            key.display(),
            SSH.ip()
        );
        run(lab
            .source
            .command("script")
            .args(["-qec", &scp, "/dev/null"]))?;
        ensure!(
            fs::read(&copy)? == fs::read(&self.copied)?,
            "the copy differs"
        );
        Ok(copy)
    }

    /// Waits until all has been done as often as it should.
    pub fn finish(mut self) -> Result<()> {
        for running in [&mut self.clock, &mut self.downloads, &mut self.pulls] {
            let status = running.wait(Duration::from_mins(1))?;
            ensure!(
                status.success(),
                "{running:?}: {status}: {}",
                running.stderr()
            );
        }
        for server in [&mut self.archive, &mut self.server] {
            server.wait_lines(Duration::from_secs(5), |lines| lines.len() == TIMES + 1)?;
        }
        Ok(())
    }
}

/// That the daemon saw all of it (or its silence would prove nothing), and which way the bytes went.
pub fn check(records: &[Value], copy: &Path) -> Result<()> {
    let asked = sum(flows_to(records, CLOCK));
    ensure!(
        asked.app_bytes == 48 * TIMES as u64 && asked.rx_bytes == asked.app_bytes,
        "the clock: {asked:?}"
    );
    let fetched = sum(flows_to(records, ARCHIVE));
    ensure!(
        fetched.rx_bytes > 3_000_000 * TIMES as u64 && fetched.app_bytes < 10_000,
        "downloads: {fetched:?}"
    );
    let answers = of(records, "flow").filter(|flow| {
        number(flow, "source.port") == Some(SERVER.port().into())
            && text(flow, "egress.direction") == Some("accepted")
    });
    let answered = sum(answers);
    ensure!(
        answered.app_bytes > 1_000_000 * TIMES as u64,
        "the server: {answered:?}"
    );
    let copied = sum(flows_to(records, SSH));
    ensure!(
        copied.app_bytes > fs::metadata(copy)?.len(),
        "scp: {copied:?}"
    );
    Ok(())
}
