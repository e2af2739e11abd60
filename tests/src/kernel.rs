//! What is in the kernel because of us.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command::json;

/// The eBPF programs whose names begin with `egress_`, by id.
///
/// # Errors
/// When `bpftool` fails.
pub fn programs() -> Result<BTreeMap<u64, String>> {
    let listing = json(Command::new("bpftool").args(["--json", "prog", "show"]))?;
    let programs = listing
        .as_array()
        .context("bpftool's list")?
        .iter()
        .filter_map(|program| {
            let name = program.get("name").and_then(Value::as_str)?;
            let id = program.get("id").and_then(Value::as_u64)?;
            name.starts_with("egress_").then(|| (id, name.to_owned()))
        });
    Ok(programs.collect())
}

/// The programs that were not there `before`. The kernel frees a program some moments after its last user is gone (RCU),
/// so this waits up to ten seconds for them to go: a busy machine takes its time.
///
/// # Errors
/// When `bpftool` fails.
pub fn left(before: &BTreeMap<u64, String>) -> Result<BTreeMap<u64, String>> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let mut now = programs()?;
        now.retain(|id, _| !before.contains_key(id));
        if now.is_empty() || Instant::now() > end {
            return Ok(now);
        }
        sleep(Duration::from_millis(50));
    }
}

/// Everything below `egress/` on the bpf file systems, sorted; and those file systems that were mounted for it.
///
/// # Errors
/// When they cannot be listed.
pub fn pinned() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in std::fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(hyphen) = fields.iter().position(|field| *field == "-") else {
            continue;
        };
        if fields.get(hyphen + 1) != Some(&"bpf") {
            continue;
        }
        let place = fields.get(4).context("a mount point")?;
        if fields.get(hyphen + 2) == Some(&"egress") {
            found.push(format!("mount {place}"));
        }
        let root = std::path::Path::new(place).join("egress");
        for directory in ["", "links", "maps"] {
            let Ok(entries) = std::fs::read_dir(root.join(directory)) else {
                continue;
            };
            for entry in entries {
                found.push(entry?.path().display().to_string());
            }
        }
    }
    found.sort();
    Ok(found)
}
