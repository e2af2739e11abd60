use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use super::args::{Arguments, Command};
use super::exit::Exit;
use super::resolve;
use crate::config::{ConfigError, EventsTarget, RunOptions};
use crate::runtime::RunError;

fn options(args: &[&str]) -> Result<RunOptions, ConfigError> {
    let args = Arguments::try_parse_from(["egress", "run"].iter().chain(args)).expect("parses");
    match args.command {
        Command::Run(run) => resolve::run(run),
        other => panic!("{other:?}"),
    }
}

#[test]
fn clap_finds_nothing_wrong() {
    Arguments::command().debug_assert();
}

#[test]
fn defaults() {
    let options = options(&[]).unwrap();
    assert_eq!(options.state_dir, Path::new("/var/lib/egress"));
    assert_eq!(options.listen, SocketAddr::from(([127, 0, 0, 1], 9468)));
    assert_eq!(
        (options.events, options.console, options.duration),
        (None, true, None)
    );
}

#[test]
fn arguments_win_over_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("egress.toml");
    std::fs::write(
        &file,
        "[events]\npath = \"/var/log/e\"\n[metrics]\nlisten = \"127.0.0.1:1\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let configured = options(&["-c", file]).unwrap();
    assert_eq!(
        configured.events,
        Some(EventsTarget::File("/var/log/e".into()))
    );
    assert_eq!(configured.listen.port(), 1);
    let asked = options(&[
        "-c",
        file,
        "--events",
        "-",
        "--listen",
        "[::1]:2",
        "--duration",
        "90",
    ])
    .unwrap();
    assert_eq!(asked.events, Some(EventsTarget::Stdout));
    assert!(!asked.console, "events have standard output for themselves");
    assert_eq!(asked.listen.to_string(), "[::1]:2");
    assert_eq!(asked.duration, Some(Duration::from_secs(90)));
    assert!(
        !options(&["--quiet", "--duration", "1h 30m"])
            .unwrap()
            .console
    );
    assert!(options(&["-c", "/nowhere.toml"]).is_err());
    assert!(Arguments::try_parse_from(["egress", "run", "--duration", "0"]).is_err());
}

#[test]
fn what_could_not_begin_is_told_apart_from_what_failed() {
    for error in [
        RunError::NoPrivilege("missing effective capabilities: CAP_BPF".into()),
        RunError::AlreadyRunning { pid: Some(7) },
        RunError::Sensor(crate::sensor::SensorError::Object("SLOTS")),
    ] {
        assert_eq!(Exit::from(&error), Exit::CannotRun, "{error}");
        assert!(
            error.to_string().contains(';') || error.to_string().contains(':'),
            "says what to do: {error}"
        );
    }
    assert_eq!(
        Exit::from(&RunError::Failed {
            what: "drain".into(),
            why: "x".into()
        }),
        Exit::Failed
    );
    assert_eq!(
        options(&["-c", "/nowhere.toml"])
            .map_err(|e| Exit::from(&e))
            .unwrap_err(),
        Exit::CannotRun
    );
}

#[test]
fn help_teaches() {
    let help = Arguments::command().render_help().to_string();
    for part in [
        "Examples:",
        "Exit codes:",
        "Files:",
        "egress doctor",
        "egress run",
        "unload",
        "completions",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
}
