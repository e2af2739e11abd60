//! Runs that the kernel skipped: a program is not run when it interrupts itself, or, for syscall tracepoints, when any other
//! is active on the processor. What such a run would have seen nobody has seen.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::time::Duration;

use aya::Ebpf;

use super::hooks::HOOKS;
use crate::model::{BootTime, LostDetail};

/// How often the kernel is asked.
const EVERY: Duration = Duration::from_secs(1);

/// The loaded programs, and how many runs of each were skipped since it was loaded. Kernels before 5.12 do not tell.
#[derive(Debug)]
pub struct Misses {
    /// Hook, descriptor of its program, skipped runs.
    programs: Vec<(&'static str, RawFd, u64)>,
    next: BootTime,
}

impl Misses {
    /// Those of `ebpf` that are loaded.
    #[must_use]
    pub fn of(ebpf: &Ebpf) -> Self {
        let loaded = HOOKS.iter().filter_map(|hook| {
            let fd = ebpf.program(hook.program)?.fd().ok()?;
            Some((hook.name, fd.as_fd().as_raw_fd(), 0))
        });
        Self {
            programs: loaded.collect(),
            next: 0,
        }
    }

    /// Asks the kernel, once a second. The programs have to be loaded still.
    pub fn ask(&mut self, now: BootTime) {
        if now < self.next {
            return;
        }
        self.next = now.saturating_add(u64::try_from(EVERY.as_nanos()).unwrap_or(u64::MAX));
        for (_, fd, count) in &mut self.programs {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
            *count = info.ok().and_then(|info| skipped(&info)).unwrap_or(*count);
        }
    }

    /// Skipped runs, by hook.
    pub fn lost(&self) -> impl Iterator<Item = LostDetail> + '_ {
        self.programs.iter().map(|(hook, _, count)| LostDetail {
            kind: hook,
            cause: "skipped",
            count: *count,
        })
    }
}

/// `recursion_misses` of a program's `fdinfo` (Linux `kernel/bpf/syscall.c`, `bpf_prog_show_fdinfo`).
fn skipped(info: &str) -> Option<u64> {
    let value = info
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::skipped;

    #[test]
    fn reads_the_kernel_s_own_words() {
        let info =
            "pos:\t0\nprog_type:\t5\nrun_cnt:\t9\nrecursion_misses:\t17\nverified_insns:\t3\n";
        assert_eq!(skipped(info), Some(17));
        assert_eq!(skipped("pos:\t0\nprog_type:\t5\n"), None);
        assert_eq!(skipped("recursion_misses:\tmany\n"), None);
    }
}
