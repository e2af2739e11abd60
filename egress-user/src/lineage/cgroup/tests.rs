use proptest::prelude::*;

use super::{parse, place};
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
            format!("/system.slice/docker-{INNER}.scope/kubelet/kubepods/burstable/pod{UID}/{ID}"),
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
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
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
        let (container, found) = place(path.as_bytes(), &v1);
        assert_eq!(
            container.as_ref().map(|c| c.id.as_str()),
            id,
            "{path} {v1:?}"
        );
        assert_eq!(found.as_deref(), unit, "{path} {v1:?}");
    }
    let inner = Text::from(format!("/docker/{INNER}").as_str());
    let (container, _) = place(format!("/docker/{ID}").as_bytes(), &[inner]);
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
