//! How often the kernel skipped one of our programs because it had interrupted itself.
//!
//! A tracing program that runs on a processor is not run there again before it has ended (Linux `kernel/trace/bpf_trace.c`,
//! `prog->active`); what it would have seen is missed, and counted in the program's `recursion_misses`.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Ebpf;

/// Times, over all programs that are loaded, since they were. `None` when the kernel does not tell (before 5.12).
pub(super) fn misses(ebpf: &Ebpf) -> Option<u64> {
    let mut told = false;
    let mut sum = 0_u64;
    for (_, program) in ebpf.programs() {
        let Ok(fd) = program.fd() else { continue };
        let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        if let Some(misses) = std::fs::read_to_string(path)
            .ok()
            .as_deref()
            .and_then(of_program)
        {
            told = true;
            sum = sum.saturating_add(misses);
        }
    }
    told.then_some(sum)
}

/// From a program's `fdinfo` (Linux `kernel/bpf/syscall.c`, `bpf_prog_show_fdinfo`).
fn of_program(fdinfo: &str) -> Option<u64> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::of_program;

    #[test]
    fn the_line_is_found() {
        let fdinfo =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t17\nverified_insns:\t9\n";
        assert_eq!(of_program(fdinfo), Some(17));
        assert_eq!(of_program("pos:\t0\n"), None);
        assert_eq!(of_program("recursion_misses:\tx\n"), None);
    }
}
