//! A health record's devices.

use super::present;
use crate::model::{DeviceState, Interface, Interfaces, PacketClass, Transmitted};
use crate::outlet::ecs;

pub(super) fn interfaces(interfaces: &Interfaces) -> ecs::Interfaces<'_> {
    ecs::Interfaces {
        devices: interfaces.devices.iter().map(interface).collect(),
        others: interfaces.others,
        other: transmitted(&interfaces.other),
        total: transmitted(&interfaces.total),
        namespaces: interfaces.namespaces,
        hidden_namespaces: interfaces.hidden_namespaces,
    }
}

fn interface(interface: &Interface) -> ecs::Interface<'_> {
    ecs::Interface {
        netns: interface.netns,
        ifindex: interface.ifindex,
        name: present(&interface.name),
        kind: present(&interface.kind),
        state: match interface.state {
            DeviceState::Compared => "compared",
            DeviceState::Gone => "gone",
            DeviceState::Hidden => "hidden",
        },
        transmitted: transmitted(&interface.transmitted),
    }
}

fn transmitted(figures: &Transmitted) -> ecs::Transmitted {
    let classes = |values: [u64; 6]| {
        PacketClass::ALL
            .into_iter()
            .map(PacketClass::name)
            .zip(values)
            .collect()
    };
    ecs::Transmitted {
        tx_bytes: figures.tx_bytes,
        tx_packets: figures.tx_packets,
        bytes: classes(figures.bytes),
        packets: classes(figures.packets),
        framing: figures.framing,
        unseen: figures.unseen,
        uncounted: figures.uncounted,
    }
}
