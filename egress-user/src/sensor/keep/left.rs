//! What an earlier daemon left pinned, looked at before anything is loaded or attached.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{MapData, MapInfo, MapType};
use egress_common::counters::Counter;
use egress_common::names;
use egress_common::slot::{ACTIVITY_CELL, FlowKey, Slot, SlotRef, Taken};
use egress_common::state::{HostState, Journal, MAGIC};
use egress_common::{ABI_VERSION, state};

use super::cells::read_state;
use super::kept::Kept;
use super::pins::Pins;
use crate::model::BootTime;
use crate::sensor::clock::boot_now;
use crate::sensor::mapped::Words;
use crate::sensor::pid_dir::PidDir;

/// A daemon reads its maps once a second at least.
const BEAT: Duration = Duration::from_secs(3);
/// How long a beat that may be another pid namespace's is waited for.
const WATCH: Duration = Duration::from_millis(1500);
/// Bytes of the state that mean the same in every version.
const HEAD: usize = 16;

/// Why what was found cannot be taken over. Nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum LeftError {
    /// Of another version.
    #[error(
        "{path} holds maps and links of an egress whose kernel interface has version {abi}, and this one has \
         {ABI_VERSION}: they are not touched, as reading them could misread what they count; start that egress to have it told, or \
         remove them with `egress unload`, which loses what is not told yet, and start again"
    )]
    OtherAbi {
        /// Where.
        path: PathBuf,
        /// Which.
        abi: u32,
    },
    /// Not what it says.
    #[error(
        "{path} cannot be taken over: {why}; remove it with `egress unload`, which loses what is not told yet, and start again"
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// What is pinned.
pub enum Found {
    /// Nothing.
    Nothing,
    /// A start that did not get to its end: nothing was told, and nothing is promised.
    Half(Pins),
    /// Everything.
    Whole(Box<Left>),
}

/// The maps of an earlier daemon, whose layout was checked.
pub struct Left {
    /// Where.
    pub pins: Pins,
    /// As it was found.
    pub state: HostState,
    /// All of them, by name; those that [`Kept`] holds are in there.
    pub maps: BTreeMap<String, MapData>,
    /// What was told of them.
    pub kept: Arc<Kept>,
}

/// Looks at what is pinned.
///
/// # Errors
/// It is not ours to take over.
pub fn look() -> Result<Found, LeftError> {
    let Some(pins) = Pins::find() else {
        return Ok(Found::Nothing);
    };
    let root = pins.root();
    let damaged = |why: String| LeftError::Damaged {
        path: root.clone(),
        why,
    };
    pins.owned().map_err(|error| damaged(error.to_string()))?;
    let Some(state) = state_of(&pins).map_err(damaged)? else {
        return Ok(Found::Half(pins));
    };
    if state.abi != ABI_VERSION {
        return Err(LeftError::OtherAbi {
            path: root,
            abi: state.abi,
        });
    }
    let mut maps = pins.open_maps().map_err(damaged)?;
    check(&maps, state.slots).map_err(damaged)?;
    let kept = Kept::take(&mut maps, state.slots, epoch_at(state.attached_ns))
        .map_err(|error| damaged(error.to_string()))?;
    Ok(Found::Whole(Box::new(Left {
        pins,
        state,
        maps,
        kept: Arc::new(kept),
    })))
}

/// Tells maps of one upgrade from those of another, by about the millisecond in which they were made or attached.
#[must_use]
pub fn epoch_at(at: BootTime) -> u32 {
    u32::try_from((at >> 20) & u64::from(u32::MAX)).unwrap_or_default()
}

/// The state that is pinned, of whatever version: only `magic` and `abi` mean something in another. `None` when there
/// is none yet.
///
/// # Errors
/// It is not what every version has there.
pub fn state_of(pins: &Pins) -> Result<Option<HostState>, String> {
    let names = pins.map_names();
    if !names.iter().any(|name| name == names::MAP_STATE) {
        return Ok(None);
    }
    let Some(path) = pins.map(names::MAP_STATE) else {
        return Ok(None);
    };
    let map = MapData::from_pin(&path).map_err(|error| crate::sensor::load::describe(&error))?;
    let info = map
        .info()
        .map_err(|error| crate::sensor::load::describe(&error))?;
    if !matches!(info.map_type(), Ok(MapType::Array)) || (info.value_size() as usize) < HEAD {
        return Err(format!("{} is not a state of any version", path.display()));
    }
    let whole = info.value_size() as usize == size_of::<HostState>();
    let length = if whole { size_of::<HostState>() } else { HEAD };
    let words = Words::map(map.fd().as_fd(), length)
        .map_err(|error| format!("{}: mapping it into memory failed: {error}", path.display()))?;
    let state = read_state(&words);
    match state.magic {
        0 => Ok(None),
        MAGIC if state.abi == ABI_VERSION && !whole => Err(format!(
            "{} has {} bytes, not {}",
            path.display(),
            info.value_size(),
            size_of::<HostState>()
        )),
        MAGIC => Ok(Some(state)),
        other => Err(format!(
            "{} begins with {other:#x}, as no version does",
            path.display()
        )),
    }
}

/// Whether the maps that user space reads are laid out as it reads them.
fn check(maps: &BTreeMap<String, MapData>, slots: u32) -> Result<(), String> {
    use MapType::{Array, Hash, PerCpuArray, RingBuf, Stack};
    let word = size_of::<u32>();
    let cell = u32::try_from(ACTIVITY_CELL).unwrap_or(1);
    let rows: [(&str, MapType, usize, usize, Option<u32>); 10] = [
        (
            names::MAP_STATE,
            Array,
            word,
            size_of::<HostState>(),
            Some(1),
        ),
        (
            names::MAP_JOURNAL,
            Array,
            word,
            size_of::<Journal>(),
            Some(1),
        ),
        (
            names::MAP_TAKEN,
            Array,
            word,
            size_of::<Taken>(),
            Some(slots),
        ),
        (
            names::MAP_SLOTS,
            Array,
            word,
            size_of::<Slot>(),
            Some(slots),
        ),
        (
            names::MAP_ACTIVITY,
            Array,
            word,
            ACTIVITY_CELL,
            Some(slots / cell),
        ),
        (names::MAP_FREE_SLOTS, Stack, 0, word, Some(slots)),
        (
            names::MAP_FLOWS,
            Hash,
            size_of::<FlowKey>(),
            size_of::<SlotRef>(),
            None,
        ),
        (
            names::MAP_COUNTERS,
            PerCpuArray,
            word,
            size_of::<Counter>(),
            Some(egress_common::counters::COUNTERS),
        ),
        (names::MAP_PROCESS_RING, RingBuf, 0, 0, None),
        (names::MAP_FILE_RING, RingBuf, 0, 0, None),
    ];
    if slots == 0 || !slots.is_multiple_of(cell) {
        return Err(format!("{slots} slots are no number of slots"));
    }
    for (name, kind, key, value, entries) in rows {
        let info: MapInfo = maps
            .get(name)
            .ok_or_else(|| format!("there is no map {name}"))?
            .info()
            .map_err(|error| format!("{name}: {}", crate::sensor::load::describe(&error)))?;
        let found = (
            info.map_type().ok(),
            info.key_size() as usize,
            info.value_size() as usize,
        );
        if found != (Some(kind), key, value)
            || entries.is_some_and(|entries| entries != info.max_entries())
        {
            return Err(format!(
                "map {name} is {found:?} with {} entries, not {kind:?} with keys of {key} and values of {value} bytes",
                info.max_entries()
            ));
        }
    }
    Ok(())
}

/// Whether the daemon of this state lives, as far as this process can see.
#[must_use]
pub fn alive(state: &HostState, pins: &Pins) -> bool {
    if state.daemon_tgid == 0 {
        return false;
    }
    if own_pidns().is_some_and(|own| own == state.daemon_pidns) {
        let stat = PidDir::open(Path::new("/proc"), state.daemon_tgid).and_then(|dir| dir.stat());
        return stat.is_ok_and(|stat| {
            stat.start_ns == state.daemon_start_ns && !matches!(stat.state, b'Z' | b'X')
        });
    }
    // Of a container: its number means nothing here, but its heart beats.
    let young = boot_now().saturating_sub(state.heartbeat_ns) < nanos(BEAT);
    let end = Instant::now() + WATCH;
    while young && Instant::now() < end {
        let beat = state_of(pins).ok().flatten().map(|now| now.heartbeat_ns);
        if beat.is_some_and(|beat| beat != state.heartbeat_ns) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// This process's start, as `/proc` tells it, and its pid namespace.
#[must_use]
pub fn own_life() -> (BootTime, u32) {
    let start = PidDir::open(Path::new("/proc"), std::process::id()).and_then(|dir| dir.key());
    (
        start.map_or(0, |key| key.start_ns),
        own_pidns().unwrap_or_default(),
    )
}

fn own_pidns() -> Option<u32> {
    PidDir::open(Path::new("/proc"), std::process::id())
        .and_then(|dir| dir.namespace("pid"))
        .ok()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const _: () = assert!(std::mem::offset_of!(state::HostState, daemon_tgid) + 4 <= HEAD);
