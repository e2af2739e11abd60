//! Sets up, builds, runs and tests egress.
//!
//! In: a machine with a stable Rust. Out: what the command is named after. Everything that a machine needs is
//! installed from here, and only from here: `cargo build`, CI and the container image call it too.

mod accuracy;
mod cargo;
mod daemon;
mod lint;
mod packages;
mod setup;
mod step;
mod test;
mod toolchain;
mod vm;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set up, build, run and test egress, on a machine with nothing but a stable Rust.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true,
    after_help = "\
What each command needs is set up first: the Rust toolchain that builds eBPF programs (a nightly with rust-src \
where rustup has one, else Debian's packages) and bpf-linker. Nothing is done twice; what is done is said, with \
the reason.

Examples:
  cargo xtask run                                  watch this host, live
  cargo xtask run -- --events /tmp/egress.jsonl    any argument of `egress run`
  cargo xtask test                                 everything that CI checks
  cargo xtask test -- -p egress-user ledger        arguments of `cargo test`
  cargo xtask accuracy -- --only udp               scenarios with this in their name"
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build a release and start the daemon on this host.
    ///
    /// The daemon takes this process's place: signals reach it, its exit code is returned. It needs root, or
    /// `CAP_BPF`, `CAP_PERFMON` and `CAP_NET_ADMIN`; without them it is started through sudo.
    Run {
        /// Arguments of `egress run`.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Run every test, after rustfmt, clippy and rustdoc.
    ///
    /// As root that includes the tests on the real kernel, in network namespaces of their own; what they need is
    /// installed first. Otherwise they say that they were skipped, and why. The environment variable `EGRESS_BIN`
    /// tells tests where the release binary is.
    Test {
        /// Arguments of `cargo test`.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Measure what egress tells of each way of sending, beside the truth, on this host.
    ///
    /// The table goes to standard output, and, of a run of all scenarios, to docs/accuracy.md. Exit codes: 0 all exact, 1
    /// something is not exact, 2 nothing could be measured. Needs root; traffic stays in network namespaces of its own.
    Accuracy {
        /// Arguments of the suite: `--only NAME`, `--json`, `--list`, `--write FILE`.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Build the release binary, target/release/egress.
    Build,
    /// Check formatting, clippy's lints for both targets, and the documentation.
    Lint,
    /// Run the tests on real distribution kernels, in virtual machines.
    ///
    /// Kernels come from Debian's archive (the newest build of each line), are cached outside the tree, and run under
    /// qemu's emulation: no KVM is needed, and nothing is said about speed. Writes docs/kernels.md.
    Vm {
        /// Lines of kernels: 5.10, 6.1, 6.12, 6.18, newest. All, unless named.
        kernels: Vec<String>,
        /// What to run in the guest instead of the tests, by its shell; for a look around.
        #[arg(long)]
        shell: Option<String>,
        /// Take today's verifier figures for the budget, xtask/verifier-budget.tsv.
        #[arg(long)]
        bless: bool,
    },
    /// Only install what a build needs.
    Setup {
        /// Also install what the tests and lints need.
        #[arg(long)]
        tests: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Task::Run { arguments } => daemon::run(&arguments),
        Task::Test { arguments } => test::run(&arguments),
        Task::Accuracy { arguments } => accuracy::run(&arguments),
        Task::Build => cargo::release().map(|binary| {
            step::say(&format!("built {}", binary.display()));
            ExitCode::SUCCESS
        }),
        Task::Lint => lint::run(),
        Task::Vm {
            kernels,
            shell,
            bless,
        } => vm::run(&vm::Wanted {
            kernels: &kernels,
            shell: shell.as_deref(),
            bless,
        }),
        Task::Setup { tests } => setup::build()
            .and_then(|toolchain| {
                if tests {
                    setup::test(&toolchain)
                } else {
                    Ok(())
                }
            })
            .map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        step::say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
