//! What is kept of each socket: in the socket, or, where the kernel lends tracing programs no such storage, by its cookie.

use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use core::ffi::c_void;
use egress_common::slot::{SlotRef, SocketState};

use crate::maps::{SOCKETS, SOCKETS_BY_COOKIE, has};

const BPF_SK_STORAGE_GET_F_CREATE: u64 = 1;
const BPF_NOEXIST: u64 = 1;

/// The socket's storage; made when `create` and not there. `cookie` is asked only on kernels whose tracing programs have
/// no socket storage: there all programs meet at the cookie.
#[inline(always)]
pub fn of(sk: *mut c_void, cookie: impl FnOnce() -> u64, create: bool) -> Option<*mut SocketState> {
    if !has!(socket_storage) {
        return by_cookie(cookie(), create);
    }
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

#[inline(always)]
fn by_cookie(cookie: u64, create: bool) -> Option<*mut SocketState> {
    if cookie == 0 {
        return None;
    }
    if let Some(state) = SOCKETS_BY_COOKIE.get_ptr_mut(&cookie) {
        return Some(state);
    }
    if !create {
        return None;
    }
    let state = SocketState {
        slot: SlotRef {
            number: 0,
            generation: 0,
        },
        direction: 0,
        unconnected: 0,
        named: 0,
        fragments: 0,
        netns: 0,
        hello_left: 0,
        hello_next: 0,
    };
    // Not over one that another processor made meanwhile; if there is no room, the lookup misses.
    let _ = SOCKETS_BY_COOKIE.insert(&cookie, &state, BPF_NOEXIST);
    SOCKETS_BY_COOKIE.get_ptr_mut(&cookie)
}
