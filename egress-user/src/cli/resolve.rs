//! From arguments to what is to be done: arguments over configuration over defaults.

use std::path::Path;

use super::args::{Doctor, Hooks, Run};
use crate::config::{Config, ConfigError, EventsTarget, RunOptions};

/// The configuration for a look at the host.
pub(super) fn doctor(args: Doctor) -> Result<Config, ConfigError> {
    config(args.config.as_deref(), args.hooks)
}

fn config(path: Option<&Path>, hooks: Hooks) -> Result<Config, ConfigError> {
    let mut config = match path {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    config.sensor.methods.extend(hooks.methods);
    if let Some(btf) = hooks.btf {
        config.sensor.btf = btf;
    }
    Ok(config)
}

/// Reads the configuration, and lets the arguments have the last word.
pub(super) fn run(args: Run) -> Result<RunOptions, ConfigError> {
    let config = config(args.config.as_deref(), args.hooks)?;
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
