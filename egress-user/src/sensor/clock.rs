//! This host's clocks and names.

use std::io;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::model::{BootTime, Clock};

/// `CLOCK_BOOTTIME` now: the clock of every kernel record.
#[must_use]
pub fn boot_now() -> BootTime {
    u64::try_from(nanoseconds(clock_gettime(ClockId::Boottime))).unwrap_or(0)
}

/// How boot time and wall time relate now. The wall clock can be set, so this is asked anew from time to time.
#[must_use]
pub fn now() -> Clock {
    // Between two readings of boot time, so that a preemption in between is halved, not added.
    let before = nanoseconds(clock_gettime(ClockId::Boottime));
    let wall = nanoseconds(clock_gettime(ClockId::Realtime));
    let after = nanoseconds(clock_gettime(ClockId::Boottime));
    Clock {
        boot_wall_ns: wall - before.midpoint(after),
    }
}

/// Identifies this boot of this host (`/proc/sys/kernel/random/boot_id`, a UUID): boot times and process keys mean
/// something within it only.
///
/// # Errors
/// When it cannot be read.
pub fn boot_id() -> io::Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(PATH)
        .map(|id| id.trim().to_owned())
        .map_err(|error| io::Error::new(error.kind(), format!("{PATH}: {error}")))
}

/// What this host calls itself (`uname -n`).
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Nanoseconds in a time; they last for 292 years.
fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn clocks_agree_with_the_kernel() {
        let uptime = std::fs::read_to_string("/proc/uptime").expect("reads");
        let seconds: f64 = uptime
            .split(' ')
            .next()
            .expect("two figures")
            .parse()
            .expect("figure");
        let boot = boot_now();
        assert!((std::time::Duration::from_nanos(boot).as_secs_f64() - seconds).abs() < 1.0);
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos();
        let told = u128::try_from(now().wall(boot).0).expect("after 1970");
        assert!(told.abs_diff(wall) < 100_000_000, "{told} {wall}");
        assert!(boot_now() >= boot);
    }

    #[test]
    fn this_boot_and_host_have_names() {
        let id = boot_id().expect("reads");
        assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id}");
        assert_eq!(boot_id().expect("reads"), id);
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("reads");
        assert_eq!(hostname(), name.trim());
    }
}
