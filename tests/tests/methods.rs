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
    tell_programs(&report);
    let mut tried = 0;
    for offered in list("methods")? {
        let (hook, method) = (word(&offered, "hook"), word(&offered, "method"));
        if let Some(reason) = offered["reason"].as_str() {
            println!("@ method {hook} {method} absent {reason}");
            continue;
        }
        let places: Vec<_> = word(&offered, "places").split(", ").collect();
        // The one that was chosen has been seen already.
        if attached(&hooks, &places).is_ok() {
            println!("@ method {hook} {method} ok");
            tried += 1;
            continue;
        }
        let forced = doctor(&["--method", &format!("{hook}={method}")])?;
        tell_programs(&forced);
        // Security policy can refuse what a kernel offers: that has to be said, with the reason.
        let verdict = forced["verdict"].to_string();
        let forced = forced["hooks"].as_array().cloned().unwrap_or_default();
        match attached(&forced, &places) {
            Ok(()) => println!("@ method {hook} {method} ok"),
            Err(why) => {
                println!("@ method {hook} {method} refused {why}");
                let policy = format!("{why} {verdict}").contains("Operation not permitted");
                ensure!(policy, "{hook} by {method}: {why}; {verdict}");
            }
        }
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

/// Whether hooks are attached at all these places; else what is said of the first that is not.
fn attached(hooks: &[Value], places: &[&str]) -> std::result::Result<(), String> {
    places.iter().try_for_each(|place| {
        let hook = hooks.iter().find(|hook| word(hook, "method") == *place);
        match hook {
            Some(hook) if hook["state"] == "ok" => Ok(()),
            Some(hook) => Err(word(hook, "reason").to_owned()),
            None => Err(format!("nothing is said of {place}")),
        }
    })
}

/// What each program cost its verifier.
fn tell_programs(report: &Value) {
    for program in report["programs"].as_array().into_iter().flatten() {
        println!(
            "@ program {} {}",
            word(program, "program"),
            program["verified_instructions"]
        );
    }
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
