//! Many short processes.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// Runs this program with `args`, `count` times, one after the other. Gives what each printed, with its life from
/// before it was spawned until it was reaped.
pub fn repeat(count: u32, args: &[String]) -> Result<Value> {
    let exe = std::env::current_exe()?;
    let mut children = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let output = Command::new(&exe)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        let life = u64::try_from(begun.elapsed().as_micros())?;
        ensure!(output.status.success(), "{args:?}: {}", output.status);
        let mut child: Value = serde_json::from_slice(&output.stdout).context("a child's line")?;
        child["life_us"] = life.into();
        children.push(child);
    }
    Ok(json!({ "pid": std::process::id(), "children": children }))
}
