//! The processes that were there before us.
//!
//! In: `/proc`. Out: one [`Event::Exec`] for each process, as if it had just executed what it runs, and what could not
//! be read. A process that ends while it is looked at is left out; the kernel side tells of those that begin.
//!
//! `/proc` must be that of the initial pid namespace, or the numbers are not those of kernel records. Namespaces, users
//! and devices are as the reader's namespaces show them.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use egress_common::records::EXEC_ARGS_MAX;

use super::cgroups::CgroupRoot;
use super::clock::boot_now;
use super::decode;
use super::gaps::Gaps;
use super::paths::split_args;
use super::pid_dir::{CGROUP, PidDir, SMALL, Stat, cgroup1_paths, cgroup2_path, ended, number};
use crate::model::{Event, Exec, FileRef, Identity, Observation, Origin, ProcessKey, Stdio, Text};

/// Every process, parents before their children, and what could not be read.
#[must_use]
pub fn processes(proc_root: &Path, cgroups: Option<&CgroupRoot>) -> (Vec<Observation>, Gaps) {
    let mut gaps = Gaps::default();
    let mut found = Vec::new();
    for tgid in PidDir::list(proc_root).unwrap_or_else(|error| {
        gaps.note("proc", format!("{}: {error}", proc_root.display()));
        Vec::new()
    }) {
        match PidDir::open(proc_root, tgid).and_then(|process| {
            Reader {
                process,
                cgroups,
                gaps: &mut gaps,
            }
            .exec()
        }) {
            Ok(Some(exec)) => found.push(exec),
            Ok(None) => {}
            Err(error) if ended(&error) => {}
            Err(error) => gaps.note("process", format!("pid {tgid}: {error}")),
        }
    }
    let at = boot_now();
    link_parents(&mut found);
    let observe = |exec| Observation {
        at,
        event: Event::Exec(Box::new(exec)),
    };
    (found.into_iter().map(observe).collect(), gaps)
}

/// Completes the parents' keys, of which only the pid was read, and puts parents first. A parent that is not there, or began
/// after its child (its pid was given anew in between), is not known: all zero.
fn link_parents(found: &mut [Exec]) {
    let starts: HashMap<u32, u64> = found
        .iter()
        .map(|exec| (exec.process.tgid, exec.process.start_ns))
        .collect();
    for exec in found.iter_mut() {
        exec.parent = match starts.get(&exec.parent.tgid) {
            Some(&start_ns) if start_ns <= exec.process.start_ns => ProcessKey {
                start_ns,
                ..exec.parent
            },
            _ => ProcessKey::default(),
        };
    }
    found.sort_by_key(|exec| (exec.process.start_ns, exec.process.tgid));
}

/// Reads one process.
struct Reader<'a> {
    process: PidDir,
    cgroups: Option<&'a CgroupRoot>,
    gaps: &'a mut Gaps,
}

impl Reader<'_> {
    /// `None` for a zombie: it has told its exit, and will do nothing more. The parent has no start yet.
    fn exec(mut self) -> io::Result<Option<Exec>> {
        let stat = self.process.stat()?;
        // A leader that ended before its threads is a zombie too, but its process lives.
        if matches!(stat.state, b'Z' | b'X') && stat.threads <= 1 {
            return Ok(None);
        }
        let executable = self.executable();
        let mut args = self.optional("cmdline", |process| {
            process.read("cmdline", EXEC_ARGS_MAX + 1)
        });
        let truncated = args.len() > EXEC_ARGS_MAX;
        args.truncate(EXEC_ARGS_MAX);
        let cgroup = self.optional("cgroup", |process| process.read("cgroup", CGROUP));
        let cgroup_path = cgroup2_path(&cgroup).unwrap_or_default();
        let cgroup_id = self
            .cgroups
            .and_then(|root| root.id_of(cgroup_path.as_bytes()));
        let exec = Exec {
            process: ProcessKey {
                tgid: self.process.tgid(),
                start_ns: stat.start_ns,
            },
            parent: ProcessKey {
                tgid: stat.parent,
                start_ns: 0,
            },
            origin: Origin::Proc,
            exec_id: None,
            executable,
            filename: Text::default(),
            interpreter: Text::default(),
            name: stat.name.clone(),
            args: split_args(&args),
            truncated,
            cwd: self.optional("cwd", |process| process.link("cwd")).into(),
            cgroup_id: cgroup_id.unwrap_or(0),
            cgroup_path,
            cgroup_v1: Some(cgroup1_paths(&cgroup)),
            netns: self.optional("netns", |process| process.namespace("net")),
            mntns: self.optional("mntns", |process| process.namespace("mnt")),
            pidns: self.optional("pidns", |process| process.namespace("pid")),
            stdio: [self.stdio("fd/0"), self.stdio("fd/1"), self.stdio("fd/2")],
            // Last, and not optional: a process that is still here was here all the time.
            identity: self.identity(&stat)?,
        };
        Ok(Some(exec))
    }

    /// The value, or nothing: counted, unless there is nothing (a kernel thread has no executable) or the process ended.
    fn optional<T: Default>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&PidDir) -> io::Result<T>,
    ) -> T {
        read(&self.process).unwrap_or_else(|error| {
            if !ended(&error) {
                self.gaps
                    .note(what, format!("pid {}: {error}", self.process.tgid()));
            }
            T::default()
        })
    }

    fn executable(&mut self) -> FileRef {
        let mut file = self.optional("exe", |process| process.file("exe"));
        let mut path = self.optional("exe", |process| process.link("exe"));
        // Only then did the kernel write this; else it is part of the name.
        if file.nlink == 0 && file.id.ino != 0 {
            path.truncate(path.strip_suffix(b" (deleted)").unwrap_or(&path).len());
        }
        file.path = path.into();
        file
    }

    fn stdio(&mut self, name: &str) -> Stdio {
        let file = self.optional("fd", |process| process.file(name));
        decode::stdio(file.id, file.mode)
    }

    fn identity(&mut self, stat: &Stat) -> io::Result<Identity> {
        let status = self.process.read("status", SMALL)?;
        let (uids, gids) = (ids(&status, b"Uid:"), ids(&status, b"Gid:"));
        let (Some([uid, euid]), Some([gid, _])) = (uids, gids) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "status: no Uid or Gid",
            ));
        };
        // Without CONFIG_AUDIT these files do not exist.
        let audit = |reader: &mut Self, name: &'static str| {
            reader
                .optional(name, |process| process.number(name).map(Some))
                .filter(|id| *id != u32::MAX)
        };
        Ok(Identity {
            uid,
            euid,
            gid,
            loginuid: audit(self, "loginuid"),
            session_id: audit(self, "sessionid"),
            tty: (stat.tty != 0).then_some(stat.tty),
        })
    }
}

/// Real and effective id in a line of `/proc/PID/status` (its first line holds the name, with newlines escaped).
fn ids(status: &[u8], line: &[u8]) -> Option<[u32; 2]> {
    let rest = status
        .split(|byte| *byte == b'\n')
        .find_map(|found| found.strip_prefix(line))?;
    let mut ids = rest
        .split(u8::is_ascii_whitespace)
        .filter(|id| !id.is_empty())
        .map(number);
    Some([ids.next()??, ids.next()??])
}

#[cfg(test)]
mod tests;
