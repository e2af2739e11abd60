//! Words of a mapping by their offsets: one that is not there reads as 0, and takes nothing.

use std::mem::{offset_of, size_of};
use std::sync::atomic::Ordering::{Relaxed, Release};

use egress_common::slot::Taken;
use egress_common::state::{HostState, Intent, Journal as Layout};

use crate::sensor::mapped::Words;

/// The state in a mapping, whatever wrote it.
pub(super) fn read_state(words: &Words) -> HostState {
    let mut object = [0; 32];
    for (word, bytes) in object.chunks_exact_mut(8).enumerate() {
        let value = get(words, offset_of!(HostState, object) + word * 8);
        bytes.copy_from_slice(&value.to_ne_bytes());
    }
    HostState {
        magic: get(words, offset_of!(HostState, magic)),
        abi: get_half(words, offset_of!(HostState, abi)),
        daemon_tgid: get_half(words, offset_of!(HostState, daemon_tgid)),
        object,
        attached_ns: get(words, offset_of!(HostState, attached_ns)),
        heartbeat_ns: get(words, offset_of!(HostState, heartbeat_ns)),
        slots: get_half(words, offset_of!(HostState, slots)),
        daemon_pidns: get_half(words, offset_of!(HostState, daemon_pidns)),
        daemon_start_ns: get(words, offset_of!(HostState, daemon_start_ns)),
        next_flow: get(words, offset_of!(HostState, next_flow)),
        records: std::array::from_fn(|kind| get(words, offset_of!(HostState, records) + kind * 8)),
    }
}

pub(super) fn at(slot: u32) -> usize {
    slot as usize * size_of::<Taken>()
}

pub(super) fn intent(number: usize) -> usize {
    offset_of!(Layout, intents) + number * size_of::<Intent>()
}

pub(super) fn get(words: &Words, offset: usize) -> u64 {
    words.word(offset).map_or(0, |word| word.load(Relaxed))
}

pub(super) fn get_half(words: &Words, offset: usize) -> u32 {
    words.half(offset).map_or(0, |half| half.load(Relaxed))
}

/// Stores are in program order to whoever looks after a kill: the kernel's death of the process is a barrier.
pub(super) fn set(words: &Words, offset: usize, value: u64) {
    if let Some(word) = words.word(offset) {
        word.store(value, Release);
    }
}

pub(super) fn set_half(words: &Words, offset: usize, value: u32) {
    if let Some(half) = words.half(offset) {
        half.store(value, Release);
    }
}

pub(super) fn set_bytes(words: &Words, offset: usize, bytes: &[u8]) {
    for (number, chunk) in bytes.chunks(8).enumerate() {
        let mut word = [0; 8];
        if let Some(place) = word.get_mut(..chunk.len()) {
            place.copy_from_slice(chunk);
        }
        set(words, offset + number * 8, u64::from_ne_bytes(word));
    }
}
