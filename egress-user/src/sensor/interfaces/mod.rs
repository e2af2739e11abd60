//! The ledger at the devices: what each network device counted, beside what the hook before its driver saw.
//!
//! In: `INTERFACES`, which the xmit program fills, and the kernel's counters of every network namespace that can be
//! entered. Out: [`model::Interfaces`], in which the two are balanced for each device.

mod device;
mod link;
mod namespaces;

use std::collections::HashMap;

use aya::Ebpf;
use aya::maps::{HashMap as BpfHashMap, MapData};
use egress_common::interface::{InterfaceCell, InterfaceKey};
use egress_common::names::MAP_INTERFACES;

use super::SensorError;
use crate::model::{self, BootTime, DeviceState, Transmitted};

use device::{Device, is_hardware};
use link::Link;
use namespaces::{Namespaces, Reading};

/// Devices that are told one by one.
const TOLD: usize = 32;
/// Readings without a change after which the cell of a device that is gone is given back.
const STILL: u32 = 6;
/// Looks at the start, so that one falls where nothing moves.
const LOOKS: u32 = 5;

/// What one look found of a device.
struct Seen {
    key: InterfaceKey,
    link: Link,
    before: InterfaceCell,
    after: InterfaceCell,
}

/// Every device, and what left through it.
pub struct Interfaces {
    cells: BpfHashMap<MapData, InterfaceKey, InterfaceCell>,
    namespaces: Namespaces,
    devices: HashMap<InterfaceKey, Device>,
    /// Devices that are gone and whose numbers are in use again, or were given back.
    past: (u64, Transmitted),
    warned: bool,
}

impl Interfaces {
    /// Takes the map.
    ///
    /// # Errors
    /// The object has none.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, SensorError> {
        let map = ebpf
            .take_map(MAP_INTERFACES)
            .ok_or(SensorError::Object(MAP_INTERFACES))?;
        Ok(Self {
            cells: map
                .try_into()
                .map_err(|_| SensorError::Object(MAP_INTERFACES))?,
            namespaces: Namespaces::default(),
            devices: HashMap::new(),
            past: (0, Transmitted::default()),
            warned: false,
        })
    }

    /// Remembers where the devices' counters are now. To be called once, when the program is attached.
    pub fn begin(&mut self, now: BootTime) {
        for _ in 0..LOOKS {
            let (found, ..) = self.look(now);
            let mut moving = false;
            for seen in found {
                let moved = seen.before != seen.after;
                moving |= moved;
                if !moved || !self.devices.contains_key(&seen.key) {
                    let device = Device::there_before(&seen.link, seen.before, seen.after);
                    self.devices.insert(seen.key, device);
                }
            }
            if !moving {
                break;
            }
        }
    }

    /// Reads everything.
    pub fn read(&mut self, now: BootTime) -> model::Interfaces {
        let (found, reading, mut unplaced) = self.look(now);
        let mut listed = Vec::with_capacity(found.len());
        for seen in found {
            listed.push(seen.key);
            unplaced.remove(&seen.key);
            self.update(seen);
        }
        listed.sort_unstable();
        for (key, device) in &mut self.devices {
            if device.state() == DeviceState::Compared
                && listed.binary_search(key).is_err()
                && !reading.hidden.contains(&key.netns)
            {
                device.gone();
            }
        }
        for (key, cell) in unplaced {
            // Its namespace cannot be entered, or it came and went since the last reading.
            let device = self
                .devices
                .entry(key)
                .or_insert_with(|| Device::hidden(cell));
            if !reading.hidden.contains(&key.netns) && device.state() == DeviceState::Hidden {
                device.gone();
            }
            if device.state() != DeviceState::Compared {
                device.still = if device.saw(cell) {
                    0
                } else {
                    device.still.saturating_add(1)
                };
            }
        }
        self.give_back(&reading);
        self.told(&reading)
    }

    fn update(&mut self, seen: Seen) {
        let Seen {
            key,
            link,
            before,
            after,
        } = seen;
        let device = match self.devices.get_mut(&key) {
            Some(device) if device.is(&link) => return device.read(&link, after),
            // It was there all the time, and could not be looked at.
            Some(device) if device.never_compared() => {
                *device = Device::made_since(&link, InterfaceCell::default(), after);
                return;
            }
            // Of hardware that comes from elsewhere nothing is ours. The other kinds are made when they are needed.
            _ if is_hardware(&link.kind) => Device::there_before(&link, before, after),
            Some(device) => Device::made_since(&link, device.cell(), after),
            None => Device::made_since(&link, InterfaceCell::default(), after),
        };
        if let Some(old) = self.devices.insert(key, device) {
            self.fold(&old);
        }
    }

    /// The kernel's counters between two looks at the hook's; and what the hook saw at all.
    fn look(
        &mut self,
        now: BootTime,
    ) -> (Vec<Seen>, Reading, HashMap<InterfaceKey, InterfaceCell>) {
        let before: HashMap<InterfaceKey, InterfaceCell> =
            self.cells.iter().filter_map(Result::ok).collect();
        let wanted = before.keys().map(|key| key.netns);
        let mut reading = self.namespaces.read(now, wanted);
        let mut found = Vec::new();
        for (netns, links) in reading.devices.drain(..) {
            for link in links {
                let key = InterfaceKey {
                    netns,
                    ifindex: link.ifindex,
                };
                found.push(Seen {
                    key,
                    link,
                    before: before.get(&key).copied().unwrap_or_default(),
                    after: self.cells.get(&key, 0).unwrap_or_default(),
                });
            }
        }
        (found, reading, before)
    }

    /// Gives the cells of devices back that are gone and have been silent.
    fn give_back(&mut self, reading: &Reading) {
        let mut past = Vec::new();
        for (key, device) in &self.devices {
            let absent = device.state() != DeviceState::Compared;
            if absent && device.still >= STILL && !reading.hidden.contains(&key.netns) {
                past.push(*key);
            }
        }
        for key in past {
            let _ = self.cells.remove(&key);
            if let Some(device) = self.devices.remove(&key) {
                self.fold(&device);
            }
        }
    }

    fn fold(&mut self, device: &Device) {
        self.past.0 = self.past.0.saturating_add(1);
        self.past.1.add(&device.transmitted());
    }

    fn told(&mut self, reading: &Reading) -> model::Interfaces {
        if let Some(why) = reading.why.as_ref().filter(|_| !self.warned) {
            self.warned = true;
            log::warn!("devices of another network namespace cannot be read: {why}");
        }
        let (past, transmitted) = self.past;
        let mut devices: Vec<_> = self
            .devices
            .iter()
            .map(|(key, device)| device.told(key.netns, key.ifindex))
            .collect();
        let mut total = transmitted;
        for device in &devices {
            total.add(&device.transmitted);
        }
        devices.sort_unstable_by_key(|device| {
            let moved = device.transmitted.tx_bytes.max(device.transmitted.seen());
            (std::cmp::Reverse(moved), device.netns, device.ifindex)
        });
        let rest = devices.split_off(devices.len().min(TOLD));
        let mut other = transmitted;
        for device in &rest {
            other.add(&device.transmitted);
        }
        model::Interfaces {
            devices,
            others: past.saturating_add(rest.len() as u64),
            other,
            total,
            namespaces: reading.namespaces,
            hidden_namespaces: reading.hidden.len() as u64,
        }
    }
}
