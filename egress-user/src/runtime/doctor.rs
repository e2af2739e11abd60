//! What works here: attaches every hook for a moment, and says how that went.

use std::time::Duration;

use super::{RunError, blind};
use crate::config;
use crate::model::{DoctorReport, HookState, Interfaces, Verdict};
use crate::sensor::cgroups::CgroupRoot;
use crate::sensor::keep::left::{self, Found};
use crate::sensor::keep::pins::Pins;
use crate::sensor::{Sensor, clock, fields, guard, privilege};

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
    let mut degraded = Vec::new();
    pins(&mut host, &mut stops, &mut degraded);
    // Small maps: they live for a moment, and nobody else is to find them.
    (
        sensor.slots,
        sensor.process_ring_bytes,
        sensor.file_ring_bytes,
        sensor.pin,
    ) = (1024, 65_536, 65_536, false);
    let (mut hooks, mut methods, mut programs) = (Vec::new(), Vec::new(), Vec::new());
    if stops.is_empty() {
        match Sensor::start(&sensor, btf, Found::Nothing) {
            Ok(mut sensor) => {
                hooks = sensor.hooks().to_vec();
                methods = sensor.methods().to_vec();
                programs = sensor.costs();
                host.extend(sensor.measure().map(devices));
            }
            Err(error) => stops.push(error.to_string()),
        }
    }
    let missing = hooks.iter().filter(|hook| hook.state != HookState::Ok);
    degraded.extend(missing.map(|hook| {
        format!(
            "{} ({}): without it: {}",
            hook.hook, hook.method, hook.gives
        )
    }));
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

/// What is pinned, whose it is, and whether anything can be.
fn pins(host: &mut Vec<(String, String)>, stops: &mut Vec<String>, degraded: &mut Vec<String>) {
    let found = Pins::find();
    let programs = found.as_ref().map(Pins::programs).unwrap_or_default();
    if stops.is_empty() && guard::loaded(&programs) {
        host.push(("daemon".into(), "an egress daemon runs on this host".into()));
    }
    let Some(found) = found else {
        match Pins::place() {
            Ok(place) => host.push(("bpffs".into(), place)),
            Err(why) if stops.is_empty() => degraded.push(format!(
                "pins: {why}; without them: what a killed daemon had not told, and all that moves until it comes back"
            )),
            Err(_) => {}
        }
        return;
    };
    let what = format!(
        "{}: {} links, {} maps",
        found.root().display(),
        found.link_names().len(),
        found.map_names().len()
    );
    let whose = match left::look() {
        Err(error) => {
            stops.push(error.to_string());
            "not to be taken over".to_owned()
        }
        Ok(Found::Nothing | Found::Half(_)) => {
            "of a daemon that was not ready; the next one removes them".to_owned()
        }
        Ok(Found::Whole(left)) if left::alive(&left.state, &left.pins) => {
            format!("of a daemon that runs (pid {})", left.state.daemon_tgid)
        }
        Ok(Found::Whole(left)) => {
            let since = clock::boot_now().saturating_sub(left.state.heartbeat_ns);
            format!(
                "of a daemon that is gone since {} s: its hooks go on counting; `egress run` takes them over, \
                 `egress unload` removes them",
                Duration::from_nanos(since).as_secs()
            )
        }
    };
    host.push(("pins".into(), format!("{what}, {whose}")));
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
