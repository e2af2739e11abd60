//! Disguise: an executable that hides.

use crate::model::{Process, Signal, SignalKind, Text};

/// From here on it holds.
const THRESHOLD: f64 = 0.5;
/// `comm` holds 15 bytes and a NUL (`TASK_COMM_LEN`, Linux `include/linux/sched.h`).
const COMM: usize = 15;
/// Where anybody can put a file.
const WRITABLE: [&[u8]; 4] = [b"/tmp/", b"/var/tmp/", b"/dev/shm/", b"/run/shm/"];

/// A kernel thread's look 0.9; memfd 1; deleted before it was started 0.9; in a world-writable place 0.8; a name that
/// is neither the executable's nor the script's nor the one it was called by 0.6. The largest counts.
/// A deleted executable of a process that was there before us is 0.3: a package upgrade leaves such processes behind.
pub(in crate::detect) fn judge(process: &Process) -> Signal {
    let file = &process.executable;
    let path = file.path.as_bytes();
    let parts = [
        (
            file.is_memfd(),
            1.0,
            "runs from memory, from a file that never had a path",
        ),
        (
            kernel_thread_look(process),
            0.9,
            "looks like a kernel thread, and runs a file",
        ),
        (
            file.is_deleted() && !process.seeded,
            0.9,
            "was deleted before it was started",
        ),
        (
            WRITABLE.iter().any(|place| path.starts_with(place)),
            0.8,
            "lies where anybody can write",
        ),
        (
            foreign_name(process),
            0.6,
            "runs under a name that is not its own",
        ),
        (file.is_deleted(), 0.3, "was deleted since it was started"),
    ];
    let found = parts.iter().find(|(holds, ..)| *holds);
    let value = found.map_or(0.0, |(_, weight, _)| *weight);
    Signal {
        kind: SignalKind::Disguise,
        holds: value >= THRESHOLD,
        score: value,
        value,
        threshold: THRESHOLD,
        baseline: None,
        sentence: match found {
            Some((_, _, what)) => format!(
                "The executable {} (named {}) {what}.",
                file.path, process.name
            ),
            None => format!("The executable {} does not hide.", file.path),
        },
    }
}

/// `[kworker/0:1]` in `ps` is an empty command line; with a file behind it somebody wrote that.
fn kernel_thread_look(process: &Process) -> bool {
    let calls_itself = process
        .args
        .first()
        .is_some_and(|arg| arg.as_bytes().starts_with(b"["));
    let named = [&b"kworker/"[..], b"ksoftirqd/", b"migration/", b"kthreadd"]
        .iter()
        .any(|name| process.name.as_bytes().starts_with(name));
    let own = process.executable.path.file_name().starts_with(b"[")
        || process
            .args
            .first()
            .is_some_and(|arg| arg.as_bytes() == b"[");
    !process.executable.path.is_empty() && !own && (calls_itself || named)
}

/// The kernel names a process after the file it was asked to run: the executable, the script, or a link to either
/// (`sh` for `dash`), which argv 0 tells.
fn foreign_name(process: &Process) -> bool {
    let name = process.name.as_bytes();
    if name.is_empty() || process.executable.path.is_empty() {
        return false;
    }
    let script = process
        .script
        .as_ref()
        .map(|script| script.path.file_name());
    let called = process
        .args
        .first()
        .map(Text::file_name)
        .map(|arg| arg.strip_prefix(b"-").unwrap_or(arg));
    let known = [Some(process.executable.path.file_name()), script, called];
    !known.into_iter().flatten().any(|known| {
        let cut = known.get(..COMM).unwrap_or(known);
        // `python3` for `python3.11`, `perl5.36` for `perl`.
        !cut.is_empty() && (cut.starts_with(name) || name.starts_with(cut))
    })
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::detect::tests::process;
    use crate::model::{Process, Text};

    fn with(path: &str, name: &str, args: &[&str]) -> Process {
        let mut process = process(1, 1, path);
        process.name = name.into();
        process.args = args.iter().map(|arg| Text::from(*arg)).collect();
        process
    }

    #[test]
    fn honest_names() {
        for (path, name, arg) in [
            ("/usr/bin/curl", "curl", "curl"),
            ("/usr/bin/dash", "sh", "/bin/sh"),
            ("/usr/bin/bash", "bash", "-bash"),
            ("/usr/bin/python3.11", "python3", "python3"),
            ("/usr/bin/a-very-long-name-indeed", "a-very-long-nam", "x"),
            ("/usr/bin/[", "[", "["),
            ("", "", ""),
        ] {
            assert!(!judge(&with(path, name, &[arg])).holds, "{path} {name}");
        }
    }

    #[test]
    fn a_script_names_its_interpreter() {
        let mut process = with("/usr/bin/python3.11", "backup.py", &["/usr/bin/python3"]);
        assert!(judge(&process).holds);
        process.script = Some(std::sync::Arc::new(crate::model::Script {
            path: "/opt/backup.py".into(),
            file: None,
            sha256: None,
        }));
        assert!(!judge(&process).holds);
    }

    #[test]
    fn hiding() {
        assert!(judge(&with("/memfd:x", "x", &["x"])).score > 0.99);
        assert!(judge(&with("/dev/shm/.x", ".x", &["./.x"])).holds);
        assert!(judge(&with("/opt/x", "x", &["[kworker/0:1]"])).holds);
        assert!(judge(&with("/opt/x", "kworker/0:1", &["kworker/0:1"])).holds);
        assert!(judge(&with("/opt/x", "sshd", &["x"])).holds);
    }

    #[test]
    fn an_upgrade_is_not_hiding() {
        let mut process = with("/usr/sbin/daemon", "daemon", &["daemon"]);
        process.executable.nlink = 0;
        assert!(judge(&process).holds);
        process.seeded = true;
        assert!(!judge(&process).holds);
    }
}
