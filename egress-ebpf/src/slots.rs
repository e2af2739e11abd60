//! Finds the place of a byte: the slot of a (socket, process, destination).

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_uid_gid,
    bpf_ktime_get_boot_ns, bpf_sk_storage_get,
};
use core::ffi::c_void;
use egress_common::counters::FLOWS_FULL;
use egress_common::slot::{
    ACTIVITY_CELL, ADDRESS_BOTH, ADDRESS_NONE, ADDRESS_REMOTE, FlowKey, NO, Slot, SlotRef,
    SocketState, YES,
};

use crate::count::{add, count};
use crate::kread::Current;
use crate::maps::{ACTIVITY, FLOWS, FREE_SLOTS, SLOTS, SOCKETS};

const BPF_SK_STORAGE_GET_F_CREATE: u64 = 1;

/// The far end of a flow.
#[derive(Clone, Copy)]
pub struct Remote {
    pub addr: [u8; 16],
    pub port: [u8; 2],
}

/// What a slot is for, apart from its owner and its remote end.
#[derive(Clone, Copy)]
pub struct Origin {
    pub cookie: u64,
    pub netns: u32,
    pub family: u16,
    pub protocol: u16,
    pub direction: u8,
}

/// A slot, and how to refer to it.
#[derive(Clone, Copy)]
pub struct Place {
    pub slot: *mut Slot,
    pub reference: SlotRef,
}

/// The socket's storage; made when `create` and not there.
#[inline(always)]
pub fn storage(sk: *mut c_void, create: bool) -> Option<*mut SocketState> {
    let map = &raw const SOCKETS;
    let flags = if create {
        BPF_SK_STORAGE_GET_F_CREATE
    } else {
        0
    };
    let state: *mut SocketState =
        unsafe { bpf_sk_storage_get(map.cast_mut().cast(), sk, core::ptr::null_mut(), flags) }
            .cast();
    if state.is_null() { None } else { Some(state) }
}

/// The slot behind a reference, unless user space has taken it back meanwhile.
#[inline(always)]
pub fn find(reference: SlotRef) -> Option<Place> {
    if reference.number == 0 {
        return None;
    }
    let slot = SLOTS.get_ptr_mut(reference.number - 1)?;
    let current = unsafe { core::ptr::read_volatile(&raw const (*slot).generation) };
    if current == reference.generation {
        Some(Place { slot, reference })
    } else {
        None
    }
}

/// Marks a slot as changed. Called after the change: user space clears the mark before it reads.
#[inline(always)]
pub fn touch(reference: SlotRef) {
    let number = reference.number.wrapping_sub(1);
    if let Some(cell) = ACTIVITY.get_ptr_mut(number / ACTIVITY_CELL as u32) {
        let byte = unsafe {
            cell.cast::<u8>()
                .add((number as usize) & (ACTIVITY_CELL - 1))
        };
        // Usually set already: then the cache line stays shared between processors.
        if unsafe { core::ptr::read_volatile(byte) } == 0 {
            unsafe { core::ptr::write_volatile(byte, 1) };
        }
    }
}

/// Takes a free slot for `origin`. `None` when there is none.
#[inline(always)]
pub fn take(origin: &Origin) -> Option<Place> {
    let Ok(Some(number)) = FREE_SLOTS.pop() else {
        return None;
    };
    let slot = SLOTS.get_ptr_mut(number)?;
    unsafe {
        (*slot).owned = NO;
        (*slot).closed = NO;
        (*slot).addressed = ADDRESS_NONE;
        (*slot).keyed = NO;
        (*slot).direction = origin.direction;
        (*slot).cookie = origin.cookie;
        (*slot).netns = origin.netns;
        (*slot).family = origin.family;
        (*slot).protocol = origin.protocol;
        (*slot).first_ns = bpf_ktime_get_boot_ns();
        (*slot).sport = [0; 2];
        (*slot).saddr = [0; 16];
        let generation = core::ptr::read_volatile(&raw const (*slot).generation);
        Some(Place {
            slot,
            reference: SlotRef {
                number: number + 1,
                generation,
            },
        })
    }
}

/// Whether the slot belongs to `who`.
#[inline(always)]
pub fn owned_by(slot: *const Slot, who: &Current) -> bool {
    unsafe { (*slot).owned == YES && (*slot).tgid == who.tgid && (*slot).start_ns == who.start_ns }
}

/// Makes `who`, which runs now, the owner.
#[inline(always)]
pub fn own(slot: *mut Slot, who: &Current) {
    unsafe {
        (*slot).tgid = who.tgid;
        (*slot).start_ns = who.start_ns;
        (*slot).uid = bpf_get_current_uid_gid() as u32;
        (*slot).cgroup_id = bpf_get_current_cgroup_id();
        let _ = bpf_get_current_comm((&raw mut (*slot).comm).cast(), 16);
        core::ptr::write_volatile(&raw mut (*slot).owned, YES);
    }
}

/// Sets the remote end.
#[inline(always)]
pub fn address(slot: *mut Slot, remote: &Remote) {
    unsafe {
        (*slot).daddr = remote.addr;
        (*slot).dport = remote.port;
        core::ptr::write_volatile(&raw mut (*slot).addressed, ADDRESS_REMOTE);
    }
}

/// Sets the local end of a slot whose remote end is known.
#[inline(always)]
pub fn address_local(slot: *mut Slot, addr: &[u8; 16], port: [u8; 2]) {
    unsafe {
        (*slot).saddr = *addr;
        (*slot).sport = port;
        core::ptr::write_volatile(&raw mut (*slot).addressed, ADDRESS_BOTH);
    }
}

/// Whether the slot's remote end is `remote`.
#[inline(always)]
fn goes_to(slot: *const Slot, remote: &Remote) -> bool {
    unsafe {
        let (a, b): (*const u64, *const u64) = (
            (&raw const (*slot).daddr).cast(),
            (&raw const remote.addr).cast(),
        );
        (*slot).addressed != ADDRESS_NONE
            && core::ptr::read_unaligned(a) == core::ptr::read_unaligned(b)
            && core::ptr::read_unaligned(a.add(1)) == core::ptr::read_unaligned(b.add(1))
            && (*slot).dport[0] == remote.port[0]
            && (*slot).dport[1] == remote.port[1]
    }
}

/// Whether `who` may use the slot: nobody in particular, its owner, or the first to claim it.
#[inline(always)]
fn usable(slot: *mut Slot, who: Option<&Current>) -> bool {
    let Some(who) = who else { return true };
    if unsafe { (*slot).owned } != YES {
        own(slot, who);
        return true;
    }
    owned_by(slot, who)
}

/// Finds or makes the slot for bytes of `who` (nobody in particular for packets, which know no process) to `remote`,
/// and makes it the socket's current one. `None` when there is no free slot.
#[inline(always)]
pub fn for_destination(
    state: *mut SocketState,
    origin: &Origin,
    who: Option<&Current>,
    remote: &Remote,
) -> Option<Place> {
    if let Some(place) = find(unsafe { (*state).slot }) {
        if unsafe { (*place.slot).addressed } == ADDRESS_NONE {
            address(place.slot, remote);
        }
        if goes_to(place.slot, remote) && usable(place.slot, who) {
            return Some(place);
        }
    }
    let mut key = FlowKey {
        cookie: origin.cookie,
        start_ns: 0,
        tgid: 0,
        dport: remote.port,
        _pad: [0; 2],
        daddr: remote.addr,
    };
    let mut taken = false;
    if let Some(reference) = FLOWS.get_ptr(&key)
        && let Some(place) = find(unsafe { *reference })
    {
        if usable(place.slot, who) {
            unsafe { (*state).slot = place.reference };
            return Some(place);
        }
        taken = true;
    }
    if let Some(who) = who
        && taken
    {
        key.start_ns = who.start_ns;
        key.tgid = who.tgid;
        if let Some(reference) = FLOWS.get_ptr(&key)
            && let Some(place) = find(unsafe { *reference })
        {
            unsafe { (*state).slot = place.reference };
            return Some(place);
        }
    }
    let place = take(origin)?;
    address(place.slot, remote);
    if let Some(who) = who {
        own(place.slot, who);
    }
    if FLOWS.insert(&key, &place.reference, 0).is_ok() {
        unsafe {
            (*place.slot).key_tgid = key.tgid;
            (*place.slot).key_start_ns = key.start_ns;
            (*place.slot).keyed = YES;
        }
    } else {
        count(FLOWS_FULL, 0);
    }
    unsafe { (*state).slot = place.reference };
    Some(place)
}

/// Finds or makes the slot of `who` on a socket whose current slot may be another process's, with the same remote end.
#[inline(always)]
pub fn for_process(state: *mut SocketState, origin: &Origin, who: &Current) -> Option<Place> {
    let Some(place) = find(unsafe { (*state).slot }) else {
        let place = take(origin)?;
        own(place.slot, who);
        unsafe { (*state).slot = place.reference };
        return Some(place);
    };
    if usable(place.slot, Some(who)) {
        return Some(place);
    }
    let remote = unsafe {
        Remote {
            addr: (*place.slot).daddr,
            port: (*place.slot).dport,
        }
    };
    // Keyed by process: the first owner's slot is the socket's own, or keyed without one.
    let key = FlowKey {
        cookie: origin.cookie,
        start_ns: who.start_ns,
        tgid: who.tgid,
        dport: remote.port,
        _pad: [0; 2],
        daddr: remote.addr,
    };
    if let Some(reference) = FLOWS.get_ptr(&key)
        && let Some(place) = find(unsafe { *reference })
    {
        return Some(place);
    }
    let shared = take(origin)?;
    if unsafe { (*place.slot).addressed } != ADDRESS_NONE {
        address(shared.slot, &remote);
        if unsafe { (*place.slot).addressed } == ADDRESS_BOTH {
            let (addr, port) = unsafe { ((*place.slot).saddr, (*place.slot).sport) };
            address_local(shared.slot, &addr, port);
        }
    }
    own(shared.slot, who);
    if FLOWS.insert(&key, &shared.reference, 0).is_ok() {
        unsafe {
            (*shared.slot).key_tgid = key.tgid;
            (*shared.slot).key_start_ns = key.start_ns;
            (*shared.slot).keyed = YES;
        }
    } else {
        count(FLOWS_FULL, 0);
    }
    Some(shared)
}

/// Marks the socket's current slot closed; user space closes the others of the same cookie with it.
#[inline(always)]
pub fn close(state: *mut SocketState) {
    if let Some(place) = find(unsafe { (*state).slot }) {
        unsafe {
            (*place.slot).closed_ns = bpf_ktime_get_boot_ns();
            core::ptr::write_volatile(&raw mut (*place.slot).closed, YES);
        }
        touch(place.reference);
    }
}

/// Adds sent application bytes.
#[inline(always)]
pub fn add_app(place: Place, bytes: u64) {
    unsafe {
        add(&raw mut (*place.slot).app_bytes, bytes);
        add(&raw mut (*place.slot).app_calls, 1);
    }
    touch(place.reference);
}

/// Adds received application bytes.
#[inline(always)]
pub fn add_rx(place: Place, bytes: u64) {
    unsafe { add(&raw mut (*place.slot).rx_bytes, bytes) };
    touch(place.reference);
}

/// Adds wire bytes.
#[inline(always)]
pub fn add_wire(place: Place, bytes: u64, packets: u64) {
    unsafe {
        add(&raw mut (*place.slot).wire_bytes, bytes);
        add(&raw mut (*place.slot).wire_packets, packets);
    }
    touch(place.reference);
}
