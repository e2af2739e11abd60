//! A network namespace without a name, which lives as long as its holder.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::command::run;

/// A network namespace. Its holder is a `cat` that reads from us: it ends when we do, in whatever way, and the kernel
/// then removes the namespace with all that is in it. Nothing has a name that could collide or stay behind.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Makes one, with loopback up and silent about IPv6.
    ///
    /// # Errors
    /// When we may not.
    pub fn new() -> Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare --net")?;
        let (stdin, stdout) = (holder.stdin.as_mut(), holder.stdout.as_mut());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            unreachable!("both are piped")
        };
        // An echo means that it is past unshare.
        stdin.write_all(b"here\n")?;
        let mut echo = String::new();
        BufReader::new(stdout).read_line(&mut echo)?;
        let namespace = Self { holder };
        ensure!(echo == "here\n", "unshare --net: no new network namespace");
        for setting in [
            "accept_ra=0",
            "router_solicitations=0",
            "accept_dad=0",
            "addr_gen_mode=1",
        ] {
            for interfaces in ["all", "default"] {
                namespace.run(
                    "sysctl",
                    &["-q", "-w", &format!("net.ipv6.conf.{interfaces}.{setting}")],
                )?;
            }
        }
        namespace.run("ip", &["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Process id of the holder, by which `ip link ... netns` knows the namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// The file that is the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }

    /// A command inside. It keeps its process id through every exec on the way, and dies with the thread that starts it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        command
            .args(["--", "setpriv", "--pdeathsig", "KILL", "--"])
            .arg(program);
        command
    }

    /// Runs a command inside to its end and gives its standard output.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        run(self.command(program).args(args))
    }

    /// TCP segments sent more than once so far (`RetransSegs` of RFC 4022).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn retransmissions(&self) -> Result<u64> {
        let table = std::fs::read_to_string(format!("/proc/{}/net/snmp", self.pid()))?;
        let mut tcp = table
            .lines()
            .filter_map(|line| line.strip_prefix("Tcp: "))
            .map(|line| line.split(' '));
        let (names, values) = tcp.next().zip(tcp.next()).context("no TCP counters")?;
        let counter = names.zip(values).find(|(name, _)| *name == "RetransSegs");
        Ok(counter.context("no RetransSegs")?.1.parse()?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
