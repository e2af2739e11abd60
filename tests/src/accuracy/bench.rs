//! The lab, ready for all scenarios: starts generators, servers and clients, and hears what they tell.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::{Scenario, Sender, Setting, Target};
use crate::command::{Running, json};
use crate::lab::{self, Lab, SOURCE_V4, SOURCE_V6};
use crate::records::{number, text};
use crate::require;

mod container;

/// How long one generator may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long one lives that is killed.
const LIFE: Duration = Duration::from_millis(300);
/// Port of the source's servers.
const SERVER_PORT: u16 = 7000;

/// A lab that is ready for all scenarios.
pub(super) struct Bench<'a> {
    lab: &'a Lab,
    generator: PathBuf,
    /// A copy that other users can run.
    copy: PathBuf,
    mac: String,
    gate: PathBuf,
}

/// A scenario that waits for the daemon.
pub(super) struct Begun {
    scenario: &'static Scenario,
    sender: Running,
    /// In the sink: who receives, or who connected.
    peer: Running,
}

impl<'a> Bench<'a> {
    pub(super) fn new(lab: &'a Lab) -> Result<Self> {
        let generator = lab::generator()?;
        let copy = lab.path("egress-gen-copy");
        fs::copy(&generator, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        let copy = copy.canonicalize()?;
        for namespace in [&lab.source, &lab.sink] {
            // Data in a SYN, at both ends, for every listener (Linux `Documentation/networking/ip-sysctl.rst`).
            namespace.run("sysctl", &["-q", "-w", "net.ipv4.tcp_fastopen=1027"])?;
            // Unprivileged ICMP sockets, for every group.
            let ping = "net.ipv4.ping_group_range=0 2147483647";
            namespace.run("sysctl", &["-q", "-w", ping])?;
        }
        Ok(Self {
            lab,
            generator,
            copy,
            mac: lab.sink_mac()?,
            gate: lab.path("gate"),
        })
    }

    /// What a scenario needs and this kernel does not have.
    pub(super) fn missing(&self, scenario: &Scenario) -> Result<Option<String>> {
        for need in scenario.needs {
            if *need == "runc" {
                if let Some(problem) = require::problem(&["runc"]) {
                    return Ok(Some(format!("not on this host: {problem}")));
                }
                continue;
            }
            let told = json(
                self.lab
                    .source
                    .command(&self.generator)
                    .args(["probe", need]),
            )?;
            if told["available"].as_bool() != Some(true) {
                let why = text(&told, "why").unwrap_or("the probe does not say");
                return Ok(Some(format!("not on this kernel: {why}")));
            }
        }
        Ok(None)
    }

    /// Gives the sink its addresses and losses.
    pub(super) fn prepare(
        &self,
        runs: impl Iterator<Item = (&'static Scenario, IpAddr)>,
    ) -> Result<()> {
        let (mut addresses, mut losses) = (String::new(), String::new());
        for (scenario, address) in runs {
            match scenario.to {
                Target::V4 | Target::Mapped => {
                    let _ = writeln!(addresses, "address add {address}/24 dev wire");
                }
                Target::V6 => {
                    let _ = writeln!(addresses, "address add {address}/64 dev wire nodad");
                }
                _ => {}
            }
            if scenario.lose > 0 {
                // Only segments with data: a lost SYN costs a second.
                let lose = scenario.lose;
                let _ = writeln!(
                    losses,
                    "ip daddr {address} meta length > 500 numgen random mod {lose} 0 drop"
                );
            }
        }
        let batch = self.lab.path("addresses");
        fs::write(&batch, addresses)?;
        let batch = batch.to_str().context("a path in UTF-8")?;
        self.lab.sink.run("ip", &["-batch", batch])?;
        // After the truth has counted, which is at `raw` (-300).
        let rules = format!(
            "table inet losses {{ chain lossy {{ type filter hook prerouting priority -200; policy accept;\n{losses}}}\n}}\n"
        );
        let file = self.lab.path("losses.nft");
        fs::write(&file, rules)?;
        let file = file.to_str().context("a path in UTF-8")?;
        self.lab.sink.run("nft", &["--file", file])?;
        Ok(())
    }

    /// The generator's executable.
    pub(super) fn program(&self, scenario: &Scenario) -> &Path {
        if scenario.user == 0 {
            &self.generator
        } else {
            &self.copy
        }
    }

    fn generator(&self, scenario: &Scenario, address: IpAddr) -> Command {
        let mut command = self.lab.source.command(if scenario.user == 0 {
            self.generator.as_os_str()
        } else {
            "setpriv".as_ref()
        });
        if scenario.user != 0 {
            let user = scenario.user.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
            command.arg(&self.copy);
        }
        command.args(self.arguments(scenario, address));
        command
    }

    fn arguments(&self, scenario: &Scenario, address: IpAddr) -> Vec<String> {
        let shown = match (scenario.to, address) {
            (Target::Mapped, IpAddr::V4(v4)) => IpAddr::V6(v4.to_ipv6_mapped()),
            _ => address,
        };
        let to = |port| SocketAddr::new(shown, port).to_string();
        let from = source(address);
        let arguments = scenario.generator.iter();
        let arguments = arguments.map(|argument| match *argument {
            "{to}" => to(scenario.port),
            "{next}" => to(scenario.port + 1),
            "{from}" => from.to_string(),
            "{mac}" => self.mac.clone(),
            "{copy}" => self.copy.display().to_string(),
            other => other.to_owned(),
        });
        arguments.collect()
    }

    /// Starts who receives, at each of the scenario's ports: in the sink, or, over loopback, in the source.
    fn peers(&self, scenario: &Scenario, address: IpAddr) -> Result<Vec<Running>> {
        if scenario.peer.is_empty() {
            return Ok(Vec::new());
        }
        let at_home = scenario.to == Target::Loopback;
        let namespace = if at_home {
            &self.lab.source
        } else {
            &self.lab.sink
        };
        let two = u16::from(scenario.generator.contains(&"{next}"));
        let ports = scenario.port..=scenario.port + two;
        ports
            .map(|port| {
                let listen = SocketAddr::new(address, port);
                self.lab.serve(namespace, scenario.peer, listen)
            })
            .collect()
    }

    pub(super) fn run(&self, scenario: &'static Scenario, address: IpAddr) -> Result<Vec<Sender>> {
        if !scenario.server.is_empty() {
            return self.serve(scenario, address);
        }
        match scenario.setting {
            Setting::Plain | Setting::DaemonStopped => {}
            Setting::Killed => return self.kill(scenario, address),
            Setting::Container => return self.contain(scenario, address),
        }
        let peers = self.peers(scenario, address)?;
        let mut generator = Running::start(&mut self.generator(scenario, address), self.lab.dir())?;
        let mut senders = senders(&end(&mut generator)?)?;
        for peer in peers {
            let pid = u64::from(peer.pid());
            let lines = peer.finish()?;
            if scenario.both {
                let line = lines.iter().find(|line| number(line, "pid") == Some(pid));
                let mut other = sender(line.context("the peer told nothing")?)?;
                other.direction = Some("accepted".into());
                senders.push(other);
            }
        }
        Ok(senders)
    }

    /// Kills the generator while it sends: what the kernel had accepted of it arrives, and counts.
    fn kill(&self, scenario: &Scenario, address: IpAddr) -> Result<Vec<Sender>> {
        let mut peer = self.peers(scenario, address)?.pop().context("a peer")?;
        let mut victim = Running::start(&mut self.generator(scenario, address), self.lab.dir())?;
        std::thread::sleep(LIFE);
        victim.signal(Signal::KILL)?;
        victim.wait(PATIENCE)?;
        let lines = peer.wait_lines(PATIENCE, |lines| lines.len() == 2)?;
        peer.finish()?;
        let received = lines.last().and_then(|line| number(line, "received"));
        Ok(vec![Sender {
            pid: victim.pid().into(),
            app_bytes: received.context("the peer told nothing")?,
            ..Sender::default()
        }])
    }

    /// Runs the generator in a container.
    fn contain(&self, scenario: &Scenario, address: IpAddr) -> Result<Vec<Sender>> {
        let _peers = self.peers(scenario, address)?;
        let arguments = self.arguments(scenario, address);
        let told = container::run(self.lab, &self.copy, &arguments, scenario.user)?;
        Ok(vec![sender(&told)?])
    }

    /// A server in the source sends to a client in the sink.
    fn serve(&self, scenario: &Scenario, address: IpAddr) -> Result<Vec<Sender>> {
        let listen = SocketAddr::new(source(address), SERVER_PORT);
        let mut server = self.lab.serve(&self.lab.source, scenario.server, listen)?;
        let mut client = self.client(listen, address)?;
        end(&mut client)?;
        let lines = server.wait_lines(PATIENCE, |lines| lines.len() == 2)?;
        server.finish()?;
        senders(&lines)
    }

    fn client(&self, to: SocketAddr, from: IpAddr) -> Result<Running> {
        let (to, from) = (to.to_string(), from.to_string());
        let args = [
            "way", "duplex", "--bytes", "0", "--from", &from, "--to", &to,
        ];
        Running::start(
            self.lab.sink.command(&self.generator).args(args),
            self.lab.dir(),
        )
    }

    /// Opens the socket of a scenario, and stops there.
    pub(super) fn begin(&self, scenario: &'static Scenario, address: IpAddr) -> Result<Begun> {
        let ready = |lines: &[Value]| lines.iter().any(|line| line["ready"] == true);
        let (mut sender, peer) = if scenario.server.is_empty() {
            let peer = self.peers(scenario, address)?.pop().context("a peer")?;
            let sender = Running::start(&mut self.generator(scenario, address), self.lab.dir())?;
            (sender, peer)
        } else {
            let listen = SocketAddr::new(source(address), SERVER_PORT + 1);
            let gate = self.gate.to_str().context("a path in UTF-8")?;
            let args = [scenario.server, &["--gate", gate]].concat();
            let server = self.lab.serve(&self.lab.source, &args, listen)?;
            (server, self.client(listen, address)?)
        };
        sender.wait_lines(PATIENCE, ready)?;
        Ok(Begun {
            scenario,
            sender,
            peer,
        })
    }

    /// Goes on with it.
    pub(super) fn go_on(&self, mut begun: Begun) -> Result<Vec<Sender>> {
        if begun.scenario.server.is_empty() {
            begun.sender.say("go")?;
            let told = end(&mut begun.sender)?;
            begun.peer.finish()?;
            return senders(&told);
        }
        fs::write(&self.gate, "")?;
        end(&mut begun.peer)?;
        let lines = begun
            .sender
            .wait_lines(PATIENCE, |lines| lines.len() == 3)?;
        begun.sender.finish()?;
        senders(&lines)
    }
}

/// The source's address of the same family.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => SOURCE_V4,
        IpAddr::V6(_) => SOURCE_V6,
    }
}

/// Waits for the end of a generator, and gives its lines.
fn end(running: &mut Running) -> Result<Vec<Value>> {
    let status = running.wait(PATIENCE)?;
    ensure!(status.success(), "{status}: {}", running.stderr());
    running.lines()
}

/// Who sent, as a generator tells it: the `senders` of all its lines and whoever told them; or, in its last line, its
/// `children` or itself.
fn senders(lines: &[Value]) -> Result<Vec<Sender>> {
    let last = lines.last().context("it told nothing")?;
    if let Some(children) = last["children"].as_array() {
        return children.iter().map(sender).collect();
    }
    let all = lines.iter().filter_map(|line| line["senders"].as_array());
    let mut all: Vec<Sender> = all.flatten().map(sender).collect::<Result<_>>()?;
    if all.is_empty() {
        return Ok(vec![sender(last)?]);
    }
    // Whoever connected, and left it to others to send.
    for pid in lines.iter().filter_map(|line| number(line, "pid")) {
        if all.iter().all(|sender| sender.pid != pid) {
            all.push(Sender {
                pid,
                ..Sender::default()
            });
        }
    }
    Ok(all)
}

fn sender(told: &Value) -> Result<Sender> {
    let word = |key| text(told, key).map(str::to_owned);
    let to = told["to"].as_array().into_iter().flatten().map(|to| {
        let ip: IpAddr = text(to, "ip")?.parse().ok()?;
        let port = number(to, "port")?.try_into().ok()?;
        Some((ip.to_canonical(), port, number(to, "app_bytes")?))
    });
    let Some(to) = to.collect::<Option<Vec<_>>>() else {
        bail!("a destination that makes no sense: {told}");
    };
    Ok(Sender {
        pid: number(told, "pid").with_context(|| format!("no pid: {told}"))?,
        app_bytes: number(told, "app_bytes").with_context(|| format!("no app_bytes: {told}"))?,
        executable: word("executable"),
        user: number(told, "user"),
        parent: number(told, "parent"),
        container: word("container"),
        attribution: word("attribution"),
        direction: word("direction"),
        source_port: number(told, "source_port"),
        to,
    })
}
