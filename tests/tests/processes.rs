//! Each byte is told with the process, the user and the executable that sent it, whatever becomes of them meanwhile.
//!
//! A scenario sends in one way and gives a [`Case`]: who sent how much. All run under one daemon, which then has to agree.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, run};
use egress_tests::daemon::{Daemon, TELL_ALL};
use egress_tests::lab::{self, Lab, SINK_V4, Truth};
use egress_tests::records::{by_process, flows_to, number, of, sum, text};
use egress_tests::require::ready;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Bytes that the generator's senders send (`process.rs` there).
const FIRST: u64 = 30_000;
const SECOND: u64 = 7000;

/// One way of sending, and who sent what.
struct Case {
    name: &'static str,
    transport: &'static str,
    to: SocketAddr,
    /// `pid`, `uid`, `executable` and `app_bytes` of each sender; one process may be several.
    senders: Vec<Value>,
    /// Who else may have had packets: whoever connected.
    others: Vec<u64>,
    /// Wire bytes that no cgroup hook sees, at most.
    unseen: u64,
    /// Which container.
    container: Option<&'static str>,
}

/// Who sent: process, user, executable, bytes.
type Sender = (u64, String, String, u64);

impl Case {
    fn check(&self, records: &[Value], truth: &Truth) -> Result<()> {
        let flows: Vec<&Value> = flows_to(records, self.to).collect();
        let (total, arrived) = (
            sum(flows.iter().copied()),
            truth.at(self.transport, self.to),
        );
        let unseen = arrived.bytes.checked_sub(total.wire_bytes);
        ensure!(
            unseen.is_some_and(|unseen| unseen <= self.unseen)
                && (unseen != Some(0) || total.wire_packets == arrived.packets),
            "{total:?} is told, of {arrived:?}"
        );
        let mut sent: Vec<Sender> = self.senders.iter().map(sender).collect::<Result<_>>()?;
        sent.sort();
        let mut told = Vec::new();
        let mut passive = Vec::new();
        for (entity, (_, flows)) in by_process(flows.iter().copied()) {
            ensure!(!entity.is_empty(), "flows without a process: {flows:?}");
            let mut images: Vec<(String, String)> = flows.iter().map(|flow| image(flow)).collect();
            images.sort();
            images.dedup();
            for (user, executable) in images {
                let of_image = flows
                    .iter()
                    .copied()
                    .filter(|flow| image(flow) == (user.clone(), executable.clone()));
                let pid = flows.first().and_then(|flow| number(flow, "process.pid"));
                let pid = pid.context("a process without an id")?;
                match sum(of_image).app_bytes {
                    0 => passive.push(pid),
                    bytes => told.push((pid, user, executable, bytes)),
                }
            }
            if let Some(container) = self.container {
                for flow in flows {
                    ensure!(
                        text(flow, "container.id") == Some(container),
                        "not its container: {flow}"
                    );
                }
            }
        }
        told.sort();
        ensure!(told == sent, "told: {told:?}\nsent: {sent:?}");
        for pid in passive {
            let known = sent.iter().any(|sender| sender.0 == pid) || self.others.contains(&pid);
            ensure!(
                known,
                "packets of process {pid}, which has nothing to do with it"
            );
        }
        Ok(())
    }
}

fn sender(value: &Value) -> Result<Sender> {
    let number = |field| number(value, field).with_context(|| format!("no {field}: {value}"));
    let executable =
        text(value, "executable").with_context(|| format!("no executable: {value}"))?;
    let user = number("uid")?.to_string();
    Ok((
        number("pid")?,
        user,
        executable.to_owned(),
        number("app_bytes")?,
    ))
}

fn image(flow: &Value) -> (String, String) {
    let of = |path| text(flow, path).unwrap_or_default().to_owned();
    (of("user.id"), of("process.executable"))
}

/// Every line that a generator prints.
fn lines(command: &mut Command) -> Result<Vec<Value>> {
    let output = run(command)?;
    let lines = output.lines().map(serde_json::from_str);
    lines
        .collect::<Result<_, _>>()
        .with_context(|| format!("{command:?} printed {output:?}"))
}

/// The senders in all of a generator's lines, and itself.
fn senders(lines: &[Value]) -> (Vec<Value>, Vec<u64>) {
    let all = lines.iter().filter_map(|line| line["senders"].as_array());
    let pids = lines.iter().filter_map(|line| number(line, "pid"));
    (all.flatten().cloned().collect(), pids.collect())
}

/// One of the ways of `egress-gen process`, over TCP; the sink closes first, when it has all.
fn stream(lab: &Lab, name: &'static str, port: u16, bytes: u64, more: &[&str]) -> Result<Case> {
    let to = SocketAddr::new(SINK_V4, port);
    let bytes = bytes.to_string();
    let _sink = lab.serve(&lab.sink, &["tcp-sink", "--close-after", &bytes], to)?;
    let mut command = lab.generator(&["process", name])?;
    command.args(["--to", &to.to_string()]).args(more);
    let (senders, others) = senders(&lines(&mut command)?);
    Ok(Case {
        name,
        transport: "tcp",
        to,
        senders,
        others,
        unseen: 0,
        container: None,
    })
}

/// One of those over UDP.
fn datagrams(lab: &Lab, name: &'static str, port: u16) -> Result<Case> {
    let to = SocketAddr::new(SINK_V4, port);
    let _sink = lab.serve(&lab.sink, &["udp-sink"], to)?;
    let mut command = lab.generator(&["process", name, "--to", &to.to_string()])?;
    let (senders, others) = senders(&lines(&mut command)?);
    Ok(Case {
        name,
        transport: "udp",
        to,
        senders,
        others,
        unseen: 0,
        container: None,
    })
}

/// Sends, executes a copy of the generator, which sends on.
fn exec(lab: &Lab, port: u16) -> Result<Case> {
    let copy = lab.path("other-program");
    fs::copy(lab::generator()?, &copy)?;
    let path = copy.display().to_string();
    stream(lab, "exec", port, FIRST + SECOND, &["--exe", &path])
}

/// Senders that end before the daemon reads anything: it is stopped meanwhile.
fn gone_before(lab: &Lab, daemon: &Daemon, port: u16) -> Result<Case> {
    let to = SocketAddr::new(SINK_V4, port);
    let _sink = lab.serve(&lab.sink, &["udp-sink"], to)?;
    let pid = daemon
        .pid()
        .and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let pid = pid.context("the daemon's process")?;
    kill_process(pid, Signal::STOP)?;
    let address = to.to_string();
    let many = [
        "repeat",
        "--count",
        "100",
        "--",
        "one-packet",
        "--to",
        &address,
    ];
    let sent = lab.generator(&many).and_then(|mut many| lines(&mut many));
    kill_process(pid, Signal::CONT)?;
    let sent = sent?;
    let children = sent.first().and_then(|line| line["children"].as_array());
    let generator = lab::generator()?;
    let senders = children.context("children")?.iter().map(|child| {
        json!({ "pid": child["pid"], "app_bytes": child["app_bytes"], "uid": 0, "executable": generator })
    });
    Ok(Case {
        name: "gone before the daemon reads",
        transport: "udp",
        to,
        senders: senders.collect(),
        others: Vec::new(),
        unseen: 0,
        container: None,
    })
}

/// A process that is killed in the middle of sending: what the kernel had accepted arrives, and counts.
fn killed(lab: &Lab, port: u16) -> Result<Case> {
    let to = SocketAddr::new(SINK_V4, port);
    let mut sink = lab.serve(&lab.sink, &["tcp-sink"], to)?;
    let address = to.to_string();
    let upload = [
        "tcp-upload",
        "--bytes",
        "100000000000",
        "--chunk",
        "65536",
        "--pause",
        "1000",
        "--to",
        &address,
    ];
    let mut victim = Running::start(&mut lab.generator(&upload)?, lab.dir())?;
    std::thread::sleep(Duration::from_millis(300));
    victim.signal(Signal::KILL)?;
    victim.wait(Duration::from_secs(10))?;
    let lines = sink.wait_lines(Duration::from_secs(20), |lines| lines.len() == 2)?;
    let received = lines.get(1).and_then(|line| number(line, "received"));
    let generator = lab::generator()?;
    let sender =
        json!({ "pid": victim.pid(), "app_bytes": received, "uid": 0, "executable": generator });
    Ok(Case {
        name: "killed",
        transport: "tcp",
        to,
        senders: vec![sender],
        others: Vec::new(),
        // It closes first: the last acknowledgement is sent by the kernel in TIME-WAIT, for no full socket.
        unseen: 52,
        container: None,
    })
}

/// A sender in a container of runc's: its own file system, users, processes; the network is the lab's source. The cgroup has
/// the name that Docker gives.
fn contained(lab: &Lab, port: u16) -> Result<Case> {
    const ID: &str = "e6e5e4e3e2e1e0efeeedecebeae9e8e7e6e5e4e3e2e1e0efeeedecebeae9e8e7";
    let to = SocketAddr::new(SINK_V4, port);
    let sink = lab.serve(&lab.sink, &["tcp-sink", "--close-after", "30000"], to)?;
    let bundle = lab.path("bundle");
    fs::create_dir_all(bundle.join("rootfs"))?;
    run(Command::new("runc").arg("spec").current_dir(&bundle))?;
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let to_sink = to.to_string();
    config["process"]["args"] = json!([
        "/sender",
        "tcp-upload",
        "--bytes",
        "30000",
        // Longer than a drain: the name of a cgroup is looked up by its number, and must still be there.
        "--chunk",
        "300",
        "--pause",
        "300000",
        "--wait-close",
        "--to",
        to_sink
    ]);
    let mounts = config["mounts"].as_array_mut().context("mounts")?;
    let generator = lab::generator()?.display().to_string();
    let binds = [
        ("/usr", "/usr"),
        ("/lib", "/lib"),
        ("/lib64", "/lib64"),
        (generator.as_str(), "/sender"),
    ];
    mounts.extend(binds.iter().filter(|(from, _)| fs::exists(from).unwrap_or(false)).map(|(from, at)| {
        json!({ "destination": at, "type": "bind", "source": from, "options": ["rbind", "ro"] })
    }));
    config["linux"]["cgroupsPath"] = format!("/docker/{ID}").into();
    let namespaces = config["linux"]["namespaces"].as_array_mut();
    for namespace in namespaces.context("namespaces")? {
        if namespace["type"] == "network" {
            namespace["path"] = lab.source.path().display().to_string().into();
        }
    }
    fs::write(&file, config.to_string())?;
    let pid_file = lab.path("pid");
    let mut runc = Command::new("runc");
    runc.arg("--root")
        .arg(lab.path("runc"))
        .args(["run", "--pid-file"])
        .arg(&pid_file);
    // Its name is the test's own: another run at the same time has the host lock.
    let told = lines(runc.arg("--bundle").arg(&bundle).arg(ID))?;
    let pid: u64 = fs::read_to_string(&pid_file)?.trim().parse()?;
    // The folder above the container's is runc's to make, and nobody's to remove.
    remove_empty_cgroups("docker");
    drop(sink);
    let sent = told.first().and_then(|line| number(line, "app_bytes"));
    let sender = json!({ "pid": pid, "app_bytes": sent, "uid": 1000, "executable": "/sender" });
    Ok(Case {
        name: "container",
        transport: "tcp",
        to,
        senders: vec![sender],
        others: Vec::new(),
        unseen: 0,
        container: Some(ID),
    })
}

/// Removes a cgroup in each hierarchy, where it is empty.
fn remove_empty_cgroups(name: &str) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mount in mounts.lines().filter(|line| line.contains(" cgroup")) {
        let Some(root) = mount.split(' ').nth(1) else {
            continue;
        };
        for path in own
            .lines()
            .filter_map(|line| line.rsplit(':').next())
            .chain(["/"])
        {
            // Refused for one that is in use, and for one that is not there.
            let _ = fs::remove_dir(format!("{root}{path}/{name}"));
        }
    }
}

#[test]
fn bytes_belong_to_whoever_sent_them() -> Result<()> {
    if !ready(&["runc"]) {
        return Ok(());
    }
    let daemon = Daemon::start(TELL_ALL)?;
    let lab = Lab::new()?;
    let both = FIRST + SECOND;
    let cases = [
        stream(&lab, "fork", 9001, FIRST, &[])?,
        stream(&lab, "turns", 9002, both, &[])?,
        stream(&lab, "pass", 9003, FIRST, &[])?,
        stream(&lab, "thread", 9004, FIRST, &[])?,
        datagrams(&lab, "threads", 9005)?,
        exec(&lab, 9006)?,
        stream(&lab, "drop-user", 9007, both, &[])?,
        stream(&lab, "orphan", 9008, FIRST, &[])?,
        stream(&lab, "daemon", 9009, FIRST, &[])?,
        stream(&lab, "share-files", 9010, both, &[])?,
        stream(&lab, "share-memory", 9011, both, &[])?,
        datagrams(&lab, "same-pid", 9012)?,
        datagrams(&lab, "same-pid-inside", 9013)?,
        gone_before(&lab, &daemon, 9014)?,
        killed(&lab, 9015)?,
        contained(&lab, 9016)?,
    ];
    // A process whose parent is gone still says who made it.
    let made_by: Vec<(u64, u64)> = cases
        .iter()
        .flat_map(|case| &case.senders)
        .filter_map(|sender| Some((number(sender, "pid")?, number(sender, "made_by")?)))
        .collect();
    ensure!(made_by.len() == 2, "{made_by:?}");
    let truth = lab.truth()?;
    let run = daemon.stop()?;
    let mut wrong = Vec::new();
    for case in &cases {
        let checked = case.check(&run.records, &truth);
        println!(
            "{}: {}",
            case.name,
            if checked.is_ok() { "exact" } else { "WRONG" }
        );
        wrong.extend(
            checked
                .err()
                .map(|error| format!("{}: {error:#}", case.name)),
        );
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    for (pid, made_by) in made_by {
        let mut of_process =
            of(&run.records, "flow").filter(|flow| number(flow, "process.pid") == Some(pid));
        ensure!(
            of_process.all(|flow| number(flow, "process.parent.pid") == Some(made_by)),
            "process {pid} was made by {made_by}, and that is not told"
        );
    }
    Ok(())
}
