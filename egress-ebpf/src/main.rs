//! The eBPF programs of `egress`: they copy, count and aggregate. What anything means is decided in user space.
//!
//! In: kernel events. Out: bytes summed in slots and counters (maps), detail in rings.
//! One file per thing observed: [`send`] (application bytes; [`calls`] on older kernels), [`wire`] (packets), [`sockets`]
//! (state, direction, destinations), [`processes`] (fork, exec, exit), [`files`] (opens), [`xmit`] (devices), [`names`] (DNS
//! answers, TLS and QUIC hellos), [`blind`] (what the others cannot see). [`slots`] finds the place of a byte,
//! [`emit`] is the only way into a ring, [`kread`] the only way to read kernel memory by offset, [`path`] walks names.
//!
//! Everything here is unsafe by nature: the verifier, not the compiler, proves each program's memory accesses before
//! the kernel accepts it. Programs never change what they observe: every hook returns "go on".
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "BPF atomic adds exist as an intrinsic only; AtomicU64::fetch_add is not there on this target"
)]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "the verifier proves each access; see the crate documentation"
)]
#![expect(
    clippy::inline_always,
    reason = "the verifier follows pointers and bounds within a program, not into a function that stands alone"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "kernel values come as registers, and a conversion that can fail is one more branch for the verifier"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key lies on the stack once; by value it is copied there again"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the program macros hand contexts over by value"
)]

mod blind;
mod calls;
mod count;
mod emit;
mod files;
mod kread;
mod maps;
mod names;
mod path;
mod processes;
mod send;
mod slots;
mod sockets;
mod storage;
mod wire;
mod xmit;

/// A loop, so that the verifier rejects any program from which a panic can be reached.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel gives tracing helpers to GPL programs only (Linux `kernel/bpf/helpers.c`, `gpl_only`).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
