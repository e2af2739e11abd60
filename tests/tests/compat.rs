//! 32-bit programs on a 64-bit kernel: their sends are counted, and their opens are told wherever the kernel lets us see
//! them. Where files are seen by the exit tracepoints only, `doctor` has to say that these are missed.
#![cfg(target_arch = "x86_64")]

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use egress_tests::command::json;
use egress_tests::daemon::{Daemon, TELL_ALL};
use egress_tests::lab::{Lab, SINK_V4};
use egress_tests::records::{flows_to, number, sum, text};
use egress_tests::require::ready;

const UPLOAD: u64 = 1_000_000;

#[test]
fn what_a_32_bit_program_does_is_seen() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let daemon = Daemon::start(TELL_ALL)?;
    let lab = Lab::new()?;
    let to = SocketAddr::new(SINK_V4, 9050);
    let _sink = lab.serve(&lab.sink, &["tcp-sink"], to)?;
    let file = lab.path("read by a 32-bit program");
    std::fs::write(&file, "data")?;
    let mut generator = lab.generator(&["compat", "--bytes", &UPLOAD.to_string(), "--to"])?;
    generator.arg(to.to_string()).arg("--file").arg(&file);
    let told = match json(&mut generator) {
        Err(error) if format!("{error:#}").contains("Function not implemented") => {
            println!("skipped: this kernel runs no 32-bit programs (CONFIG_IA32_EMULATION)");
            return daemon.stop().map(drop);
        }
        told => told?,
    };
    let run = daemon.stop()?;
    let total = sum(flows_to(&run.records, to));
    ensure!(total.app_bytes == UPLOAD, "{total:?} is told, of {told}");
    // The exit tracepoints do not run for 32-bit calls (Linux `ARCH_TRACE_IGNORE_COMPAT_SYSCALLS`).
    let seen_by_all = run
        .records
        .iter()
        .filter_map(|record| record["egress"]["hooks"].as_array())
        .flatten()
        .any(|hook| {
            text(hook, "method").is_some_and(|method| method.ends_with("file_open"))
                && text(hook, "state") == Some("ok")
        });
    let opened = run.records.iter().any(|record| {
        text(record, "file.path").is_some_and(|path| path == file.to_string_lossy())
            && number(record, "process.pid") == number(&told, "pid")
    });
    println!("@ compat open {opened}, expected {seen_by_all}");
    ensure!(
        opened == seen_by_all,
        "the open of a 32-bit program: told {opened}"
    );
    Ok(())
}
