//! `egress doctor` says what works here, and leaves nothing behind.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use egress_tests::daemon::{Daemon, HostLock, TELL_ALL, binary};
use egress_tests::kernel::{left, pinned, programs};
use egress_tests::require::ready;
use serde_json::Value;

#[test]
fn doctor_tells_each_hook_and_leaves_none() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let _host = HostLock::take()?;
    let before = programs()?;
    let output = Command::new(binary()?)
        .args(["doctor", "--json"])
        .stdin(Stdio::null())
        .output()?;
    let (text, stderr) = (
        String::from_utf8(output.stdout)?,
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}: {stderr}",
        output.status
    );
    let report: Value = serde_json::from_str(&text).context("JSON")?;
    let hooks = report
        .get("hooks")
        .and_then(Value::as_array)
        .with_context(|| format!("no hooks: {text}"))?;
    for needed in ["send", "wire"] {
        let hook = hooks.iter().find(|hook| hook["hook"] == needed);
        let hook = hook.with_context(|| format!("nothing of {needed}: {text}"))?;
        ensure!(hook["state"] == "ok", "{hook}");
    }
    let degraded = hooks.iter().any(|hook| hook["state"] != "ok");
    ensure!(
        !degraded || output.status.code() == Some(1),
        "a hook is missing, and the exit code is 0: {text}"
    );
    let left = left(&before)?;
    ensure!(left.is_empty(), "left in the kernel: {left:?}");
    let pins = pinned()?;
    ensure!(pins.is_empty(), "pinned: {pins:?}");
    Ok(())
}

/// Alive, killed, gone: it says whose the pins are, and takes nothing away.
#[test]
fn doctor_tells_whose_the_pins_are() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let says = |words: &str| -> Result<()> {
        let output = Command::new(binary()?)
            .arg("doctor")
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(text.contains(words), "nothing of {words:?}: {text}");
        ensure!(matches!(output.status.code(), Some(0 | 1)), "{text}");
        Ok(())
    };
    let daemon = Daemon::start(TELL_ALL)?;
    let pins = pinned()?;
    let pid = daemon.pid().context("a pid")?;
    says(&format!("of a daemon that runs (pid {pid})"))?;
    let killed = daemon.kill()?;
    says("its hooks go on counting; `egress run` takes them over")?;
    ensure!(pinned()? == pins, "doctor changed the pins");
    killed.unload()?;
    says("bpffs")?;
    Ok(())
}

#[test]
fn doctor_without_rights_says_that_it_cannot_run() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    // A copy: nobody may not be allowed where the built one lies.
    let dir = tempfile::TempDir::with_prefix("egress-doctor-")?;
    std::fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let copy = dir.path().join("egress");
    std::fs::copy(binary()?, &copy)?;
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--",
        ])
        .arg(copy)
        .arg("doctor");
    let output = command.stdin(Stdio::null()).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.code() == Some(2), "{}: {said}", output.status);
    ensure!(
        said.contains("CAP_BPF") || said.contains("root"),
        "nothing of the rights: {said}"
    );
    Ok(())
}
