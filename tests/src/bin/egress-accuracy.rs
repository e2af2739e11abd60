//! `egress-accuracy`: runs the accuracy suite on this host.
//!
//! In: arguments, the built `egress` and `egress-gen`, root. Out: progress on standard error, the table on standard
//! output. Exit codes: 0 all exact, 1 something is not, 2 nothing could be measured.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use egress_tests::accuracy::report::{self, EXACT, FAILED, WRONG};
use egress_tests::accuracy::run::run;
use egress_tests::accuracy::scenarios;
use egress_tests::require;

/// What egress tells of each way of sending, beside the truth.
#[derive(Parser)]
#[command(
    name = "egress-accuracy",
    after_help = "\
Exit codes: 0 all exact, 1 something is not exact, 2 nothing could be measured."
)]
struct Arguments {
    /// Run only the scenarios with this in their name. Can be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Write the page docs/accuracy.md here.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print the scenarios, and run none.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let code = measure(&Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("accuracy: error: {error:#}");
        FAILED
    });
    ExitCode::from(code)
}

fn measure(arguments: &Arguments) -> Result<u8> {
    if arguments.list {
        for scenario in scenarios::all() {
            println!("{:<26} {}", scenario.name, scenario.way);
        }
        return Ok(EXACT);
    }
    if let Some(problem) = require::problem(&[]) {
        anyhow::bail!("cannot run: {problem}");
    }
    let wanted = |name: &str| {
        arguments.only.is_empty()
            || arguments
                .only
                .iter()
                .any(|only| name.contains(only.as_str()))
    };
    let any = scenarios::all()
        .iter()
        .any(|scenario| wanted(scenario.name));
    ensure!(
        any,
        "no scenario has {:?} in its name; see --list",
        arguments.only
    );
    ensure!(
        arguments.write.is_none() || arguments.only.is_empty(),
        "--write is for a run of all scenarios: leave out --only"
    );
    let suite = run(
        |scenario| wanted(scenario.name),
        |line| eprintln!("accuracy: {line}"),
    )?;
    if arguments.json {
        println!("{:#}", report::json(&suite));
    } else {
        print!("{}", report::table(&suite));
    }
    if let Some(path) = &arguments.write {
        std::fs::write(path, report::page(&suite)).with_context(|| path.display().to_string())?;
        eprintln!("accuracy: written to {}", path.display());
    }
    Ok(if suite.wrong().next().is_some() {
        WRONG
    } else {
        EXACT
    })
}
