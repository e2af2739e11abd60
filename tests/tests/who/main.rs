//! Who: the user at the time of the send, who logged in, the image, the unit, the container, the pod.

mod container;
mod places;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, run};
use egress_tests::daemon::{Daemon, TELL_ALL};
use egress_tests::lab::{self, Lab, SINK_V4};
use egress_tests::records::{at, flows_to, number, sum};
use egress_tests::require::ready;
use serde_json::Value;
use tempfile::TempDir;

/// IPv4 and UDP headers of a datagram, bytes.
const HEADERS: u64 = 28;

/// What a sender did, and what its flow records have to say.
struct Case {
    what: String,
    to: SocketAddr,
    /// For each datagram: how much, by whom.
    sent: Vec<(u64, Vec<Want>)>,
    _sink: Running,
}

/// A field and its value; `None` when it has to be absent.
type Want = (&'static str, Option<Value>);

fn want(field: &'static str, value: impl Into<Value>) -> Want {
    (field, Some(value.into()))
}

const fn absent(field: &'static str) -> Want {
    (field, None)
}

/// Lab, generators that other users may run, and cases so far.
struct Bench {
    lab: Lab,
    programs: TempDir,
    cases: Vec<Case>,
}

impl Bench {
    fn new() -> Result<Self> {
        // Others than root need not be able to reach the place of the build.
        let programs = TempDir::with_prefix_in("egress-who-", "/var/lib")?;
        std::fs::set_permissions(programs.path(), std::fs::Permissions::from_mode(0o755))?;
        for name in ["first", "second"] {
            std::fs::copy(lab::generator()?, programs.path().join(name))?;
        }
        Ok(Self {
            lab: Lab::new()?,
            programs,
            cases: Vec::new(),
        })
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.path().join(name)
    }

    /// Where the next case sends.
    fn next(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(
            SINK_V4,
            9100 + u16::try_from(self.cases.len())?,
        ))
    }

    /// Runs a sender to its end in the source; `sent` says what its datagrams have to be told as. Gives what it printed.
    fn send(
        &mut self,
        what: &str,
        command: &mut Command,
        sent: Vec<(u64, Vec<Want>)>,
    ) -> Result<Vec<Value>> {
        let to = self.next()?;
        let sink = self.lab.serve(&self.lab.sink, &["udp-sink"], to)?;
        let printed = run(command).with_context(|| what.to_owned())?;
        let lines: Vec<Value> = printed
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let told = lines.iter().filter_map(|line| number(line, "app_bytes"));
        let (told, expected): (u64, u64) = (told.sum(), sent.iter().map(|(bytes, _)| bytes).sum());
        ensure!(
            told == expected,
            "{what}: sent {told} bytes, not {expected}"
        );
        self.cases.push(Case {
            what: what.to_owned(),
            to,
            sent,
            _sink: sink,
        });
        Ok(lines)
    }

    /// A generator in the source that takes these steps.
    fn steps(&self, steps: &[&str]) -> Result<Command> {
        let mut command = self.lab.source.command(self.program("first"));
        command
            .args(["who", "--to", &self.next()?.to_string(), "--"])
            .args(steps);
        Ok(command)
    }
}

impl Case {
    /// Application bytes are exact for each who. Packets are exact for the socket: a datagram leaves before the send that
    /// tells of its sender's change returns, so the first after a change is still counted to the sender until then.
    fn check(&self, records: &[Value]) -> Result<()> {
        let flows: Vec<&Value> = flows_to(records, self.to).collect();
        for (_, wants) in &self.sent {
            let ours = flows.iter().copied().filter(|flow| {
                let mut fields = wants.iter();
                fields.all(|(field, value)| at(flow, field) == value.as_ref())
            });
            let told = sum(ours).app_bytes;
            let same = self.sent.iter().filter(|(_, other)| other == wants);
            let expected: u64 = same.map(|(bytes, _)| bytes).sum();
            ensure!(
                told == expected,
                "{told} bytes told, of {expected}, of {wants:?}, in {flows:#?}"
            );
        }
        let total = sum(flows.iter().copied());
        let (bytes, packets) = (
            self.sent.iter().map(|(bytes, _)| bytes).sum::<u64>(),
            self.sent.len() as u64,
        );
        ensure!(
            (total.wire_packets, total.wire_bytes) == (packets, bytes + packets * HEADERS),
            "{total:?} told, of {packets} packets with {bytes} bytes: {flows:#?}"
        );
        Ok(())
    }
}

#[test]
fn every_flow_says_who() -> Result<()> {
    if !ready(&["runc", "runuser", "setsid", "su", "sudo"]) {
        return Ok(());
    }
    let daemon = Daemon::start(TELL_ALL)?;
    let mut bench = Bench::new()?;
    logins(&mut bench)?;
    changes(&mut bench)?;
    let places = places::send(&mut bench)?;
    container::send(&mut bench)?;
    let run = daemon.stop()?;
    drop(places);
    for case in &bench.cases {
        case.check(&run.records)
            .with_context(|| case.what.clone())?;
    }
    Ok(())
}

/// Root logs in as `daemon` (uid 1), and goes on as `nobody` in every usual way.
fn logins(bench: &mut Bench) -> Result<()> {
    let nobody = "65534";
    let become_nobody = [
        ("su", "su -s /bin/sh nobody -c"),
        ("runuser", "runuser -u nobody -- sh -c"),
        ("sudo", "sudo -n -u nobody sh -c"),
    ];
    // Kept over exec, over a second fork whose parent is gone, over a new session of the terminal kind.
    let ways = [
        ("exec", "exec GENERATOR"),
        (
            "double fork and setsid",
            "setsid -f sh -c \"GENERATOR & exit\" & exit",
        ),
    ];
    for (tool, prefix) in become_nobody {
        for (way, script) in ways {
            let generator = format!(
                "{} who --to {} -- send=100 send=150",
                bench.program("first").display(),
                bench.next()?
            );
            let script = script.replace("GENERATOR", &generator);
            let login = format!(
                "echo 1 > /proc/self/loginuid; cat /proc/self/sessionid; echo; exec {prefix} '{script}'"
            );
            let mut command = bench.lab.source.command("sh");
            command.args(["-c", &login]);
            let wants = vec![
                want("user.id", nobody),
                want("user.name", "nobody"),
                want("group.id", nobody),
                want("egress.login_uid", 1),
                want("egress.login_user", "daemon"),
                want(
                    "process.executable",
                    bench.program("first").display().to_string(),
                ),
            ];
            let what = format!("{tool}, {way}");
            let printed = bench.send(
                &what,
                &mut command,
                vec![(100, wants.clone()), (150, wants)],
            )?;
            let session = printed.first().cloned().context("a session")?;
            ensure!(session.is_u64(), "no session: {session}");
            let case = bench.cases.last_mut().context("just added")?;
            for (_, wants) in &mut case.sent {
                wants.push(("egress.session_id", Some(session.clone())));
            }
        }
    }
    Ok(())
}

/// What changes after the exec, on one socket.
fn changes(bench: &mut Bench) -> Result<()> {
    let (first, second) = (
        bench.program("first").display().to_string(),
        bench.program("second").display().to_string(),
    );
    let root = || want("user.id", "0");
    let nobody = || {
        vec![
            want("user.id", "65534"),
            want("user.name", "nobody"),
            want("group.id", "65534"),
        ]
    };
    let of = |program: &str| want("process.executable", program.to_owned());

    let mut command =
        bench.steps(&["send=100", "gid=65534", "uid=65534", "send=200", "send=300"])?;
    bench.send(
        "privileges dropped between sends",
        &mut command,
        vec![
            (100, vec![root(), want("group.id", "0")]),
            (200, nobody()),
            (300, nobody()),
        ],
    )?;

    let step = format!("exec={second}");
    let mut command = bench.steps(&["send=100", &step, "send=200"])?;
    bench.send(
        "a socket kept over exec",
        &mut command,
        vec![(100, vec![of(&first)]), (200, vec![of(&second)])],
    )?;

    let mut command = bench.steps(&["send=100", "gid=65534", "uid=65534", &step, "send=200"])?;
    bench.send(
        "privileges dropped, then exec",
        &mut command,
        vec![
            (100, vec![of(&first), root()]),
            (200, [vec![of(&second)], nobody()].concat()),
        ],
    )?;

    // As sshd does for root: one process, one socket, and no exec after the login.
    let logged_in = || {
        vec![
            root(),
            want("egress.login_uid", 4242),
            absent("egress.login_user"),
        ]
    };
    let before = || {
        vec![
            root(),
            absent("egress.login_uid"),
            absent("egress.session_id"),
        ]
    };
    let mut command = bench.steps(&["send=100", "sleep=400", "login=4242", "send=200"])?;
    bench.send(
        "a login after the exec",
        &mut command,
        vec![(100, before()), (200, logged_in())],
    )?;

    // As sshd does for others: the login, then a child that takes the user's privileges and sends.
    let mut command = bench.steps(&[
        "send=100",
        "sleep=400",
        "login=4242",
        "fork",
        "gid=65534",
        "uid=65534",
        "send=200",
    ])?;
    let child = [nobody(), vec![want("egress.login_uid", 4242), of(&first)]].concat();
    bench.send(
        "a login, then a fork without exec",
        &mut command,
        vec![(100, before()), (200, child)],
    )?;
    Ok(())
}
