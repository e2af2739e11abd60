//! Which host, and which boot of it, records come from.

use std::fs;

use crate::model::Clock;

/// What every record says of the host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Node name of `uname(2)`.
    pub hostname: String,
    /// `/proc/sys/kernel/random/boot_id`; empty when it cannot be read. `process.entity_id` is unique within one.
    pub boot_id: String,
    /// From boot time to wall time.
    pub clock: Clock,
}

impl Host {
    /// This host.
    #[must_use]
    pub fn detect(clock: Clock) -> Self {
        Self {
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map(|id| id.trim().to_owned())
                .unwrap_or_default(),
            clock,
        }
    }
}
