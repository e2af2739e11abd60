//! The object: its maps as large as configured, its globals as this host needs them.

use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use egress_common::helpers::{Helpers, PRESENT};
use egress_common::names;
use egress_common::offsets::Offsets;
use sha2::{Digest as _, Sha256};

use super::SensorError;
use super::keep::pins::Pins;
use crate::config;
use crate::model::ProgramCost;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/egress-ebpf"));

/// `AYA_LOG_LEVEL`: nothing. The verifier then removes every log statement.
const LOG_OFF: u8 = 0;
/// `AYA_LOG_LEVEL`: up to debug.
const LOG_DEBUG: u8 = 4;

/// SHA-256 of everything that decides what the maps and programs of a run are: those of the same digest can be taken over.
#[must_use]
pub fn digest(config: &config::Sensor, offsets: &Offsets) -> [u8; 32] {
    let made_from = format!(
        "{offsets:?} {} {} {} {} {} {:?}",
        config.slots,
        config.process_ring_bytes,
        config.file_ring_bytes,
        config.name_ring_bytes,
        config.kernel_log,
        config.names
    );
    Sha256::new()
        .chain_update(OBJECT)
        .chain_update(made_from)
        .finalize()
        .into()
}

/// Loads maps and programs, with memory as configured; of the maps, those that are pinned in `reuse` are opened instead.
/// Nothing is attached yet.
///
/// # Errors
/// The object does not fit this kernel, or there is no memory for its maps.
pub fn load(
    config: &config::Sensor,
    offsets: &Offsets,
    helpers: &Helpers,
    reuse: Option<&Pins>,
) -> Result<Ebpf, SensorError> {
    let level = if config.kernel_log {
        LOG_DEBUG
    } else {
        LOG_OFF
    };
    // Of use only without socket storage; then each socket with a slot needs an entry.
    let cookies = if helpers.socket_storage == PRESENT {
        1
    } else {
        config.slots
    };
    let activity_cells =
        config.slots / u32::try_from(egress_common::slot::ACTIVITY_CELL).unwrap_or(1);
    let watch = if config.names.tls {
        names::WATCH_TLS
    } else {
        0
    } | if config.names.quic {
        names::WATCH_QUIC
    } else {
        0
    };
    let pinned: Vec<_> = reuse
        .into_iter()
        .flat_map(|pins| {
            let names = pins.map_names();
            names
                .into_iter()
                .filter_map(|name| Some((pins.map(&name)?, name)))
        })
        .collect();
    let mut loader = EbpfLoader::new();
    for (path, name) in &pinned {
        loader.map_pin_path(name, path.as_path());
    }
    loader
        .override_global(names::GLOBAL_OFFSETS, offsets, true)
        .override_global(names::GLOBAL_HELPERS, helpers, true)
        .override_global(names::GLOBAL_WATCH, &watch, true)
        .override_global("AYA_LOG_LEVEL", &level, false)
        .map_max_entries(names::MAP_SLOTS, config.slots)
        .map_max_entries(names::MAP_TAKEN, config.slots)
        .map_max_entries(names::MAP_SOCKETS_BY_COOKIE, cookies)
        .map_max_entries(names::MAP_ACTIVITY, activity_cells)
        .map_max_entries(names::MAP_FREE_SLOTS, config.slots)
        .map_max_entries(names::MAP_FLOWS, config.slots)
        .map_max_entries(names::MAP_PROCESS_RING, config.process_ring_bytes)
        .map_max_entries(names::MAP_FILE_RING, config.file_ring_bytes)
        .map_max_entries(names::MAP_NAME_RING, config.name_ring_bytes)
        .load(OBJECT)
        .map_err(|error| SensorError::Load(describe(&error)))
}

/// What the kernel says of the programs that were loaded.
#[must_use]
pub fn costs(ebpf: &Ebpf) -> Vec<ProgramCost> {
    let mut costs: Vec<_> = ebpf
        .programs()
        .filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some(ProgramCost {
                program: name.to_owned(),
                verified_instructions: info.verified_instruction_count(),
                instructions: info.size_translated().map(|bytes| bytes / 8),
            })
        })
        .collect();
    costs.sort_by(|a, b| a.program.cmp(&b.program));
    costs
}

/// An error with its causes, on one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text.replace('\n', " ")
}
