//! What works here: attaches every hook for a moment, and says how that went.

use std::path::Path;

use super::{RunError, blind};
use crate::config::Config;
use crate::model::{DoctorReport, HookState, Interfaces, Verdict};
use crate::sensor::cgroups::CgroupRoot;
use crate::sensor::{Sensor, fields, guard, privilege};

/// Finds out what works here. Nothing stays attached.
///
/// # Errors
/// None today: what is wrong is in the report.
pub fn doctor() -> Result<DoctorReport, RunError> {
    let uname = rustix::system::uname();
    let mut host = vec![
        (
            "kernel".to_owned(),
            format!(
                "{} {}",
                uname.release().to_string_lossy(),
                uname.machine().to_string_lossy()
            ),
        ),
        ("egress".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut stops = Vec::new();
    match privilege::check() {
        Ok(()) => host.push(("privileges".into(), "enough".into())),
        Err(missing) => stops.push(missing.to_string()),
    }
    let btf = Path::new(fields::VMLINUX);
    match fields::from_host(btf) {
        Ok(offsets) => {
            let missing: Vec<_> = offsets.missing().collect();
            let found = if missing.is_empty() {
                "every field found".to_owned()
            } else {
                format!("fields not found: {}", missing.join(", "))
            };
            host.push(("btf".into(), format!("{}: {found}", btf.display())));
        }
        Err(error) => stops.push(error.to_string()),
    }
    match CgroupRoot::find() {
        Ok(root) => host.push(("cgroup2".into(), root.path().display().to_string())),
        Err(error) => stops.push(error.to_string()),
    }
    if stops.is_empty() && guard::loaded() {
        host.push(("daemon".into(), "an egress daemon runs on this host".into()));
    }
    // Small maps: they live for a moment.
    let mut sensor = Config::default().sensor;
    (
        sensor.slots,
        sensor.process_ring_bytes,
        sensor.file_ring_bytes,
    ) = (1024, 65_536, 65_536);
    let mut hooks = Vec::new();
    if stops.is_empty() {
        match Sensor::start(&sensor, btf) {
            Ok(mut sensor) => {
                hooks = sensor.hooks().to_vec();
                host.extend(sensor.measure().map(devices));
            }
            Err(error) => stops.push(error.to_string()),
        }
    }
    let degraded: Vec<_> = hooks
        .iter()
        .filter(|hook| hook.state != HookState::Ok)
        .map(|hook| {
            format!(
                "{} ({}): without it: {}",
                hook.hook, hook.method, hook.gives
            )
        })
        .collect();
    let verdict = if !stops.is_empty() {
        Verdict::CannotRun(stops)
    } else if degraded.is_empty() {
        Verdict::Ok
    } else {
        Verdict::Degraded(degraded)
    };
    Ok(DoctorReport {
        verdict,
        host,
        hooks,
        blind: blind::spots(),
    })
}

/// Whose counters the ledger is compared with.
fn devices(interfaces: &Interfaces) -> (String, String) {
    let count = (interfaces.devices.len() as u64).saturating_add(interfaces.others);
    let hidden = match interfaces.hidden_namespaces {
        0 => String::new(),
        hidden => format!(
            "; those of {hidden} others are not: entering them takes CAP_SYS_ADMIN and CAP_SYS_PTRACE"
        ),
    };
    let compared = format!(
        "{count} network devices of {} network namespaces are compared with the kernel's counters{hidden}",
        interfaces.namespaces
    );
    ("ledger".into(), compared)
}
