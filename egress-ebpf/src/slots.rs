//! Finds the place of a byte: the slot of a (socket, process, destination).

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_ktime_get_boot_ns,
};
use egress_common::counters::FLOWS_FULL;
use egress_common::slot::{
    ACTIVITY_CELL, ADDRESS_BOTH, ADDRESS_NONE, ADDRESS_REMOTE, DIRECTION_UNKNOWN, FlowKey,
    KEYED_NO, KEYED_OWNER, KEYED_SHARED, NO, Slot, SlotRef, SocketState, YES,
};

use crate::count::{add, count};
use crate::kread::Current;
use crate::maps::{ACTIVITY, FLOWS, FREE_SLOTS, SLOTS};

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
        (*slot).keyed = KEYED_NO;
        (*slot).sent = NO;
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

/// Whether the slot belongs to `who`: the same process, image and user.
#[inline(always)]
pub fn owned_by(slot: *const Slot, who: &Current) -> bool {
    unsafe {
        (*slot).owned == YES
            && (*slot).tgid == who.tgid
            && (*slot).start_ns == who.start_ns
            && (*slot).uid == who.uid
            && (*slot).exec_id == who.exec_id
    }
}

/// Makes `who`, which runs now, the owner.
#[inline(always)]
pub fn own(slot: *mut Slot, who: &Current) {
    unsafe {
        (*slot).tgid = who.tgid;
        (*slot).start_ns = who.start_ns;
        (*slot).uid = who.uid;
        (*slot).exec_id = who.exec_id;
        (*slot).gid = who.gid;
        (*slot).loginuid = who.loginuid;
        (*slot).session_id = who.session_id;
        (*slot).cgroup_id = bpf_get_current_cgroup_id();
        let _ = bpf_get_current_comm((&raw mut (*slot).comm).cast(), 16);
        core::ptr::write_volatile(&raw mut (*slot).owned, YES);
    }
}

/// Adds to a slot that the wire program took what only a hook in process context knows.
#[inline(always)]
pub fn complete(slot: *mut Slot, origin: &Origin) {
    unsafe {
        if (*slot).netns == 0 {
            (*slot).netns = origin.netns;
        }
        if (*slot).direction == DIRECTION_UNKNOWN {
            (*slot).direction = origin.direction;
        }
    }
}

/// Renews what is known of the owner at its first send, which may come long after it made the socket, and when somebody
/// has logged in since: a login daemon (sshd) sends the session's bytes over the socket that was there before, and
/// executes nothing.
#[inline(always)]
pub fn renew(slot: *mut Slot, who: &Current) {
    if unsafe { (*slot).loginuid != who.loginuid || (*slot).sent != YES } {
        own(slot, who);
        unsafe { (*slot).sent = YES };
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
    let mut key = shared_key(origin.cookie, remote);
    let mut keyed = KEYED_SHARED;
    if let Some(reference) = FLOWS.get_ptr(&key)
        && let Some(place) = find(unsafe { *reference })
    {
        if usable(place.slot, who) {
            unsafe { (*state).slot = place.reference };
            return Some(place);
        }
        keyed = KEYED_OWNER;
    }
    if let Some(who) = who
        && keyed == KEYED_OWNER
    {
        key = owner_key(key, who);
        if let Some(reference) = FLOWS.get_ptr(&key)
            && let Some(place) = find(unsafe { *reference })
        {
            unsafe { (*state).slot = place.reference };
            return Some(place);
        }
    }
    let place = take(origin)?;
    // Another destination, another name.
    unsafe { (*state).named = 0 };
    address(place.slot, remote);
    if let Some(who) = who {
        own(place.slot, who);
    }
    remember(&key, place, keyed);
    unsafe { (*state).slot = place.reference };
    Some(place)
}

/// The key of the first to reach `remote` over a socket.
#[inline(always)]
fn shared_key(cookie: u64, remote: &Remote) -> FlowKey {
    FlowKey {
        cookie,
        start_ns: 0,
        tgid: 0,
        uid: 0,
        exec_id: 0,
        dport: remote.port,
        _pad: [0; 2],
        daddr: remote.addr,
    }
}

/// The key of another one.
#[inline(always)]
fn owner_key(key: FlowKey, who: &Current) -> FlowKey {
    FlowKey {
        start_ns: who.start_ns,
        tgid: who.tgid,
        uid: who.uid,
        exec_id: who.exec_id,
        ..key
    }
}

/// Enters the slot into `FLOWS`.
#[inline(always)]
fn remember(key: &FlowKey, place: Place, keyed: u8) {
    if FLOWS.insert(key, &place.reference, 0).is_ok() {
        unsafe { (*place.slot).keyed = keyed };
    } else {
        count(FLOWS_FULL, 0);
    }
}

/// Finds or makes the slot of `who` on a socket with one remote end, whose current slot may be another's, and makes it
/// the socket's current one: packets are counted to whoever sent last; those that leave before a new sender's first call
/// returns, to the one before.
#[inline(always)]
pub fn for_process(state: *mut SocketState, origin: &Origin, who: &Current) -> Option<Place> {
    let Some(before) = find(unsafe { (*state).slot }) else {
        let place = take(origin)?;
        own(place.slot, who);
        unsafe { (*state).slot = place.reference };
        return Some(place);
    };
    if usable(before.slot, Some(who)) {
        return Some(before);
    }
    let remote = unsafe {
        Remote {
            addr: (*before.slot).daddr,
            port: (*before.slot).dport,
        }
    };
    let shared = shared_key(origin.cookie, &remote);
    if unsafe { (*before.slot).keyed } == KEYED_NO {
        // So that its owner finds it again.
        let owner = unsafe {
            FlowKey {
                start_ns: (*before.slot).start_ns,
                tgid: (*before.slot).tgid,
                uid: (*before.slot).uid,
                exec_id: (*before.slot).exec_id,
                ..shared
            }
        };
        remember(&owner, before, KEYED_OWNER);
    }
    let key = owner_key(shared, who);
    if let Some(reference) = FLOWS.get_ptr(&key)
        && let Some(place) = find(unsafe { *reference })
    {
        unsafe { (*state).slot = place.reference };
        return Some(place);
    }
    let place = take(origin)?;
    if unsafe { (*before.slot).addressed } != ADDRESS_NONE {
        address(place.slot, &remote);
        if unsafe { (*before.slot).addressed } == ADDRESS_BOTH {
            let (addr, port) = unsafe { ((*before.slot).saddr, (*before.slot).sport) };
            address_local(place.slot, &addr, port);
        }
    }
    own(place.slot, who);
    remember(&key, place, KEYED_OWNER);
    unsafe { (*state).slot = place.reference };
    Some(place)
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
