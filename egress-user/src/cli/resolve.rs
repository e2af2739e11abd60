//! From arguments to what is to be done: arguments over configuration over defaults.

use super::args::Run;
use crate::config::{Config, ConfigError, EventsTarget, RunOptions};

/// Reads the configuration, and lets the arguments have the last word.
pub(super) fn run(args: Run) -> Result<RunOptions, ConfigError> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let events = args
        .events
        .or_else(|| config.events.path.clone())
        .map(EventsTarget::from);
    Ok(RunOptions {
        listen: args.listen.unwrap_or(config.metrics.listen),
        state_dir: args.state.state_dir,
        // Two writers on one standard output would mix.
        console: !args.quiet && events != Some(EventsTarget::Stdout),
        events,
        duration: args.duration,
        config,
    })
}
