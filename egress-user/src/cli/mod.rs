//! Arguments in, exit code out.
//!
//! In: `argv`. Out: the command's output on standard output, everything else on standard error, and an [`exit::Exit`].

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::config::{Config, EXAMPLE};
use crate::outlet::ecs;
use crate::runtime;
use crate::sensor::plan::Wishes;

mod args;
mod doctor;
pub mod exit;
mod logger;
mod resolve;
#[cfg(test)]
mod tests;

use args::{Arguments, Command};
use exit::Exit;

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => {
            logger::start(arguments.verbose);
            command(arguments.command).into()
        }
        Err(error) => {
            // Help and versions come this way too, with code 0. A reader who has gone is no failure.
            let _ = error.print();
            if error.use_stderr() {
                Exit::CannotRun
            } else {
                Exit::Ok
            }
            .into()
        }
    }
}

fn command(command: Command) -> Exit {
    match command {
        Command::Run(args) => match resolve::run(args) {
            Err(error) => failed((&error).into(), &error),
            Ok(options) => match runtime::run(&options) {
                Ok(()) => Exit::Ok,
                Err(error) => failed((&error).into(), &error),
            },
        },
        Command::Doctor(args) => {
            let json = args.json;
            match resolve::doctor(args) {
                Err(error) => failed((&error).into(), &error),
                Ok(config) => match runtime::doctor(config.sensor) {
                    Err(error) => failed((&error).into(), &error),
                    Ok(report) => {
                        let text = if json {
                            doctor::json(&report)
                        } else {
                            doctor::table(&report)
                        };
                        match print(&text) {
                            Exit::Ok => (&report.verdict).into(),
                            exit => exit,
                        }
                    }
                },
            }
        }
        Command::Unload(args) => match runtime::unload(&args.state_dir) {
            Err(error) => failed((&error).into(), &error),
            Ok(done) if done.is_empty() => print("nothing was loaded\n"),
            Ok(done) => print(&(done.join("\n") + "\n")),
        },
        Command::Config(args::Config::Check { file }) => match Config::load(&file) {
            Ok(config) => match Wishes::of(&config.sensor) {
                Ok(_) => print(&format!("{}: ok\n", file.display())),
                Err(error) => {
                    let problem = format!("{}: {error}", file.display());
                    failed(Exit::CannotRun, &problem)
                }
            },
            Err(error) => failed((&error).into(), &error),
        },
        Command::Config(args::Config::Example) => print(EXAMPLE),
        Command::Schema => print(&format!("{:#}\n", ecs::schema())),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "egress", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Writes a command's output. A reader who has gone (`| head`) has what they wanted.
fn print(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => failed(Exit::Failed, &format!("standard output: {error}")),
    }
}

/// Says why not.
fn failed(exit: Exit, error: &dyn Display) -> Exit {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "egress: error: {error}");
    exit
}
