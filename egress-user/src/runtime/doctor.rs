//! What works here: attaches every hook for a moment, and says how that went.

use super::{RunError, blind};
use crate::config;
use crate::model::{DoctorReport, HookState, Verdict};
use crate::sensor::cgroups::CgroupRoot;
use crate::sensor::{Sensor, fields, guard, privilege};

/// Finds out what works here. Nothing stays attached.
///
/// # Errors
/// None today: what is wrong is in the report.
pub fn doctor(mut sensor: config::Sensor) -> Result<DoctorReport, RunError> {
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
    let btf = sensor.btf.clone();
    let btf = btf.as_path();
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
    (
        sensor.slots,
        sensor.process_ring_bytes,
        sensor.file_ring_bytes,
    ) = (1024, 65_536, 65_536);
    let (mut hooks, mut methods, mut programs) = (Vec::new(), Vec::new(), Vec::new());
    if stops.is_empty() {
        match Sensor::start(&sensor, btf) {
            Ok(sensor) => {
                hooks = sensor.hooks().to_vec();
                methods = sensor.methods().to_vec();
                programs = sensor.costs();
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
        methods,
        programs,
        blind: blind::spots(),
    })
}
