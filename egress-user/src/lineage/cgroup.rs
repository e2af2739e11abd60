//! What a cgroup path tells: the container, the pod, the systemd unit.
//!
//! Names in a cgroup path are chosen by whoever may write there, so what is read here is a name and no proof: it
//! names jobs and records, it never suppresses anything.

use crate::model::{Container, Text};

/// Longest name taken over, bytes (the kernel's `NAME_MAX`).
const NAME_MAX: usize = 255;

/// Container and unit of a process by its cgroup2 path, and what that does not tell by its paths in cgroup v1 hierarchies:
/// on a hybrid host a container's processes are in the cgroup2 of whatever started it (`docker.service`, the root).
#[must_use]
pub fn place(path: &[u8], v1: &[Text]) -> (Option<Container>, Option<String>) {
    let (container, unit) = parse(path);
    if container.is_some() {
        return (container, unit);
    }
    let mut others = v1.iter().map(|path| parse(path.as_bytes()));
    if let Some(inside) = others.clone().find(|(container, _)| container.is_some()) {
        return inside;
    }
    (None, unit.or_else(|| others.find_map(|(_, unit)| unit)))
}

/// The innermost container and the systemd service below it (or, without a container, the innermost service).
///
/// Known shapes: docker, containerd (CRI, nerdctl, `ctr`), CRI-O, podman with the systemd and the cgroupfs driver,
/// the kubelet's pods with both, ECS tasks, LXC; systemd services of the system and of a user's manager. Login
/// sessions, `init.scope`, other scopes and `user@UID.service` itself are no unit: systemd did not start what
/// runs there.
#[must_use]
pub fn parse(path: &[u8]) -> (Option<Container>, Option<String>) {
    let mut container: Option<Container> = None;
    let mut pod_uid: Option<String> = None;
    let mut unit: Option<String> = None;
    let mut above = Above::default();
    for segment in path.split(|b| *b == b'/').filter(|s| !s.is_empty()) {
        if let Some(uid) = pod(segment, &above) {
            pod_uid = Some(name(&uid));
        }
        if let Some((id, runtime)) = container_name(segment, &above) {
            container = Some(Container {
                id: name(id),
                runtime: runtime.to_owned(),
                pod_uid: None,
            });
            unit = None;
        } else if segment.ends_with(b".service") {
            // systemd puts a `_` before what could be the kernel's own file: `cpu.service` (`cg_escape`, its
            // `src/basic/cgroup-util.c`).
            let segment = segment.strip_prefix(b"_").unwrap_or(segment);
            unit = (!segment.starts_with(b"user@")).then(|| name(segment));
        } else if segment.ends_with(b".scope") {
            unit = None;
        }
        above.push(segment);
    }
    if let Some(container) = &mut container {
        container.pod_uid = pod_uid;
    }
    (container, unit)
}

/// What stands above a segment.
#[derive(Default)]
struct Above<'a> {
    first: &'a [u8],
    last: &'a [u8],
    depth: usize,
}

impl<'a> Above<'a> {
    fn push(&mut self, segment: &'a [u8]) {
        if self.depth == 0 {
            self.first = segment;
        }
        self.last = segment;
        self.depth += 1;
    }
}

/// `ID` and runtime, if a segment names a container.
fn container_name<'a>(segment: &'a [u8], above: &Above<'_>) -> Option<(&'a [u8], &'static str)> {
    // containerd with the systemd shape on a cgroupfs driver: `kubepods-x-podUID.slice:cri-containerd:ID`.
    let mut colons = segment.rsplit(|b| *b == b':');
    if let (Some(id), Some(prefix), Some(_)) = (colons.next(), colons.next(), colons.next())
        && is_id(id)
    {
        return Some((id, runtime(prefix)?));
    }
    let scope = segment.strip_suffix(b".scope");
    let bare = scope.unwrap_or(segment);
    if let Some(dash) = bare.iter().rposition(|b| *b == b'-') {
        let (prefix, id) = (&bare[..dash], &bare[dash + 1..]);
        if is_id(id) {
            return Some((id, runtime(prefix)?));
        }
    }
    if scope.is_some() {
        return None;
    }
    if is_id(segment) {
        let runtime = match above.last {
            b"docker" | b"buildkit" => "docker",
            b"libpod_parent" => "podman",
            _ => "",
        };
        return Some((segment, runtime));
    }
    if let Some(id) = segment.strip_prefix(b"lxc.payload.") {
        return Some((id, "lxc"));
    }
    match (above.first, above.depth) {
        (b"lxc", 1) => Some((segment, "lxc")),
        // `ctr run`: the containerd namespace, then the container, with a pod between them if the caller makes one.
        (b"k8s.io", 1) if !segment.starts_with(b"pod") => Some((segment, "containerd")),
        (b"k8s.io", 2) if above.last.starts_with(b"pod") => Some((segment, "containerd")),
        (b"default", 1) if !is_unit(segment) => Some((segment, "containerd")),
        // `/ecs/TASK/TASK-NUMBER`.
        (b"ecs", 2) if segment.starts_with(above.last) => Some((segment, "")),
        _ => None,
    }
}

/// The runtime that uses a prefix; `None` for its helpers, which are no workload.
fn runtime(prefix: &[u8]) -> Option<&'static str> {
    Some(match prefix {
        b"docker" => "docker",
        b"cri-containerd" | b"nerdctl" => "containerd",
        b"crio" => "cri-o",
        b"libpod" | b"libpod-payload" => "podman",
        _ if prefix.ends_with(b"conmon") => return None,
        _ => "",
    })
}

/// The pod's uid, if a segment names a pod.
fn pod(segment: &[u8], above: &Above<'_>) -> Option<Vec<u8>> {
    if find(segment, b"kubepods").is_some() {
        let end = find(segment, b".slice")?;
        let start = find(segment, b"-pod")? + b"-pod".len();
        // systemd takes a dash for a level, so the kubelet writes an underscore.
        let uid = segment.get(start..end)?.iter();
        return Some(uid.map(|b| if *b == b'_' { b'-' } else { *b }).collect());
    }
    let parent = matches!(
        above.last,
        b"kubepods" | b"besteffort" | b"burstable" | b"guaranteed"
    ) || (above.first == b"k8s.io" && above.depth == 1);
    let uid = segment.strip_prefix(b"pod")?;
    (parent && !uid.is_empty()).then(|| uid.to_vec())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// The common runtimes' ids: 64 lower-case hexadecimal digits.
fn is_id(bytes: &[u8]) -> bool {
    bytes.len() == 64
        && bytes
            .iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
}

fn is_unit(segment: &[u8]) -> bool {
    segment.ends_with(b".service")
        || segment.ends_with(b".scope")
        || segment.ends_with(b".slice")
        || segment.ends_with(b".mount")
}

/// As it is if it is printable ASCII (systemd's own `\x2d` included), else escaped.
fn name(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(NAME_MAX)];
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(|b| (b' '..=b'~').contains(b)) => text.to_owned(),
        _ => Text::from(bytes).to_string(),
    }
}

#[cfg(test)]
mod tests;
