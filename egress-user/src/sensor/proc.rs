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
use super::pid_dir::{PidDir, SMALL, Stat, cgroup2_path, ended, number};
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
        let cgroup = self.optional("cgroup", |process| process.read("cgroup", SMALL));
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
            executable,
            filename: Text::default(),
            interpreter: Text::default(),
            name: stat.name.clone(),
            args: split_args(&args),
            truncated,
            cwd: self.optional("cwd", |process| process.link("cwd")).into(),
            cgroup_id: cgroup_id.unwrap_or(0),
            cgroup_path,
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
mod tests {
    use std::ffi::OsStr;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Child, Command, Stdio as Io};

    use super::*;
    use crate::model::FileId;

    /// A process that is ended at the end.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill().and_then(|()| self.0.wait());
        }
    }

    /// Starts a command; it runs what it was told to when this returns. A child of another test that has not yet reached
    /// its exec may still hold our executable open for writing: then once more.
    fn start(command: &mut Command) -> Running {
        loop {
            match command.spawn() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now()
                }
                child => return Running(child.expect("starts")),
            }
        }
    }

    fn seed() -> Vec<Exec> {
        let root = CgroupRoot::find().expect("this host has cgroup2");
        let (observations, gaps) = processes(Path::new("/proc"), Some(&root));
        // A security policy may hide parts of some process (of pid 1, say) even from root, but not that it is there.
        let whole = |what| what != "proc" && what != "process";
        assert!(gaps.iter().all(|(what, _)| whole(what)), "{gaps}");
        let execs = observations
            .into_iter()
            .map(|observation| match observation.event {
                Event::Exec(exec) => *exec,
                other => panic!("not an exec: {other:?}"),
            });
        execs.collect()
    }

    fn find(execs: &[Exec], tgid: u32) -> &Exec {
        execs
            .iter()
            .find(|exec| exec.process.tgid == tgid)
            .expect("seeded")
    }

    #[test]
    fn this_process_is_seeded_whole() {
        let execs = seed();
        let own = find(&execs, std::process::id());
        let path = std::env::current_exe().expect("has one");
        let meta = std::fs::metadata(&path).expect("it is there");
        assert_eq!(own.executable.path.as_path(), path);
        assert_eq!(
            (own.executable.id.ino, own.executable.size),
            (meta.ino(), meta.len())
        );
        assert_eq!(
            (own.executable.mode, u64::from(own.executable.nlink)),
            (meta.mode(), meta.nlink())
        );
        let args: Vec<_> = std::env::args_os().collect();
        assert_eq!(
            own.args.iter().map(Text::as_bytes).collect::<Vec<_>>(),
            args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>()
        );
        assert_eq!(own.cwd.as_path(), std::env::current_dir().expect("has one"));
        assert_eq!(own.origin, Origin::Proc);
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(
            (own.identity.uid, own.identity.euid),
            (uid, rustix::process::geteuid().as_raw())
        );
        let namespace = |kind| {
            std::fs::metadata(format!("/proc/self/ns/{kind}"))
                .expect("reads")
                .ino()
        };
        let namespaces = [own.netns, own.mntns, own.pidns].map(u64::from);
        assert_eq!(namespaces, ["net", "mnt", "pid"].map(namespace));
        assert!(own.cgroup_id > 0 && own.cgroup_path.as_bytes().starts_with(b"/"));
        let parent = find(&execs, std::os::unix::process::parent_id());
        assert_eq!(own.parent, parent.process);
        assert!(parent.process.start_ns > 0);
    }

    #[test]
    fn parents_come_first_and_kernel_threads_have_a_name() {
        let execs = seed();
        for (position, exec) in execs.iter().enumerate() {
            if exec.parent != ProcessKey::default() {
                assert!(
                    execs[..position]
                        .iter()
                        .any(|earlier| earlier.process == exec.parent),
                    "{exec:?}"
                );
            }
        }
        let kthreadd = find(&execs, 2);
        assert_eq!(kthreadd.name.as_bytes(), b"kthreadd");
        assert!(kthreadd.executable.path.is_empty() && kthreadd.args.is_empty());
        assert_eq!(kthreadd.executable, FileRef::default());
    }

    #[test]
    fn what_a_child_is_given_is_seen() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let meta = file.as_file().metadata().expect("it is there");
        let hostile = OsStr::from_bytes(b"\xff \x1b[2J\n");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "read x"])
            .arg(hostile)
            .arg("")
            .current_dir("/usr");
        let child = start(
            command
                .stdin(Io::piped())
                .stdout(file.reopen().expect("opens"))
                .stderr(Io::null()),
        );
        let pipe = child.0.stdin.as_ref().expect("piped").as_raw_fd();
        let ino = std::fs::metadata(format!("/proc/self/fd/{pipe}"))
            .expect("reads")
            .ino();
        let execs = seed();
        let found = find(&execs, child.0.id());
        assert_eq!(
            found.args.iter().map(Text::as_bytes).collect::<Vec<_>>(),
            [b"/bin/sh", &b"-c"[..], b"read x", hostile.as_bytes(), b""]
        );
        assert_eq!(
            (found.cwd.as_bytes(), found.name.as_bytes()),
            (&b"/usr"[..], &b"sh"[..])
        );
        assert_eq!(found.parent.tgid, std::process::id());
        assert!(
            matches!(found.stdio[0], Stdio::Pipe { ino: seen, .. } if seen == ino),
            "{:?}",
            found.stdio
        );
        assert!(
            matches!(found.stdio[1], Stdio::File(FileId { ino, .. }) if ino == meta.ino()),
            "{:?}",
            found.stdio
        );
        assert_eq!(found.stdio[2], Stdio::Device);
    }

    #[test]
    fn a_deleted_executable_keeps_its_name() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (gone, odd) = (
            directory.path().join("gone"),
            directory.path().join("odd (deleted)"),
        );
        for path in [&gone, &odd] {
            std::fs::copy("/bin/sleep", path).expect("copies");
        }
        let (deleted, present) = (
            start(Command::new(&gone).arg("60")),
            start(Command::new(&odd).arg("60")),
        );
        std::fs::remove_file(&gone).expect("removes");
        let execs = seed();
        let found = &find(&execs, deleted.0.id()).executable;
        assert_eq!(found.path.as_path(), gone);
        assert!(found.is_deleted() && !found.is_memfd());
        let found = &find(&execs, present.0.id()).executable;
        assert_eq!(found.path.as_path(), odd);
        assert!(!found.is_deleted());
    }

    #[test]
    fn a_memfd_is_known_as_one() {
        let memfd =
            rustix::fs::memfd_create("payload", rustix::fs::MemfdFlags::CLOEXEC).expect("makes");
        let mut file = std::fs::File::from(memfd);
        io::copy(
            &mut std::fs::File::open("/bin/sleep").expect("opens"),
            &mut file,
        )
        .expect("copies");
        // Not writable any more, or exec fails with ETXTBSY.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let read_only = std::fs::File::open(&path).expect("opens");
        drop(file);
        let running =
            start(Command::new(format!("/proc/self/fd/{}", read_only.as_raw_fd())).arg("60"));
        let execs = seed();
        let found = &find(&execs, running.0.id()).executable;
        assert_eq!(found.path.as_bytes(), b"/memfd:payload");
        assert!(found.is_memfd() && !found.is_deleted());
    }

    #[test]
    fn a_zombie_is_left_out() {
        let mut zombie = start(Command::new("true").stdin(Io::null()));
        let directory = PidDir::open(Path::new("/proc"), zombie.0.id()).expect("opens");
        while directory.stat().expect("not waited for").state != b'Z' {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(seed().iter().all(|exec| exec.process.tgid != zombie.0.id()));
        zombie.0.wait().expect("ends");
    }

    #[test]
    fn without_proc_the_gap_is_told() {
        let (observations, gaps) = processes(Path::new("/nonexistent"), None);
        assert!(observations.is_empty());
        assert!(
            gaps.to_string()
                .starts_with("proc: 1 times, first: /nonexistent:"),
            "{gaps}"
        );
    }

    #[test]
    fn ids_are_read_by_line() {
        let status = b"Name:\tUid:\\n\nUid:\t1000\t0\t0\t0\nGid:\t5\t6\t6\t6\nGroups:\t\n";
        assert_eq!(ids(status, b"Uid:"), Some([1000, 0]));
        assert_eq!(ids(status, b"Gid:"), Some([5, 6]));
        assert_eq!(ids(status, b"Groups:"), None);
        assert_eq!(ids(b"", b"Uid:"), None);
    }
}
