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
                std::thread::yield_now();
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
    let running = start(Command::new(format!("/proc/self/fd/{}", read_only.as_raw_fd())).arg("60"));
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
