//! The daemon's own messages, on standard error.

use std::io::Write as _;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::model::Text;

struct Stderr;

/// Starts logging: warnings and errors, and more the more `verbose`.
pub(super) fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    // Fails only when there is a logger already, as in a test that runs the command line twice.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let message = record.args().to_string();
        // Messages quote paths and names: none of them may act on a terminal.
        let message = if message.chars().any(char::is_control) {
            Text::from(message.as_str()).to_string()
        } else {
            message
        };
        // Nobody is left to tell when standard error is gone.
        let _ = writeln!(std::io::stderr(), "egress: {level}: {message}");
    }

    fn flush(&self) {}
}
