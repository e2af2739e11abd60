//! Jobs: what runs again and again.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::interpreter::{Given, given, is_shell};
use super::scheduler;
use super::script::hex;
use super::table::{Entry, Table};
use crate::model::{Job, JobId, Process, ProcessKey, Scheduler, Script, Text};

/// Works out the job of a process.
///
/// *Script*: the nearest of the process' own image, its earlier images (`sh -c` often replaces itself by its last
/// command), and those of whoever made it; an interactive shell, or a scheduler, ends the search.
///
/// *Scheduler*: the nearest cron, at or CI runner that made it; else its container; else its systemd unit, unless
/// people log in through that; else a terminal; else none. A terminal comes last among them, because a program
/// can give itself one (`script -c`), but no program can leave its cgroup without privilege.
pub(super) fn describe(table: &Table, key: ProcessKey) -> Option<Job> {
    let entry = table.get(key)?;
    let process = &entry.process;
    let mut script = None;
    let mut script_ended = false;
    let mut above = None;
    let mut command: Option<&Process> = None;
    let images = table.line(key).flat_map(|(_, entry)| entry.images());
    for (place, image) in images.enumerate() {
        // Not the process itself: the scheduler of a cron daemon is not cron.
        if place > 0
            && let Some(found) = scheduler::of(image)
        {
            above = Some(found);
            break;
        }
        script_ended |= is_interactive_shell(image);
        if script.is_none() && !script_ended {
            script.clone_from(&image.script);
        }
        if command_text(image).is_some() {
            command = Some(image);
        }
    }
    if let Some(Scheduler::Cron(entry)) = &mut above {
        *entry = command
            .and_then(command_text)
            .map(|text| Text::from(text).to_string());
    }
    let scheduler = above.unwrap_or_else(|| by_place(table, key, entry));
    let executable = process.executable.path.clone();
    let uid = process.identity.uid;
    let id = id(&executable, script.as_deref(), &scheduler, uid);
    Some(Job {
        id,
        executable,
        script,
        scheduler,
        uid,
        interactive: process.identity.tty.is_some(),
    })
}

/// The text behind `-c`.
fn command_text(image: &Process) -> Option<&[u8]> {
    let name = image.executable.path.file_name();
    match given(name, &image.args) {
        Some(Given::Code(text)) if is_shell(name, &image.args) => Some(text),
        _ => None,
    }
}

/// A shell that a person types into: on a terminal, and given nothing to run.
fn is_interactive_shell(image: &Process) -> bool {
    let name = image.executable.path.file_name();
    image.script.is_none()
        && image.identity.tty.is_some()
        && is_shell(name, &image.args)
        && given(name, &image.args) == Some(Given::Stdin)
}

/// By container, unit or terminal.
fn by_place(table: &Table, key: ProcessKey, entry: &Entry) -> Scheduler {
    let placed = table
        .line(key)
        .map(|(_, entry)| &entry.process)
        .find(|process| !process.cgroup_path.is_empty());
    if let Some(container) = placed.and_then(|process| process.container.as_ref()) {
        return Scheduler::Container(container.id.clone());
    }
    let terminal = entry.process.identity.tty.is_some();
    match placed.and_then(|process| process.unit.as_ref()) {
        Some(unit) if !(terminal && scheduler::is_login(unit)) => Scheduler::Systemd(unit.clone()),
        _ if terminal => Scheduler::Interactive,
        _ => Scheduler::None,
    }
}

/// The first 16 hexadecimal digits of a SHA-256 over these parts, each behind its length (8 bytes, little endian):
///
/// 1. `egress job 1`, the version of this list,
/// 2. path of the executable (empty when not known),
/// 3. path of the script (empty without one),
/// 4. for a script without a path (`sh -c`): SHA-256 of its text, in hexadecimal; else empty,
/// 5. kind of the scheduler: `cron`, `at`, `systemd`, `ci`, `container`, `interactive` or `none`,
/// 6. the cron entry, systemd unit or CI runner; empty for the others,
/// 7. uid, 4 bytes, little endian.
///
/// Not in it: what changes from run to run (pid, time, arguments, container id: each run of a Kubernetes `CronJob`
/// has another one), and the hash of a script that has a path: a script that changes itself would be a new job
/// each time and never be seen to repeat, and a script that cannot be read now and then would be two jobs. The hash is
/// in [`Job::script`] for whoever binds trust to it.
fn id(executable: &Text, script: Option<&Script>, scheduler: &Scheduler, uid: u32) -> JobId {
    let path = script.map_or(&b""[..], |script| script.path.as_bytes());
    let text = script
        .filter(|script| script.path.is_empty())
        .and_then(|script| script.sha256.as_deref())
        .unwrap_or_default();
    let (kind, name) = match scheduler {
        Scheduler::Cron(entry) => ("cron", entry.as_deref().unwrap_or_default()),
        Scheduler::At => ("at", ""),
        Scheduler::Systemd(unit) => ("systemd", unit.as_str()),
        Scheduler::Ci(runner) => ("ci", runner.as_str()),
        Scheduler::Container(_) => ("container", ""),
        Scheduler::Interactive => ("interactive", ""),
        Scheduler::None => ("none", ""),
    };
    let mut hash = Sha256::new();
    let parts: [&[u8]; 7] = [
        b"egress job 1",
        executable.as_bytes(),
        path,
        text.as_bytes(),
        kind.as_bytes(),
        name.as_bytes(),
        &uid.to_le_bytes(),
    ];
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    JobId(Arc::from(hex(digest.get(..8).unwrap_or_default())))
}
