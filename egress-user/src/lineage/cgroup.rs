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
mod tests {
    use proptest::prelude::*;

    use super::parse;
    use crate::model::Text;

    const ID: &str = "3f4d5e6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80";
    const INNER: &str = "00001111222233334444555566667777888899990000aaaabbbbccccddddeeee";
    const UID: &str = "0c1d2e3f-1111-2222-3333-444455556666";

    /// path, (id, runtime, pod), unit
    type Row<'a> = (
        String,
        Option<(&'a str, &'a str, Option<&'a str>)>,
        Option<&'a str>,
    );

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of path shapes")]
    fn paths_of_the_real_world() {
        let under = UID.replace('-', "_");
        let rows: Vec<Row> = vec![
            (String::new(), None, None),
            ("/".into(), None, None),
            ("/init.scope".into(), None, None),
            (
                "/system.slice/cron.service".into(),
                None,
                Some("cron.service"),
            ),
            (
                "/system.slice/foo.service/payload".into(),
                None,
                Some("foo.service"),
            ),
            (
                "/system.slice/system-getty.slice/getty@tty1.service".into(),
                None,
                Some("getty@tty1.service"),
            ),
            (
                r"/system.slice/system-a\x2db.slice/a\x2db@1.service".into(),
                None,
                Some(r"a\x2db@1.service"),
            ),
            (
                "/system.slice/_cpu.service".into(),
                None,
                Some("cpu.service"),
            ),
            (
                "/user.slice/user-1000.slice/session-3.scope".into(),
                None,
                None,
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope".into(),
                None,
                None,
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service".into(),
                None,
                None,
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service".into(),
                None,
                Some("sync.service"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1f.scope".into(),
                None,
                None,
            ),
            (
                format!("/system.slice/docker-{ID}.scope"),
                Some((ID, "docker", None)),
                None,
            ),
            (format!("/docker/{ID}"), Some((ID, "docker", None)), None),
            (
                format!("/docker/{ID}/docker/{INNER}"),
                Some((INNER, "docker", None)),
                None,
            ),
            (
                format!("/docker/{ID}/system.slice/nginx.service"),
                Some((ID, "docker", None)),
                Some("nginx.service"),
            ),
            (
                "/system.slice/docker.service".into(),
                None,
                Some("docker.service"),
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"
                ),
                Some((ID, "containerd", Some(UID))),
                None,
            ),
            (
                format!("/kubepods.slice/kubepods-pod{under}.slice/crio-{ID}.scope"),
                Some((ID, "cri-o", Some(UID))),
                None,
            ),
            (
                format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{under}.slice/cri-containerd-{ID}.scope"
                ),
                Some((ID, "containerd", Some(UID))),
                None,
            ),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-burstable-pod{under}.slice:cri-containerd:{ID}"
                ),
                Some((ID, "containerd", Some(UID))),
                None,
            ),
            (
                format!("/kubepods/besteffort/pod{UID}/{ID}"),
                Some((ID, "", Some(UID))),
                None,
            ),
            (
                format!("/kubepods/pod{UID}/{ID}"),
                Some((ID, "", Some(UID))),
                None,
            ),
            (
                format!("/kubepods/pod{UID}/{ID}/docker/{INNER}"),
                Some((INNER, "docker", Some(UID))),
                None,
            ),
            (format!("/kubepods/burstable/pod{UID}"), None, None),
            (
                format!(
                    "/system.slice/docker-{INNER}.scope/kubelet/kubepods/burstable/pod{UID}/{ID}"
                ),
                Some((ID, "", Some(UID))),
                None,
            ),
            (
                format!("/machine.slice/libpod-{ID}.scope"),
                Some((ID, "podman", None)),
                None,
            ),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                Some((ID, "podman", None)),
                None,
            ),
            (
                format!("/machine.slice/libpod-conmon-{ID}.scope"),
                None,
                None,
            ),
            (
                format!("/libpod_parent/libpod-{ID}"),
                Some((ID, "podman", None)),
                None,
            ),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"
                ),
                Some((ID, "podman", None)),
                None,
            ),
            (format!("/system.slice/crio-conmon-{ID}.scope"), None, None),
            (
                "/k8s.io/podX/ctrA".into(),
                Some(("ctrA", "containerd", Some("X"))),
                None,
            ),
            (
                "/k8s.io/ctrA".into(),
                Some(("ctrA", "containerd", None)),
                None,
            ),
            (
                "/default/web".into(),
                Some(("web", "containerd", None)),
                None,
            ),
            (
                "/lxc/web/init.scope".into(),
                Some(("web", "lxc", None)),
                None,
            ),
            (
                "/lxc.payload.web/system.slice/ssh.service".into(),
                Some(("web", "lxc", None)),
                Some("ssh.service"),
            ),
            ("/lxc.monitor.web".into(), None, None),
            (
                "/ecs/0123abcd/0123abcd-77".into(),
                Some(("0123abcd-77", "", None)),
                None,
            ),
            (
                format!("/system.slice/docker-{}.scope", &ID[1..]),
                None,
                None,
            ),
            (
                "/system.slice/evil\u{202e}.service".into(),
                None,
                Some(r"evil\xe2\x80\xae.service"),
            ),
        ];
        for (path, container, unit) in rows {
            let (found, found_unit) = parse(path.as_bytes());
            let found = found
                .as_ref()
                .map(|c| (c.id.as_str(), c.runtime.as_str(), c.pod_uid.as_deref()));
            assert_eq!(found, container, "{path}");
            assert_eq!(found_unit.as_deref(), unit, "{path}");
        }
    }

    #[test]
    fn what_cgroup2_does_not_tell_the_other_hierarchies_do() {
        let docker = Text::from(format!("/docker/{ID}").as_str());
        let service = Text::from("/system.slice/cron.service");
        let other = Text::from("/machine.slice/mine");
        let rows = [
            ("/", vec![], None, None),
            ("/", vec![other.clone(), docker.clone()], Some(ID), None),
            (
                "/system.slice/docker.service",
                vec![docker.clone()],
                Some(ID),
                None,
            ),
            (
                "/system.slice/cron.service",
                vec![other.clone()],
                None,
                Some("cron.service"),
            ),
            (
                "/",
                vec![other, service.clone()],
                None,
                Some("cron.service"),
            ),
            (
                "/system.slice/ssh.service",
                vec![service],
                None,
                Some("ssh.service"),
            ),
        ];
        for (path, v1, id, unit) in rows {
            let (container, found) = super::place(path.as_bytes(), &v1);
            assert_eq!(
                container.as_ref().map(|c| c.id.as_str()),
                id,
                "{path} {v1:?}"
            );
            assert_eq!(found.as_deref(), unit, "{path} {v1:?}");
        }
        let inner = Text::from(format!("/docker/{INNER}").as_str());
        let (container, _) = super::place(format!("/docker/{ID}").as_bytes(), &[inner]);
        assert_eq!(
            container.map(|c| c.id).as_deref(),
            Some(ID),
            "cgroup2 first"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(path in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&path);
        }

        #[test]
        fn any_shape_is_taken(path in "(/(kubepods|docker|k8s.io|pod|-pod|\\.slice|:|a{64}|libpod-|\\.scope|lxc|ecs)*){0,8}") {
            let _ = parse(path.as_bytes());
        }
    }
}
