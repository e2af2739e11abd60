//! Maps and read-only globals.

use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, SkStorage, Stack};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{ProgramArray, RingBuf};
use egress_common::counters::{COUNTERS as COUNTER_CELLS, Counter};
use egress_common::helpers::Helpers;
use egress_common::interface::{InterfaceCell, InterfaceKey};
use egress_common::offsets::Offsets;
use egress_common::records::{EXEC_TAIL_MAX, Exec, FILE_PATH_MAX, File};
use egress_common::slot::{
    ACTIVITY_CELL, DEFAULT_SLOTS, FlowKey, Slot, SlotRef, SocketState, Taken,
};
use egress_common::state::{HostState, Journal};

const BPF_F_MMAPABLE: usize = 1 << 10;

/// Where bytes are summed.
#[btf_map]
pub static SLOTS: Array<Slot, { DEFAULT_SLOTS as usize }, BPF_F_MMAPABLE> = Array::new();

/// One byte for each slot.
#[btf_map]
pub static ACTIVITY: Array<
    [u8; ACTIVITY_CELL],
    { DEFAULT_SLOTS as usize / ACTIVITY_CELL },
    BPF_F_MMAPABLE,
> = Array::new();

/// Numbers of free slots. A stack, so that a quiet host keeps to few cache lines.
#[btf_map]
pub static FREE_SLOTS: Stack<u32, { DEFAULT_SLOTS as usize }> = Stack::new();

/// Slots that are not their socket's only one. A slot has one key at most, so with as many entries as there are slots it
/// cannot fill up: a socket that sends to ever more destinations would take a slot for each send otherwise.
#[btf_map]
pub static FLOWS: HashMap<FlowKey, SlotRef, { DEFAULT_SLOTS as usize }> = HashMap::new();

/// Socket-local storage.
#[btf_map]
pub static SOCKETS: SkStorage<SocketState> = SkStorage::new();

/// The same, by socket cookie, for kernels whose tracing programs have no socket storage.
#[btf_map]
pub static SOCKETS_BY_COOKIE: LruHashMap<u64, SocketState, { DEFAULT_SLOTS as usize }> =
    LruHashMap::new();

/// From the sendmsg hook to the send hook of the same thread: where this unconnected send goes.
#[btf_map]
pub static PENDING: LruHashMap<u64, PendingSend, 8_192> = LruHashMap::new();

/// Totals and causes.
#[btf_map]
pub static COUNTERS: PerCpuArray<Counter, { COUNTER_CELLS as usize }> = PerCpuArray::new();

/// What user space has told of each slot. No program touches it: it lies here to be pinned beside the slots.
#[btf_map]
pub static TAKEN: Array<Taken, { DEFAULT_SLOTS as usize }, BPF_F_MMAPABLE> = Array::new();

/// Who looks after all this.
#[btf_map]
pub static STATE: Array<HostState, 1, BPF_F_MMAPABLE> = Array::new();

/// What is being told. No program touches it either.
#[btf_map]
pub static JOURNAL: Array<Journal, 1, BPF_F_MMAPABLE> = Array::new();

/// What leaves through each device.
#[btf_map]
pub static INTERFACES: HashMap<InterfaceKey, InterfaceCell, 1_024> = HashMap::new();

/// When a process last told of a blind spot.
#[btf_map]
pub static BLIND_TOLD: LruHashMap<BlindKey, u64, 4_096> = LruHashMap::new();

/// The program that tells hellos. Called from the wire program, as the two together need more than one program's stack.
#[map]
pub static HELLO: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// DNS, TLS and QUIC payloads.
#[map]
pub static NAME_RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Process records.
#[map]
pub static PROCESS_RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// File records.
#[map]
pub static FILE_RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// When a process last told of opening a file in a way.
#[btf_map]
pub static OPENED: LruHashMap<OpenKey, u64, 32_768> = LruHashMap::new();

/// When a name of a file was last told.
#[btf_map]
pub static TOLD: LruHashMap<NameKey, u64, 16_384> = LruHashMap::new();

/// Where an exec record is put together: larger than the stack.
#[btf_map]
pub static EXEC_SCRATCH: PerCpuArray<ExecScratch, 1> = PerCpuArray::new();

/// Where a file record is put together.
#[btf_map]
pub static FILE_SCRATCH: PerCpuArray<FileScratch, 1> = PerCpuArray::new();

/// Field offsets on this kernel. Set by the loader; constant to the verifier, because the section is frozen.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::UNKNOWN;

/// What this kernel's tracing programs may call. Set by the loader.
#[unsafe(no_mangle)]
pub static HELPERS: Helpers = Helpers::ALL;

/// Whether a helper is there.
macro_rules! has {
    ($helper:ident) => {
        $crate::maps::loaded(&raw const $crate::maps::HELPERS.$helper)
            == egress_common::helpers::PRESENT
    };
}
pub(crate) use has;

/// What is looked for in packets: `WATCH_*`. Set by the loader; constant to the verifier.
#[unsafe(no_mangle)]
pub static WATCH: u32 = 0;

/// One offset, as the loader set it.
macro_rules! offset {
    ($field:ident) => {
        $crate::maps::loaded(&raw const $crate::maps::OFFSETS.$field)
    };
}
pub(crate) use offset;

/// The daemon's thread-group id: telling of its own file opens would make more of them.
#[inline(always)]
pub fn daemon_tgid() -> u32 {
    STATE.get_ptr(0).map_or(0, |state| unsafe {
        core::ptr::read_volatile(&raw const (*state).daemon_tgid)
    })
}

/// Reads a global that the loader sets. Volatile: to the compiler its initial value would be a constant.
#[inline(always)]
pub fn loaded(global: *const u32) -> u32 {
    unsafe { core::ptr::read_volatile(global) }
}

/// See [`PENDING`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PendingSend {
    /// The socket that it is for.
    pub cookie: u64,
    /// Where it goes.
    pub slot: SlotRef,
}

/// See [`OPENED`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OpenKey {
    pub start_ns: u64,
    pub ino: u64,
    pub tgid: u32,
    pub dev: u32,
    pub generation: u32,
    pub access: u32,
}

/// See [`BLIND_TOLD`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct BlindKey {
    pub start_ns: u64,
    pub tgid: u32,
    pub what: u32,
    pub detail: u32,
    pub more: u32,
}

/// See [`TOLD`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NameKey {
    pub ino: u64,
    pub name_id: u64,
    pub dev: u32,
    pub generation: u32,
}

/// State of a walk from a dentry to the root. In a map, not in registers: the verifier then sees the same state in
/// each round and does not multiply paths.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Walk {
    pub mnt: u64,
    pub dentry: u64,
    pub written: u32,
    pub truncated: u32,
}

/// See [`EXEC_SCRATCH`].
#[repr(C)]
pub struct ExecScratch {
    pub walk: Walk,
    pub record: Exec,
    pub tail: [u8; EXEC_TAIL_MAX],
}

/// See [`FILE_SCRATCH`].
#[repr(C)]
pub struct FileScratch {
    pub walk: Walk,
    pub record: File,
    pub tail: [u8; FILE_PATH_MAX],
}
