//! Wires the rooms and runs them.
//!
//! In: resolved options. Out: a daemon that ends on a signal, a doctor's report, or a clean kernel. The only room that
//! knows every stage: `pipeline` is the flow of one round, `daemon` the loop around it, `doctor` the probe.

mod blind;
mod daemon;
mod doctor;
mod error;
mod flow_records;
mod origins;
mod pipeline;
mod unload;
mod waiting;

pub use daemon::run;
pub use doctor::doctor;
pub use error::RunError;
pub use unload::unload;

/// Held locked by the daemon of this host.
const LOCK: &str = "/run/egress/lock";
