//! A container, as far as the kernel knows one: a cgroup.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use egress_tests::command::run;
use egress_tests::lab::Lab;
use egress_tests::wait_for;

use crate::servers::resolving;

/// A cgroup with a name as container runtimes give it; removed when dropped.
pub struct Container(pub PathBuf);

impl Container {
    pub fn new(digit: char) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let root = mounts
            .lines()
            .filter(|line| line.contains(" - cgroup2 "))
            .find_map(|line| line.split(' ').nth(4))
            .context("no cgroup2 mount")?;
        let id = String::from(digit).repeat(64);
        let path = Path::new(root).join(format!("egress-tests-{}", std::process::id()));
        let container = Self(path.join(id));
        fs::create_dir_all(&container.0)?;
        Ok(container)
    }

    /// `curl` in it, in the source's network namespace.
    pub fn get(&self, lab: &Lab, resolver: &Path, url: &str) -> Result<()> {
        let enter = "echo $$ > \"$0\" && exec \"$@\"";
        let mut command = resolving(&lab.source, resolver, "sh", &["-c", enter]);
        command.arg(self.0.join("cgroup.procs"));
        command.args([
            "curl",
            "-sS",
            "-4",
            "--max-time",
            "20",
            "-o",
            "/dev/null",
            url,
        ]);
        run(&mut command).map(drop)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A process leaves its cgroup some moments after it was waited for.
        let _ = wait_for("the cgroup to be empty", Duration::from_secs(5), || {
            Ok(fs::remove_dir(&self.0).ok())
        });
        // The parent goes with the last.
        let _ = self.0.parent().map(fs::remove_dir);
    }
}
