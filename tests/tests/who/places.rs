//! Where: real cgroup2 directories with the names that systemd, the container runtimes and the kubelet give, and senders
//! in them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use egress_tests::wait_for;
use serde_json::json;

use super::{Bench, Want, absent};

/// Container ids of the usual kind.
const ID: &str = "3f4d5e6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80";
const POD: &str = "0c1d2e3f-1111-2222-3333-444455556666";

/// Cgroups that were made; removed when dropped.
#[derive(Default)]
pub struct Places {
    made: Vec<PathBuf>,
}

impl Drop for Places {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            // A sender that has just ended is in its cgroup for some moments more.
            let removed = wait_for("an empty cgroup", Duration::from_secs(5), || {
                Ok(std::fs::remove_dir(path).ok())
            });
            if let Err(error) = removed {
                eprintln!("{}: {error:#}", path.display());
            }
        }
    }
}

impl Places {
    /// Makes a cgroup and what is missing above it.
    fn make(&mut self, hierarchy: &Path, path: &str) -> Result<PathBuf> {
        let whole = hierarchy.join(path.trim_start_matches('/'));
        let missing = whole.ancestors().take_while(|path| !path.is_dir());
        let missing: Vec<&Path> = missing.collect();
        for path in missing.into_iter().rev() {
            std::fs::create_dir(path).with_context(|| path.display().to_string())?;
            self.made.push(path.into());
        }
        Ok(whole)
    }
}

/// Where a hierarchy is mounted with its root, by its type and one of its mount options.
fn mount(kind: &str, option: &str) -> Result<Option<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let found = mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut fields = file_system.split(' ');
        let same = root == "/" && fields.next() == Some(kind);
        let mut options = fields.nth(1)?.split(',');
        (same && options.any(|found| found == option)).then(|| point.into())
    });
    Ok(found)
}

/// Cgroup; container id and runtime; pod; unit.
type Row = (
    String,
    Option<(&'static str, Option<&'static str>)>,
    Option<&'static str>,
    Option<&'static str>,
);

fn rows() -> Vec<Row> {
    let user = "/user.slice/user-1000.slice";
    let manager = format!("{user}/user@1000.service");
    let pod = POD.replace('-', "_");
    let slice =
        format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{pod}.slice");
    let unit = |path: &str, unit| (path.to_owned(), None, None, Some(unit));
    let none = |path: String| (path, None, None, None);
    let container = |path: String, runtime| (path, Some((ID, runtime)), None, None);
    let in_pod = |path: String, runtime| (path, Some((ID, runtime)), Some(POD), None);
    vec![
        unit("/system.slice/egress-who.service", "egress-who.service"),
        unit(
            "/system.slice/egress-who.service/payload",
            "egress-who.service",
        ),
        unit(
            r"/system.slice/system-egress\x2dwho.slice/egress-who@a\x2db.service",
            r"egress-who@a\x2db.service",
        ),
        unit("/system.slice/_cpu.service", "cpu.service"),
        unit(
            &format!("{manager}/app.slice/egress-who.service"),
            "egress-who.service",
        ),
        none(format!("{manager}/init.scope")),
        none(format!("{user}/session-9999.scope")),
        container(format!("/docker/{ID}"), Some("docker")),
        container(format!("/system.slice/docker-{ID}.scope"), Some("docker")),
        container(
            format!("/system.slice/nerdctl-{ID}.scope"),
            Some("containerd"),
        ),
        container(
            format!("/machine.slice/libpod-{ID}.scope/container"),
            Some("podman"),
        ),
        container(format!("/libpod_parent/libpod-{ID}"), Some("podman")),
        container(
            format!("{manager}/user.slice/libpod-{ID}.scope"),
            Some("podman"),
        ),
        none(format!("/machine.slice/libpod-conmon-{ID}.scope")),
        none(format!("/kubepods.slice/crio-conmon-{ID}.scope")),
        in_pod(
            format!("{slice}/cri-containerd-{ID}.scope"),
            Some("containerd"),
        ),
        in_pod(format!("{slice}/crio-{ID}.scope"), Some("cri-o")),
        in_pod(
            format!("/kubepods.slice/kubepods-pod{pod}.slice/crio-{ID}.scope"),
            Some("cri-o"),
        ),
        in_pod(
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{pod}.slice/docker-{ID}.scope"
            ),
            Some("docker"),
        ),
        in_pod(
            format!(
                "/system.slice/containerd.service/kubepods-besteffort-pod{pod}.slice:cri-containerd:{ID}"
            ),
            Some("containerd"),
        ),
        in_pod(format!("/kubepods/pod{POD}/{ID}"), None),
        in_pod(format!("/kubepods/burstable/pod{POD}/{ID}"), None),
        in_pod(
            format!("/kubepods/besteffort/pod{POD}/crio-{ID}"),
            Some("cri-o"),
        ),
    ]
}

/// A sender in each place, moved there by its parent before its exec as service managers and runtimes do; and one
/// that moves, as a login does, between its exec and its first datagram.
pub fn send(bench: &mut Bench) -> Result<Places> {
    let mut places = Places::default();
    let root = mount("cgroup2", "rw")?.context("cgroup2 is not mounted")?;
    let second = format!("exec={}", bench.program("second").display());
    for (path, container, pod, unit) in rows() {
        let cgroup = format!("cgroup={}", places.make(&root, &path)?.display());
        let field = |name, value: Option<&str>| -> Want {
            value.map_or(absent(name), |value| (name, Some(json!(value))))
        };
        let wants = vec![
            field("container.id", container.map(|(id, _)| id)),
            field(
                "container.runtime",
                container.and_then(|(_, runtime)| runtime),
            ),
            field("orchestrator.type", pod.map(|_| "kubernetes")),
            field("orchestrator.resource.type", pod.map(|_| "pod")),
            field("orchestrator.resource.id", pod),
            field("egress.unit", unit),
        ];
        let mut command = bench.steps(&[&cgroup, &second, "send=100"])?;
        bench.send(
            &format!("exec in {path}"),
            &mut command,
            vec![(100, wants.clone())],
        )?;
        let mut command = bench.steps(&[&cgroup, "send=100", &second, "send=100"])?;
        let moved = format!("moved to {path}");
        bench.send(
            &moved,
            &mut command,
            vec![(100, wants.clone()), (100, wants)],
        )?;
    }
    hybrid(bench, &mut places)?;
    Ok(places)
}

/// On a host that has cgroup v1 hierarchies as well, a container that is one in those alone: a process there long enough
/// to be asked, and then one that is not.
fn hybrid(bench: &mut Bench, places: &mut Places) -> Result<()> {
    let Some(hierarchy) = mount("cgroup", "pids")? else {
        return Ok(());
    };
    let path = format!("/docker/{ID}");
    let cgroup = format!("cgroup={}", places.make(&hierarchy, &path)?.display());
    let [first, second] =
        ["first", "second"].map(|name| format!("exec={}", bench.program(name).display()));
    let steps = [
        &cgroup,
        &second,
        "sleep=400",
        "send=100",
        &first,
        "send=200",
    ];
    let mut command = bench.steps(&steps)?;
    let wants = vec![
        ("container.id", Some(json!(ID))),
        ("container.runtime", Some(json!("docker"))),
        ("egress.job.scheduler.kind", Some(json!("container"))),
    ];
    let what = format!("{path} in {}", hierarchy.display());
    bench.send(
        &what,
        &mut command,
        vec![(100, wants.clone()), (200, wants)],
    )?;
    Ok(())
}
