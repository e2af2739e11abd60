//! The namespace lab: a source and a sink, joined by a veth pair, with a ground truth in the sink.
//!
//! In: nothing but the rights of root. Out: [`Lab`], in whose source the generators send and in whose sink the servers
//! receive; [`Truth`], the sink's own count of what came through the wire.
//!
//! Both ends have segmentation and receive offloads off, so that what crosses is the packets that a real wire would
//! carry. Addresses are of the documentation ranges (RFC 5737, RFC 3849). Packets are not lost on their way: servers
//! keep their TCP windows, and generators their UDP bursts, well below the receiver's backlog (1,000 packets).

mod namespace;
mod truth;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

pub use namespace::Namespace;
pub use truth::{Arrived, Flow, Truth, total};

use crate::command::{Running, run};
use crate::{build_dir, wait_for};

/// The source's IPv4 address.
pub const SOURCE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
/// The sink's IPv4 address.
pub const SINK_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));
/// The source's IPv6 address.
pub const SOURCE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// The sink's IPv6 address.
pub const SINK_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

/// Source and sink.
#[derive(Debug)]
pub struct Lab {
    /// Where generators send.
    pub source: Namespace,
    /// Where servers receive, and the truth is counted.
    pub sink: Namespace,
    dir: TempDir,
}

impl Lab {
    /// Builds both namespaces and the wire between them.
    ///
    /// # Errors
    /// When a tool fails, with what it said.
    pub fn new() -> Result<Self> {
        let dir = TempDir::with_prefix("egress-lab-")?;
        // Others than root have to read what is in it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let lab = Self {
            source: Namespace::new()?,
            sink: Namespace::new()?,
            dir,
        };
        // Unlike numbers at the two ends: only then does the kernel tell at once, not up to a second later, that the wire
        // is up (`linkwatch_urgent_event`, `net/core/link_watch.c`).
        let wire = format!(
            "link add wire index 10 type veth peer name wire index 20 netns {}",
            lab.sink.pid()
        );
        lab.source.run("ip", &wire.split(' ').collect::<Vec<_>>())?;
        let ends = [
            (&lab.source, SOURCE_V4, SOURCE_V6),
            (&lab.sink, SINK_V4, SINK_V6),
        ];
        for (namespace, v4, v6) in ends {
            for device in ["wire", "lo"] {
                let features = ["tso", "gso", "gro", "tx-udp-segmentation"];
                let off = features.into_iter().flat_map(|feature| [feature, "off"]);
                let args: Vec<_> = ["-K", device].into_iter().chain(off).collect();
                namespace.run("ethtool", &args)?;
            }
            namespace.run(
                "ip",
                &["address", "add", &format!("{v4}/24"), "dev", "wire"],
            )?;
            namespace.run(
                "ip",
                &[
                    "address",
                    "add",
                    &format!("{v6}/64"),
                    "dev",
                    "wire",
                    "nodad",
                ],
            )?;
        }
        // Counting before anything can arrive.
        let rules = lab.path("truth.nft");
        fs::write(&rules, truth::RULES)?;
        for (namespace, ..) in ends {
            run(namespace.command("nft").arg("--file").arg(&rules))?;
        }
        for (namespace, ..) in ends {
            namespace.run("ip", &["link", "set", "wire", "up"])?;
        }
        for (namespace, ..) in ends {
            wait_for("the wire to be up", Duration::from_secs(5), || {
                Ok((link(namespace)?["operstate"] == "UP").then_some(()))
            })?;
        }
        Ok(lab)
    }

    /// A folder for the test's files, readable by all; removed with the lab.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in [`dir`](Self::dir).
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A generator in the source: `egress-gen` with these arguments.
    ///
    /// # Errors
    /// When it was not built.
    pub fn generator(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.source.command(generator()?);
        command.args(args);
        Ok(command)
    }

    /// Starts one of `egress-gen`'s servers in a namespace of this lab and waits until it listens.
    ///
    /// # Errors
    /// When it does not within 10 s.
    pub fn serve(
        &self,
        namespace: &Namespace,
        args: &[&str],
        listen: SocketAddr,
    ) -> Result<Running> {
        self.serve_by(&generator()?, namespace, args, listen)
    }

    /// As [`Self::serve`], by a copy of `egress-gen` that lies elsewhere.
    ///
    /// # Errors
    /// As there.
    pub fn serve_by(
        &self,
        program: &Path,
        namespace: &Namespace,
        args: &[&str],
        listen: SocketAddr,
    ) -> Result<Running> {
        let mut command = namespace.command(program);
        command.args(args).arg("--listen").arg(listen.to_string());
        let mut server = Running::start(&mut command, self.dir())?;
        server.wait_lines(Duration::from_secs(10), |lines| !lines.is_empty())?;
        Ok(server)
    }

    /// Everything that has arrived in the sink from the source.
    ///
    /// # Errors
    /// When nft fails, or packets were lost on the wire: then the sink cannot know what was sent.
    pub fn truth(&self) -> Result<Truth> {
        for (name, namespace) in [("source", &self.source), ("sink", &self.sink)] {
            let link = link(namespace)?;
            let dropped = link["stats64"]["tx"]["dropped"]
                .as_u64()
                .context("ip's counters of the wire")?;
            ensure!(
                dropped == 0,
                "the wire lost {dropped} packets that the {name} sent"
            );
        }
        Truth::read(&self.sink)
    }

    /// Everything that has arrived in the source: from the sink, and from itself over loopback.
    ///
    /// # Errors
    /// When nft fails.
    pub fn truth_of_source(&self) -> Result<Truth> {
        Truth::read(&self.source)
    }

    /// The link-layer address of the sink's end of the wire.
    ///
    /// # Errors
    /// When `ip` does not tell.
    pub fn sink_mac(&self) -> Result<String> {
        let link = link(&self.sink)?;
        let mac = link["address"].as_str();
        Ok(mac.context("the address of the sink's device")?.to_owned())
    }
}

/// What `ip` says of the wire's end in a namespace.
fn link(namespace: &Namespace) -> Result<Value> {
    let listing = namespace.run("ip", &["-json", "-s", "link", "show", "wire"])?;
    Ok(serde_json::from_str::<Value>(&listing)?[0].take())
}

/// Path of `egress-gen`.
///
/// # Errors
/// When it was not built.
pub fn generator() -> Result<PathBuf> {
    let path = build_dir()?.join("egress-gen");
    path.canonicalize()
        .with_context(|| format!("{}: run cargo build -p egress-tests --bins", path.display()))
}
