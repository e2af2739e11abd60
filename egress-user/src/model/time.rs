//! Two clocks: the kernel's, which orders events, and the wall's, which people read.

use serde::{Serialize, Serializer};

/// Nanoseconds of `CLOCK_BOOTTIME`: what kernel records carry, and the only clock that judgement uses.
pub type BootTime = u64;

/// Nanoseconds since 1970-01-01 UTC, shown as RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub i64);

impl std::fmt::Display for WallTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time =
            jiff::Timestamp::from_nanosecond(self.0.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{time:.9}")
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How boot time and wall time relate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Wall time of boot, nanoseconds since 1970-01-01 UTC.
    pub boot_wall_ns: i64,
}

impl Clock {
    /// The wall time of a boot time.
    #[must_use]
    pub fn wall(self, at: BootTime) -> WallTime {
        WallTime(
            self.boot_wall_ns
                .saturating_add(i64::try_from(at).unwrap_or(i64::MAX)),
        )
    }
}
