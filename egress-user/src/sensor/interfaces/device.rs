//! One device: what it counted beside what the hook saw before it.
//!
//! Pure. The hook is read before and after the device's counter, and whatever may have passed between is taken for seen,
//! so that `unseen` is what certainly no hook saw. All figures are cumulative: what was in between once is in its place
//! at the next reading.

use egress_common::interface::{CLASSES, InterfaceCell};

use super::link::Link;
use crate::model::{DeviceState, Interface, Text, Transmitted};

/// Frame check sequence that hardware may count, bytes (IEEE 802.3, 3.2.9).
const FCS: u64 = 4;
/// What hardware may count late: drivers count on completion, so what was on its way at the start is counted after it.
/// Byte queue limits keep it well below this (Linux `lib/dynamic_queue_limits.c`).
const LATE: u64 = 1 << 20;

/// A device since it is known.
#[derive(Clone, Debug)]
pub(super) struct Device {
    name: Text,
    kind: Text,
    state: DeviceState,
    /// The device's counters when it became known, and what the hook had seen by then.
    base: (u64, u64),
    base_cell: InterfaceCell,
    /// The device's counters, and what the hook had seen just after, at the last reading.
    last: (u64, u64),
    seen: InterfaceCell,
    unseen: u64,
    /// Whether its counters were read at all.
    compared: bool,
    /// Readings in which nothing moved, since it is gone.
    pub(super) still: u32,
}

impl Device {
    /// One whose counters so far are not ours: it was there before us. `before` was read before the counters.
    pub(super) fn there_before(link: &Link, before: InterfaceCell, after: InterfaceCell) -> Self {
        Self::new(link, (link.tx_bytes, link.tx_packets), before, after)
    }

    /// One that was made since. `base_cell` is what the hook saw under its number before it was made.
    pub(super) fn made_since(link: &Link, base_cell: InterfaceCell, after: InterfaceCell) -> Self {
        Self::new(link, (0, 0), base_cell, after)
    }

    fn new(link: &Link, base: (u64, u64), base_cell: InterfaceCell, after: InterfaceCell) -> Self {
        let mut device = Self {
            name: link.name.clone(),
            kind: link.kind.clone(),
            state: DeviceState::Compared,
            base,
            base_cell,
            last: (0, 0),
            seen: base_cell,
            unseen: 0,
            compared: true,
            still: 0,
        };
        device.read(link, after);
        device
    }

    /// One whose counters cannot be read.
    pub(super) fn hidden(cell: InterfaceCell) -> Self {
        let none = InterfaceCell::default();
        let mut device = Self::made_since(&Link::default(), none, none);
        device.state = DeviceState::Hidden;
        device.compared = false;
        device.saw(cell);
        device
    }

    /// Whether these are the counters of the same device, later.
    pub(super) fn is(&self, link: &Link) -> bool {
        self.state == DeviceState::Compared
            && self.kind == link.kind
            && self.last.0 <= link.tx_bytes
            && self.last.1 <= link.tx_packets
    }

    /// Takes its counters; `after` is what the hook had seen when they had been read.
    pub(super) fn read(&mut self, link: &Link, after: InterfaceCell) {
        self.name = link.name.clone();
        self.last = (link.tx_bytes, link.tx_packets);
        self.seen = after;
        let more = self.beyond().saturating_sub(self.framing());
        self.unseen = self.unseen.max(more);
    }

    /// Takes what the hook saw of a device whose counters cannot be read. Returns whether that changed.
    pub(super) fn saw(&mut self, cell: InterfaceCell) -> bool {
        let changed = cell != self.seen;
        // What the hook saw since the last reading of the counters is taken for counted.
        let bytes = total(&cell.bytes).saturating_sub(total(&self.seen.bytes));
        let packets = total(&cell.packets).saturating_sub(total(&self.seen.packets));
        self.last = (
            self.last.0.saturating_add(bytes),
            self.last.1.saturating_add(packets),
        );
        self.seen = cell;
        changed
    }

    /// It is not there any more.
    pub(super) fn gone(&mut self) {
        self.state = DeviceState::Gone;
    }

    pub(super) fn state(&self) -> DeviceState {
        self.state
    }

    /// Whether its counters could never be read.
    pub(super) fn never_compared(&self) -> bool {
        !self.compared
    }

    /// What the hook has seen under its number.
    pub(super) fn cell(&self) -> InterfaceCell {
        self.seen
    }

    /// The figures since it is known.
    pub(super) fn transmitted(&self) -> Transmitted {
        let framing = self.framing();
        let mut transmitted = Transmitted {
            tx_bytes: self.last.0.saturating_sub(self.base.0),
            tx_packets: self.last.1.saturating_sub(self.base.1),
            bytes: difference(&self.seen.bytes, &self.base_cell.bytes),
            packets: difference(&self.seen.packets, &self.base_cell.packets),
            framing,
            unseen: self.unseen,
            uncounted: 0,
        };
        transmitted.uncounted = transmitted
            .seen()
            .saturating_add(framing)
            .saturating_add(self.unseen)
            .saturating_sub(transmitted.tx_bytes);
        transmitted
    }

    /// As a record has it.
    pub(super) fn told(&self, netns: u32, ifindex: u32) -> Interface {
        Interface {
            netns,
            ifindex,
            name: self.name.clone(),
            kind: self.kind.clone(),
            state: self.state,
            transmitted: self.transmitted(),
        }
    }

    /// By how much the device counted more than the hook saw.
    fn beyond(&self) -> u64 {
        let counted = self.last.0.saturating_sub(self.base.0);
        let seen = total(&difference(&self.seen.bytes, &self.base_cell.bytes));
        counted.saturating_sub(seen)
    }

    /// What of that hardware adds. Software devices count what they are handed, to the byte.
    fn framing(&self) -> u64 {
        if !is_hardware(&self.kind) {
            return 0;
        }
        let packets = total(&difference(&self.seen.packets, &self.base_cell.packets));
        let segments = self
            .seen
            .segment_bytes
            .saturating_sub(self.base_cell.segment_bytes);
        let room = packets
            .saturating_mul(FCS)
            .saturating_add(segments)
            .saturating_add(LATE);
        self.beyond().min(room)
    }
}

/// Hardware has no kind of its own; these count what their hardware does.
pub(super) fn is_hardware(kind: &Text) -> bool {
    matches!(kind.as_bytes(), b"" | b"bond" | b"team")
}

fn total(values: &[u64; CLASSES]) -> u64 {
    values
        .iter()
        .fold(0, |sum, value| sum.saturating_add(*value))
}

fn difference(now: &[u64; CLASSES], then: &[u64; CLASSES]) -> [u64; CLASSES] {
    let mut difference = *now;
    for (now, then) in difference.iter_mut().zip(then) {
        *now = now.saturating_sub(*then);
    }
    difference
}

#[cfg(test)]
mod tests {
    use egress_common::interface::{CLASS_KERNEL, CLASS_SOCKET};
    use proptest::prelude::*;

    use super::*;

    fn link(kind: &str, tx_bytes: u64) -> Link {
        Link {
            ifindex: 10,
            name: "wire".into(),
            kind: kind.into(),
            tx_bytes,
            tx_packets: tx_bytes / 1000,
        }
    }

    fn cell(socket: u64, kernel: u64) -> InterfaceCell {
        let mut cell = InterfaceCell::default();
        cell.bytes[CLASS_SOCKET] = socket;
        cell.bytes[CLASS_KERNEL] = kernel;
        cell.packets[CLASS_SOCKET] = socket / 1000;
        cell
    }

    #[test]
    fn what_is_beyond_the_hook_is_unseen_and_the_start_is_not_ours() {
        let mut device = Device::there_before(&link("veth", 50_000), cell(0, 0), cell(0, 0));
        device.read(&link("veth", 60_042), cell(10_000, 42));
        let now = device.transmitted();
        assert!(now.balances());
        assert_eq!((now.tx_bytes, now.unseen, now.uncounted), (10_042, 0, 0));
        device.read(&link("veth", 63_042), cell(10_000, 42));
        let now = device.transmitted();
        assert!(now.balances());
        assert_eq!(
            (now.tx_bytes, now.unseen, now.uncounted),
            (13_042, 3_000, 0)
        );
    }

    #[test]
    fn what_moves_between_readings_is_no_permanent_error() {
        // 1,000 bytes passed between the counter and the second look at the hook, at the start and later.
        let mut device = Device::there_before(&link("veth", 5_000), cell(2_000, 0), cell(3_000, 0));
        assert_eq!(device.transmitted().uncounted, 1_000);
        device.read(&link("veth", 6_000), cell(3_000, 0));
        assert_eq!(
            (device.transmitted().unseen, device.transmitted().uncounted),
            (0, 0)
        );
        device.read(&link("veth", 8_000), cell(6_000, 0));
        device.read(&link("veth", 9_000), cell(6_000, 0));
        assert_eq!(
            (device.transmitted().unseen, device.transmitted().uncounted),
            (0, 0)
        );
    }

    #[test]
    fn hardware_adds_framing_and_drops_are_told() {
        let mut seen = cell(2_000_000, 0);
        seen.segment_bytes = 50_000;
        let mut device = Device::there_before(&link("", 0), cell(0, 0), cell(0, 0));
        device.read(&link("", 2_058_000), seen);
        let now = device.transmitted();
        assert!(now.balances());
        assert_eq!((now.framing, now.unseen), (58_000, 0));
        device.read(&link("", 2_058_000 + (2 << 20)), seen);
        let now = device.transmitted();
        assert!(now.balances());
        assert_eq!(now.unseen, (2 << 20) - LATE);

        let mut device = Device::made_since(&link("veth", 0), cell(0, 0), cell(0, 0));
        device.read(&link("veth", 1_000), cell(3_000, 0));
        let now = device.transmitted();
        assert!(now.balances());
        assert_eq!((now.uncounted, now.unseen), (2_000, 0));
    }

    #[test]
    fn a_counter_that_goes_back_is_another_device() {
        let device = Device::made_since(&link("veth", 5_000), cell(0, 0), cell(5_000, 0));
        assert!(device.is(&link("veth", 5_000)) && device.is(&link("veth", 6_000)));
        assert!(!device.is(&link("veth", 4_000)) && !device.is(&link("bridge", 6_000)));
    }

    proptest! {
        #[test]
        fn always_balances_and_unseen_never_falls(
            kind in prop::sample::select(vec!["", "veth"]),
            steps in prop::collection::vec((0_u64..1 << 40, 0_u64..1 << 40, 0_u64..1 << 40), 1..12),
        ) {
            let (mut counted, mut seen) = (0, cell(0, 0));
            let mut device = Device::there_before(&link(kind, 0), seen, seen);
            let mut unseen = 0;
            for (sent, saw, segments) in steps {
                counted += sent;
                seen.bytes[CLASS_SOCKET] += saw;
                seen.packets[CLASS_SOCKET] += saw / 1500;
                seen.segment_bytes += segments;
                device.read(&link(kind, counted), seen);
                let now = device.transmitted();
                prop_assert!(now.balances(), "{now:?}");
                prop_assert!(now.unseen >= unseen);
                unseen = now.unseen;
            }
            seen.bytes[CLASS_KERNEL] += 77;
            device.gone();
            device.saw(seen);
            prop_assert!(device.transmitted().balances());
        }
    }
}
