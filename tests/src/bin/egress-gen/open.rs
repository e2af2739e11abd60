//! Opens files; what was opened is told by the descriptor: `fstat`, and the path that the kernel gives it in `/proc`.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use serde_json::{Value, json};

use crate::raw;

/// How long a race is tried.
const RACE_FOR: Duration = Duration::from_secs(10);

/// Opens the files that the test has prepared in `dir`, each once.
pub fn kinds(dir: &Path) -> Result<Value> {
    let (read, none) = (OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let at = |kind: &'static str, path: &Path| -> Result<Value> {
        let fd =
            openat(CWD, path, read, none).with_context(|| format!("{kind}: {}", path.display()))?;
        opened(kind, &fd)
    };
    let folder = openat(CWD, dir, read | OFlags::DIRECTORY, none)?;
    let mut files = vec![
        at("absolute", &dir.join("absolute"))?,
        at("dotdot", &dir.join("folder/../folder//./dotdot"))?,
        at("symlink", &dir.join("symlink"))?,
        at("symlink_folder", &dir.join("link/symlink_folder"))?,
        at("hard_link", &dir.join("hard_link"))?,
        at("mounted", &dir.join("mount/mounted"))?,
        opened("dirfd", &openat(&folder, "dirfd", read, none)?)?,
        opened(
            "openat2",
            &openat2(&folder, "openat2", read, none, ResolveFlags::BENEATH)?,
        )?,
        opened(
            "create",
            &openat(
                &folder,
                "create",
                OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC,
                Mode::RUSR,
            )?,
        )?,
    ];
    #[cfg(target_arch = "x86_64")]
    {
        let path = |name: &str| CString::new(dir.join(name).as_os_str().as_bytes());
        files.push(opened("open", &raw::open(&path("open")?)?)?);
        files.push(opened("creat", &raw::creat(&path("creat")?)?)?);
    }
    std::env::set_current_dir(dir.join("folder"))?;
    files.push(at("relative", Path::new("../relative"))?);
    Ok(json!({ "pid": std::process::id(), "files": files }))
}

/// Opens `dir/NNNN/a` or `dir/NNNN/b` for each number below `pairs`, by a path in whose last byte another thread writes
/// `a` and `b` as fast as it can: what a hook reads there after the call is often not what the kernel read.
pub fn race(dir: &Path, pairs: u32) -> Result<Value> {
    let text = CString::new(dir.join("0000/a").as_os_str().as_bytes())?;
    let path: Vec<AtomicU8> = text
        .as_bytes_with_nul()
        .iter()
        .map(|byte| AtomicU8::new(*byte))
        .collect();
    let letter = path.len() - 2;
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let end = Instant::now() + RACE_FOR;
    let (mut files, mut changed) = (Vec::new(), 0);
    let raced = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                path[letter].store(b'a', Ordering::Relaxed);
                path[letter].store(b'b', Ordering::Relaxed);
                begun.store(true, Ordering::Relaxed);
            }
        });
        while !begun.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        // A busy machine may run the two threads by turns: then no path changes under an open, and it is tried again.
        let mut round = || -> Result<bool> {
            files.clear();
            changed = 0;
            for pair in 0..pairs {
                for (byte, digit) in path[letter - 5..].iter().zip(format!("{pair:04}").bytes()) {
                    byte.store(digit, Ordering::Relaxed);
                }
                let fd = raw::open_shared(&path);
                let after = path[letter].load(Ordering::Relaxed);
                let file = opened("race", &fd.with_context(|| format!("pair {pair}"))?)?;
                let before = file["path"].as_str().unwrap_or_default();
                changed += u32::from(!before.ends_with(char::from(after)));
                files.push(file);
            }
            Ok(changed >= pairs / 4)
        };
        let raced = loop {
            match round() {
                Ok(false) if Instant::now() < end => {}
                other => break other,
            }
        };
        done.store(true, Ordering::Relaxed);
        raced
    });
    raced?;
    ensure!(
        files.len() == pairs as usize,
        "opened {} of {pairs}",
        files.len()
    );
    Ok(json!({ "pid": std::process::id(), "files": files, "changed": changed }))
}

fn opened(kind: &str, fd: &impl AsFd) -> Result<Value> {
    let fd = fd.as_fd();
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    let path = path.to_str().context("a path that is not UTF-8")?;
    Ok(json!({ "kind": kind, "path": path, "ino": fstat(fd)?.st_ino }))
}
