//! The contract between the eBPF programs and the daemon.
//!
//! In: nothing. Out: `repr(C)` records, map and program names, and the ABI version, shared by
//! `egress-ebpf` (which writes them) and `egress-user` (which reads them).
//!
//! Only integers and byte arrays cross this line, with explicit padding: any bit pattern is a valid
//! value, so reading one can never be undefined behaviour. Meaning is given by constants.
//! Times are nanoseconds of `CLOCK_BOOTTIME`, the clock of `task_struct.start_boottime`
//! (Linux `include/linux/sched.h`), unless a field says otherwise.
#![no_std]

pub mod blind;
pub mod counters;
pub mod helpers;
pub mod interface;
pub mod names;
pub mod offsets;
pub mod records;
pub mod slot;
pub mod state;

/// Version of everything in this crate. A change of any layout or meaning increases it.
pub const ABI_VERSION: u32 = 2;
