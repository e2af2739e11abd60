//! What is in the kernel because of us.

use std::collections::BTreeMap;
use std::process::Command;

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
