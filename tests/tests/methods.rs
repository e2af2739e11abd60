//! Every method that this kernel offers for a feature is accepted by its verifier and attaches.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use egress_tests::daemon::{HostLock, binary};
use egress_tests::require::ready;
use serde_json::Value;

#[test]
fn every_method_that_the_kernel_offers_attaches() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let _host = HostLock::take()?;
    let report = doctor(&[])?;
    let list = |name: &str| {
        report
            .get(name)
            .and_then(Value::as_array)
            .cloned()
            .with_context(|| format!("no {name}: {report}"))
    };
    let hooks = list("hooks")?;
    for hook in &hooks {
        println!(
            "@ feature {} {} {}",
            word(hook, "hook"),
            word(hook, "state"),
            word(hook, "method")
        );
    }
    for program in list("programs")? {
        println!(
            "@ program {} {}",
            word(&program, "program"),
            program["verified_instructions"]
        );
    }
    let mut tried = 0;
    for offered in list("methods")? {
        let (hook, method) = (word(&offered, "hook"), word(&offered, "method"));
        if let Some(reason) = offered["reason"].as_str() {
            println!("@ method {hook} {method} absent {reason}");
            continue;
        }
        // The one that was chosen has been seen already.
        if hooks.iter().any(|chosen| {
            chosen["hook"] == hook
                && chosen["method"] == offered["places"]
                && chosen["state"] == "ok"
        }) {
            println!("@ method {hook} {method} ok");
            tried += 1;
            continue;
        }
        let forced = doctor(&["--method", &format!("{hook}={method}")])?;
        let hooks = forced["hooks"].as_array().context("hooks")?;
        let status = hooks
            .iter()
            .find(|status| status["hook"] == hook)
            .with_context(|| format!("nothing of {hook}: {forced}"))?;
        // Security policy can refuse what a kernel offers: that has to be said, with the reason, and another taken.
        let refused = status["reason"].as_str().unwrap_or_default();
        println!(
            "@ method {hook} {method} {} {refused}",
            word(status, "state")
        );
        let allowed = status["state"] == "ok" || refused.contains("Operation not permitted");
        ensure!(allowed, "{hook} by {method}: {status}");
        tried += 1;
    }
    ensure!(tried > 10, "{tried} methods were tried");
    Ok(())
}

#[test]
fn a_method_that_does_not_exist_is_refused_with_those_that_do() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let _host = HostLock::take()?;
    for (wish, known) in [
        ("files=magic", "lsm, fentry, tracepoint"),
        ("file=lsm", "send, recv"),
    ] {
        let report = doctor(&["--method", wish])?;
        let text = report["verdict"].to_string();
        ensure!(text.contains(known), "{wish}: {text}");
    }
    Ok(())
}

/// What `egress doctor --json` tells.
fn doctor(more: &[&str]) -> Result<Value> {
    let output = Command::new(binary()?)
        .args(["doctor", "--json"])
        .args(more)
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{}: {text} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn word<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or("?")
}
