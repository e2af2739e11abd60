//! Arguments as typed; `resolve` makes of them what is to be done.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::config::{DEFAULT_STATE_DIR, parse_duration};

const EXAMPLES: &str = "\
Examples:
  egress doctor                        What works on this kernel, and what cannot be seen
  egress run                           Live view, metrics on http://127.0.0.1:9468/metrics
  egress run --events - --duration 60  One minute of JSON lines on standard output
  egress run -c /etc/egress.toml --events /var/log/egress/events.jsonl --quiet
                                       As a service
  egress config example > egress.toml  Every setting, with its default
  egress config check egress.toml      What is wrong with it, and where
  egress unload                        Remove what a killed daemon left in the kernel

Files:
  /var/lib/egress    State: baselines, lock (--state-dir)
  /sys/fs/bpf/egress Pinned maps and links, while the daemon runs and after a kill

Exit codes:
  0  Done; doctor: everything works here
  1  Began and failed; doctor: works, but not all of it
  2  Could not begin: arguments, configuration, privileges, kernel, a taken port

Environment:
  NO_COLOR           No colours in the live view";

/// Which process, user and files each outbound byte of this host came from; alerts on automated exfiltration.
///
/// Watches what leaves through eBPF hooks in the kernel, says who sends what where, and raises an alert, with its
/// evidence, when data starts to leave by itself, again and again (MITRE ATT&CK T1020).
#[derive(Debug, Parser)]
#[command(name = "egress", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Say more on standard error; twice for debugging.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watch this host until interrupted.
    Run(Run),
    /// Show what works on this host, what is missing, and what cannot be seen.
    ///
    /// Exits with 0 when everything works, 1 when something is missing, 2 when `egress run` would not start.
    Doctor(Doctor),
    /// Remove the maps and links that a killed daemon left in the kernel.
    ///
    /// They are left on purpose: its hooks go on counting, and a daemon that comes back tells every byte of the time
    /// between. What was not told yet is lost by this command. A daemon that is stopped removes them by itself. Works for what any version left;
    /// refuses while a daemon runs; does nothing when there is nothing.
    Unload(StateDir),
    /// Check a configuration, or print the annotated example.
    #[command(subcommand)]
    Config(Config),
    /// Print the JSON Schema of the events.
    Schema,
    /// Print a completion script for a shell.
    ///
    /// For bash: `egress completions bash > /etc/bash_completion.d/egress`
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Args, Debug)]
pub(super) struct Run {
    /// Configuration, TOML; without it, every setting has its default.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateDir,
    /// Where /metrics, /healthz and /readyz listen [default: 127.0.0.1:9468, or `listen` in [metrics]].
    #[arg(short, long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Write JSON lines to a file, or to standard output with `-` [default: none, or `path` in [events]].
    ///
    /// A file is appended to, made with mode 0640, and rotated by size. With `-` there is no live view.
    #[arg(short, long, value_name = "FILE|-", value_hint = ValueHint::FilePath)]
    pub events: Option<PathBuf>,
    /// Stop after this long: seconds, or such as 10m.
    #[arg(short, long, value_name = "SECS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// No live view on standard output.
    #[arg(short, long)]
    pub quiet: bool,
    /// How to observe.
    #[command(flatten)]
    pub hooks: Hooks,
}

/// How to observe, over what the configuration says.
#[derive(Args, Debug)]
pub(super) struct Hooks {
    /// Use this method, whatever else the kernel has; `egress doctor` shows features and methods. Repeatable.
    #[arg(long = "method", value_name = "FEATURE=METHOD", value_parser = pair)]
    pub methods: Vec<(String, String)>,
    /// The running kernel's BTF, where /sys/kernel/btf/vmlinux is hidden. It has to be of this very kernel.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub btf: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct StateDir {
    /// Where state is kept.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR, value_hint = ValueHint::DirPath)]
    pub state_dir: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// The configuration to try, TOML.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// How to observe.
    #[command(flatten)]
    pub hooks: Hooks,
    /// As JSON, for programs.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Say what is wrong with a configuration, where, and what is allowed.
    Check {
        /// Which.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Print every setting with its meaning, range and default.
    Example,
}

/// `FEATURE=METHOD`.
fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(feature, method)| !feature.is_empty() && !method.is_empty())
        .map(|(feature, method)| (feature.to_owned(), method.to_owned()))
        .ok_or_else(|| "expected FEATURE=METHOD, such as files=tracepoint".to_owned())
}

/// Whole seconds, or a duration as the configuration has it.
fn seconds(text: &str) -> Result<Duration, String> {
    let duration = match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => parse_duration(text),
    };
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected seconds, such as 60, or a duration, such as 10m".to_owned())
}
