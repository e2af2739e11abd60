//! The path that is told is the path of the file that was opened, however it was opened: compared with what the kernel
//! says of the descriptor, by inode.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::json;
use egress_tests::daemon::{Daemon, TELL_ALL};
use egress_tests::lab::generator;
use egress_tests::records::{number, of, text};
use egress_tests::require::ready;
use serde_json::Value;
use tempfile::TempDir;

/// Pairs of files in the race.
const PAIRS: u64 = 400;

#[test]
fn the_path_told_is_the_file_opened() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let dir = TempDir::with_prefix("egress-paths-")?;
    let dir = &dir.path().canonicalize()?;
    let daemon = Daemon::start(TELL_ALL)?;
    let kinds = kinds(dir)?;
    let race = race(dir)?;
    let records = daemon.stop()?.records;

    let (told, opened) = (told(&records, &kinds)?, files(&kinds)?);
    for file in opened {
        let wanted = text(file, "path").context("a path")?;
        let paths = number(file, "ino")
            .and_then(|ino| told.get(&ino))
            .with_context(|| format!("not told: {file}"))?;
        ensure!(
            paths.iter().all(|path| *path == wanted),
            "{file} is told as {paths:?}"
        );
    }

    let changed = number(&race, "changed").context("changed")?;
    ensure!(
        changed >= PAIRS / 10,
        "no race: the path changed under {changed} of {PAIRS} opens"
    );
    let told = self::told(&records, &race)?;
    for file in files(&race)? {
        ensure!(
            number(file, "ino").is_some_and(|ino| told.contains_key(&ino)),
            "not told: {file}"
        );
    }
    let below = dir.join("race");
    for (ino, path) in told
        .iter()
        .flat_map(|(ino, paths)| paths.iter().map(move |path| (ino, path)))
    {
        if Path::new(path).starts_with(&below) {
            ensure!(
                fs::metadata(path)?.ino() == *ino,
                "inode {ino} is told as {path}: the attacker's word"
            );
        }
    }
    Ok(())
}

/// Prepares and opens a file in each way; one of them on a mount that only the opener sees.
fn kinds(dir: &Path) -> Result<Value> {
    for folder in ["folder", "elsewhere", "mount"] {
        fs::create_dir(dir.join(folder))?;
    }
    let plain = [
        "absolute",
        "target",
        "first_name",
        "dirfd",
        "openat2",
        "open",
        "relative",
    ];
    for file in plain
        .into_iter()
        .chain(["folder/dotdot", "elsewhere/symlink_folder"])
    {
        fs::write(dir.join(file), file)?;
    }
    symlink("target", dir.join("symlink"))?;
    symlink("elsewhere", dir.join("link"))?;
    fs::hard_link(dir.join("first_name"), dir.join("hard_link"))?;
    let inside = "mount -t tmpfs tmpfs \"$1/mount\" && echo > \"$1/mount/mounted\" && exec \"$2\" open-kinds --dir \"$1\"";
    let mut command = std::process::Command::new("unshare");
    json(
        command
            .args(["--mount", "--", "sh", "-c", inside, "sh"])
            .arg(dir)
            .arg(generator()?),
    )
}

/// Prepares pairs of files and opens one of each by a path that changes all the time.
fn race(dir: &Path) -> Result<Value> {
    let dir = dir.join("race");
    for pair in 0..PAIRS {
        let pair = dir.join(format!("{pair:04}"));
        fs::create_dir_all(&pair)?;
        fs::write(pair.join("a"), "a")?;
        fs::write(pair.join("b"), "b")?;
    }
    let pairs = PAIRS.to_string();
    json(
        std::process::Command::new(generator()?)
            .args(["open-race", "--pairs", &pairs, "--dir"])
            .arg(dir),
    )
}

/// What the generator opened.
fn files(generated: &Value) -> Result<&Vec<Value>> {
    generated["files"].as_array().context("files")
}

/// Paths that the daemon told of the generator's process, by inode. `file.inode` is text in ECS.
fn told<'a>(records: &'a [Value], generated: &Value) -> Result<BTreeMap<u64, Vec<&'a str>>> {
    let pid = number(generated, "pid").context("a pid")?;
    let mut paths: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for file in of(records, "file").filter(|file| number(file, "process.pid") == Some(pid)) {
        let inode = text(file, "file.inode")
            .with_context(|| format!("no inode: {file}"))?
            .parse()?;
        let path = text(file, "file.path").with_context(|| format!("no path: {file}"))?;
        paths.entry(inode).or_default().push(path);
    }
    Ok(paths)
}
