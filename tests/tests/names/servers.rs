//! Servers in the sink, and how a program in the source reaches them.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use egress_tests::command::{Running, run};
use egress_tests::lab::{Lab, Namespace, SINK_V4};
use egress_tests::wait_for;

/// A DNS server in the sink, with these records and no others.
pub fn dns_server(lab: &Lab, records: &[&str]) -> Result<Running> {
    let mut command = lab.sink.command("dnsmasq");
    command
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
        ])
        .args([
            "--user=root",
            "--pid-file=",
            "--bind-interfaces",
            "--local-ttl=5",
        ])
        .arg(format!("--listen-address={SINK_V4}"))
        .args(records);
    let server = Running::start(&mut command, lab.dir())?;
    wait_for("dnsmasq to listen", Duration::from_secs(10), || {
        let listening = lab.sink.run("ss", &["-Hlnu", "sport = :53"])?;
        Ok(listening.contains(":53").then_some(()))
    })?;
    Ok(server)
}

/// A `resolv.conf` that names the sink.
pub fn resolver(lab: &Lab, options: &str) -> Result<PathBuf> {
    let path = lab.path(&format!("resolv{}.conf", options.len()));
    fs::write(
        &path,
        format!("nameserver {SINK_V4}\noptions timeout:5 {options}\n"),
    )?;
    Ok(path)
}

/// A command in the source that resolves names with this file, in a mount namespace of its own.
pub fn resolving(namespace: &Namespace, resolver: &Path, program: &str, args: &[&str]) -> Command {
    let mut command = namespace.command("unshare");
    command
        .args(["--mount", "--", "sh", "-c"])
        .arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"")
        .arg(resolver)
        .arg(program)
        .args(args);
    command
}

pub fn http(lab: &Lab, ip: IpAddr, port: u16) -> Result<Running> {
    lab.serve(&lab.sink, &["http"], SocketAddr::new(ip, port))
}

/// A TLS server in the sink, with a certificate of its own.
pub fn tls_server(lab: &Lab, ip: IpAddr, port: u16) -> Result<Running> {
    let (cert, key) = (
        lab.path(&format!("{port}.pem")),
        lab.path(&format!("{port}.key")),
    );
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-days", "1", "-subj", "/CN=lab.example", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert))?;
    let mut command = lab.sink.command("openssl");
    command.args([
        "s_server",
        "-www",
        "-quiet",
        "-accept",
        &SocketAddr::new(ip, port).to_string(),
    ]);
    command.arg("-cert").arg(&cert).arg("-key").arg(&key);
    let server = Running::start(&mut command, lab.dir())?;
    wait_for("s_server to listen", Duration::from_secs(10), || {
        let filter = format!("sport = :{port}");
        let listening = lab.sink.run("ss", &["-Hlnt", &filter])?;
        Ok(listening.contains(&port.to_string()).then_some(()))
    })?;
    Ok(server)
}

/// Every second long segment to a port of the sink is lost, the first one too.
pub fn lose_segments(lab: &Lab, port: u16) -> Result<()> {
    let rules = format!(
        "add table inet lossy; \
         add chain inet lossy arrived {{ type filter hook prerouting priority raw; }}; \
         add rule inet lossy arrived tcp dport {port} meta length > 500 numgen inc mod 2 == 0 drop"
    );
    lab.sink.run("nft", &[&rules]).map(drop)
}
