//! What cannot work is refused: in one line that says what, where, and what to do; with exit code 2, as for wrong
//! arguments; and with nothing left in the kernel.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::Running;
use egress_tests::daemon::{Daemon, HostLock, Setup, TELL_ALL, binary};
use egress_tests::kernel::{left, programs};
use egress_tests::require::ready;

/// The exit code for whatever keeps the daemon from starting: arguments, configuration, host.
const CANNOT_RUN: i32 = 2;

/// `egress run`, with the arguments of a setup.
fn egress(setup: &Setup) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(setup.arguments());
    Ok(command)
}

/// `egress run` in a mount namespace of its own, after a shell command that takes something away from it.
fn egress_without(setup: &Setup, taking_away: &str) -> Result<Command> {
    let mut command = Command::new("unshare");
    let script = format!("{taking_away} && exec \"$@\"");
    command
        .args(["--mount", "--", "sh", "-c", &script, "sh"])
        .arg(binary()?)
        .args(setup.arguments());
    Ok(command)
}

/// Runs it and demands one line with all of `words`, exit code 2, and no program in the kernel that was not there.
fn refused(what: &str, setup: &Setup, command: &mut Command, words: &[&str]) -> Result<()> {
    let before = programs()?;
    let mut process = Running::start(command, setup.dir())?;
    let status = process.wait(Duration::from_secs(20))?;
    let stderr = process.stderr();
    println!("{what}: {stderr}");
    ensure!(
        status.code() == Some(CANNOT_RUN),
        "{what}: {status}, not {CANNOT_RUN}: {stderr}"
    );
    let lines: Vec<&str> = stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    ensure!(
        lines.len() == 1,
        "{what}: not one line but {}: {stderr}",
        lines.len()
    );
    for word in words {
        ensure!(
            lines[0].to_lowercase().contains(&word.to_lowercase()),
            "{what}: nothing of {word:?} in: {}",
            lines[0]
        );
    }
    let left = left(&before)?;
    ensure!(left.is_empty(), "{what}: left in the kernel: {left:?}");
    Ok(())
}

#[test]
fn a_bad_configuration_is_refused_with_its_place() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let _host = HostLock::take()?;
    let cases: [(&str, &str, &[&str]); 5] = [
        (
            "unknown key",
            "[sensor]\nslotz = 5\n",
            &["egress.toml:2", "slotz", "slots"],
        ),
        (
            "unknown section",
            "\n\n[sensors]\n",
            &["egress.toml:3", "sensors", "sensor"],
        ),
        (
            "bad CIDR",
            "[networks]\noffice = [\"10.0.0.0/33\"]\n",
            &["egress.toml:2", "10.0.0.0/33", "allowed"],
        ),
        (
            "bad glob",
            "[sensitive]\nx = [\"/srv/[\"]\n",
            &["egress.toml:2", "/srv/["],
        ),
        ("not TOML", "[sensor\n", &["egress.toml:1"]),
    ];
    for (what, config, words) in cases {
        let setup = Setup::new(config)?;
        refused(what, &setup, &mut egress(&setup)?, words)?;
    }
    let setup = Setup::new("")?;
    let path = setup.config();
    fs::remove_file(&path)?;
    let name = path.to_str().context("a path in UTF-8")?;
    refused(
        "no configuration",
        &setup,
        &mut egress(&setup)?,
        &[name, "no such file"],
    )?;
    fs::create_dir(&path)?;
    refused(
        "a directory as configuration",
        &setup,
        &mut egress(&setup)?,
        &[name, "directory"],
    )
}

#[test]
fn a_taken_port_is_refused_with_its_number() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let _host = HostLock::take()?;
    let setup = Setup::new("")?;
    let _taken = TcpListener::bind(setup.listen)?;
    refused(
        "a taken port",
        &setup,
        &mut egress(&setup)?,
        &[&setup.listen.to_string(), "in use", "--listen"],
    )
}

#[test]
fn a_host_without_what_it_takes_is_refused() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let _host = HostLock::take()?;
    let no_btf = Setup::new("")?;
    let cover = "mount -t tmpfs tmpfs /sys/kernel/btf";
    refused(
        "no BTF",
        &no_btf,
        &mut egress_without(&no_btf, cover)?,
        &["BTF", "/sys/kernel/btf"],
    )?;
    let no_cgroup2 = Setup::new("")?;
    let unmount = "umount --lazy --all --types cgroup2";
    refused(
        "no cgroup2",
        &no_cgroup2,
        &mut egress_without(&no_cgroup2, unmount)?,
        &["cgroup2", "mount"],
    )
}

#[test]
fn a_user_without_rights_is_refused() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let _host = HostLock::take()?;
    let setup = Setup::new("")?;
    // All that nobody lacks is rights: the binary, the configuration and the folders are theirs to use.
    let copy = setup.dir().join("egress");
    fs::copy(binary()?, &copy)?;
    fs::create_dir(setup.state())?;
    for path in [setup.dir(), &copy, &setup.state()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--",
    ]);
    refused(
        "no rights",
        &setup,
        command.arg(copy).args(setup.arguments()),
        &["root", "CAP_BPF"],
    )
}

#[test]
fn a_second_daemon_is_refused_and_the_first_lives_on() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let mut first = Daemon::start(TELL_ALL)?;
    let second = Setup::new("")?;
    let mut command = Command::new(binary()?);
    command
        .args([
            "run",
            "--listen",
            &second.listen.to_string(),
            "--events",
            "-",
            "--config",
        ])
        .arg(second.config());
    command.arg("--state-dir").arg(first.setup().state());
    refused(
        "a second daemon, same state",
        &second,
        &mut command,
        &["already", "run"],
    )?;
    refused(
        "a second daemon, other state",
        &second,
        &mut egress(&second)?,
        &["already", "run"],
    )?;
    let health =
        |records: &[serde_json::Value]| egress_tests::records::of(records, "health").count();
    let so_far = health(first.records()?);
    first.wait_records(
        "the first daemon to live on",
        Duration::from_secs(5),
        |records| health(records) > so_far,
    )?;
    first.stop()?;
    Ok(())
}
