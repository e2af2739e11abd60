//! What is in `deploy/` is what it claims to be: manifests by Kubernetes' own types, the unit by systemd's own tools.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, PodSpec, Probe, ServiceAccount};
use serde_json::Value;

/// Capabilities of the daemon, everywhere: what may be granted is decided once.
const CAPABILITIES: [&str; 5] = [
    "BPF",
    "DAC_READ_SEARCH",
    "NET_ADMIN",
    "PERFMON",
    "SYS_PTRACE",
];
const PORT: i32 = 9468;

fn read(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The manifest of one kind. What the type does not know (a misspelt field) does not survive it, and is an error.
fn manifest<T>(kind: &str) -> Result<T>
where
    T: serde::de::DeserializeOwned + serde::Serialize,
{
    let documents: Vec<Value> = serde_saphyr::from_multiple(&read("daemonset.yaml")?)?;
    let written = documents
        .into_iter()
        .find(|document| document.get("kind").is_some_and(|is| is == kind))
        .with_context(|| format!("no {kind}"))?;
    let typed: T = serde_json::from_value(written.clone())?;
    let understood = serde_json::to_value(&typed)?;
    ensure!(
        written == understood,
        "{kind}: written {written:#}\nunderstood {understood:#}"
    );
    Ok(typed)
}

fn pod() -> Result<PodSpec> {
    let daemon_set: DaemonSet = manifest("DaemonSet")?;
    let pod = daemon_set.spec.and_then(|spec| spec.template.spec);
    pod.context("the DaemonSet has no pod")
}

fn container() -> Result<Container> {
    let mut containers = pod()?.containers;
    ensure!(containers.len() == 1, "one container");
    containers.pop().context("one container")
}

#[test]
fn manifests_are_understood_whole() -> Result<()> {
    manifest::<Namespace>("Namespace")?;
    manifest::<ServiceAccount>("ServiceAccount")?;
    manifest::<ConfigMap>("ConfigMap")?;
    manifest::<DaemonSet>("DaemonSet")?;
    Ok(())
}

#[test]
fn the_pod_sees_the_host() -> Result<()> {
    let pod = pod()?;
    ensure!(pod.host_pid == Some(true), "hostPID");
    ensure!(pod.host_network == Some(true), "hostNetwork");
    ensure!(
        pod.automount_service_account_token == Some(false),
        "no API token"
    );
    let everywhere = |toleration: &k8s_openapi::api::core::v1::Toleration| {
        toleration.operator.as_deref() == Some("Exists") && toleration.key.is_none()
    };
    ensure!(
        pod.tolerations.iter().flatten().any(everywhere),
        "runs on every node"
    );
    Ok(())
}

#[test]
fn the_container_has_these_rights_and_no_more() -> Result<()> {
    let context = container()?.security_context.context("securityContext")?;
    ensure!(context.privileged == Some(false), "privileged");
    ensure!(
        context.allow_privilege_escalation == Some(false),
        "allowPrivilegeEscalation"
    );
    ensure!(
        context.read_only_root_filesystem == Some(true),
        "readOnlyRootFilesystem"
    );
    let capabilities = context.capabilities.context("capabilities")?;
    ensure!(
        capabilities.drop.as_deref() == Some(&["ALL".to_owned()]),
        "drops all"
    );
    let added: BTreeSet<_> = capabilities
        .add
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    ensure!(added == BTreeSet::from(CAPABILITIES), "adds {added:?}");
    Ok(())
}

#[test]
fn mounts_are_the_hosts() -> Result<()> {
    let volumes = pod()?.volumes.unwrap_or_default();
    let mounts = container()?.volume_mounts.unwrap_or_default();
    for (path, writable) in [
        ("/run/egress", true),
        ("/var/lib/egress", true),
        ("/sys/fs/cgroup", false),
        ("/sys/fs/bpf", true),
        ("/sys/kernel/btf", false),
        ("/sys/kernel/tracing", false),
    ] {
        let mount = mounts
            .iter()
            .find(|mount| mount.mount_path == path)
            .with_context(|| path.to_owned())?;
        ensure!(
            mount.read_only.unwrap_or(false) != writable,
            "{path}: writable should be {writable}"
        );
        let volume = volumes
            .iter()
            .find(|volume| volume.name == mount.name)
            .with_context(|| path.to_owned())?;
        let host = volume
            .host_path
            .as_ref()
            .with_context(|| format!("{path} is not the host's"))?;
        ensure!(host.path == path, "{path} is the host's {}", host.path);
    }
    Ok(())
}

#[test]
fn probes_and_scrapes_reach_the_listener() -> Result<()> {
    let container = container()?;
    let arguments = container.args.clone().unwrap_or_default();
    ensure!(
        arguments
            .iter()
            .any(|argument| argument == "--listen=$(NODE_IP):9468"),
        "{arguments:?}"
    );
    let port = container
        .ports
        .iter()
        .flatten()
        .find(|port| port.name.as_deref() == Some("metrics"));
    ensure!(
        port.is_some_and(|port| port.container_port == PORT),
        "port `metrics`"
    );
    let path = |probe: &Option<Probe>| -> Option<String> {
        probe.as_ref()?.http_get.as_ref()?.path.clone()
    };
    ensure!(
        path(&container.readiness_probe).as_deref() == Some("/readyz"),
        "readiness"
    );
    ensure!(
        path(&container.liveness_probe).as_deref() == Some("/healthz"),
        "liveness"
    );

    let daemon_set: DaemonSet = manifest("DaemonSet")?;
    let spec = daemon_set.spec.context("spec")?;
    let metadata = spec.template.metadata.context("metadata")?;
    let annotations = metadata.annotations.unwrap_or_default();
    for (key, value) in [("scrape", "true"), ("port", "9468"), ("path", "/metrics")] {
        let found = annotations.get(&format!("prometheus.io/{key}"));
        ensure!(
            found.is_some_and(|found| found == value),
            "prometheus.io/{key}: {found:?}"
        );
    }
    let selected = spec.selector.match_labels.unwrap_or_default();
    let labels = metadata.labels.unwrap_or_default();
    ensure!(
        selected
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value)),
        "selects its own pods"
    );
    Ok(())
}

/// Values of a key of a unit, in order. systemd.syntax(7): `Key=value` in sections, comments in lines of their own.
fn unit_values<'a>(unit: &'a str, section: &str, key: &str) -> Vec<&'a str> {
    let mut current = "";
    let mut values = Vec::new();
    for line in unit.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            current = name;
        } else if current == section
            && let Some((name, value)) = line.split_once('=')
            && name == key
        {
            values.push(value);
        }
    }
    values
}

#[test]
fn the_unit_starts_the_daemon_with_these_rights_and_no_more() -> Result<()> {
    let unit = read("egress.service")?;
    ensure!(
        unit_values(&unit, "Service", "ExecStart")
            == [
                "/usr/local/bin/egress run --config /etc/egress/egress.toml --state-dir /var/lib/egress \
                 --listen 127.0.0.1:9468 --events /var/log/egress/events.jsonl --quiet"
            ]
    );
    // An empty assignment first: a list without one adds to the default, which is every capability.
    let granted = unit_values(&unit, "Service", "CapabilityBoundingSet");
    ensure!(granted.first() == Some(&""), "the set is not emptied first");
    let granted: BTreeSet<_> = granted
        .iter()
        .skip(1)
        .map(|name| name.trim_start_matches("CAP_"))
        .collect();
    ensure!(granted == BTreeSet::from(CAPABILITIES), "{granted:?}");
    for (key, value) in [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("RuntimeDirectory", "egress"),
        ("StateDirectory", "egress"),
        ("LogsDirectory", "egress"),
        // Pins are made there, which ProtectKernelTunables=yes would not allow.
        ("ReadWritePaths", "-/sys/fs/bpf"),
        // Hiding these would hide what is looked for.
        ("PrivateTmp", "no"),
        ("ProtectHome", "read-only"),
    ] {
        ensure!(unit_values(&unit, "Service", key) == [value], "{key}");
    }
    ensure!(
        unit_values(&unit, "Service", "ProtectKernelTunables").is_empty(),
        "no pins can be made"
    );
    Ok(())
}

#[test]
fn systemd_accepts_the_unit_and_finds_it_confined() -> Result<()> {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        ensure!(
            std::env::var_os("CI").is_none(),
            "no systemd-analyze, and in CI nothing is skipped"
        );
        println!("skipped: needs systemd-analyze (apt-get install systemd)");
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let unit = directory.path().join("egress.service");
    let check = |text: &str, arguments: &[&str]| -> Result<(bool, String)> {
        fs::write(&unit, text)?;
        let done = Command::new("systemd-analyze")
            .args(arguments)
            .arg(&unit)
            .output()?;
        let said = [done.stdout, done.stderr].concat();
        Ok((
            done.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    };
    // systemd looks for the executable, which is not installed here.
    let text =
        read("egress.service")?.replace("ExecStart=/usr/local/bin/egress", "ExecStart=/bin/true");
    let verify = ["verify", "--man=no"];
    let (accepted, said) = check(&text, &verify)?;
    ensure!(accepted && !said.contains("egress.service"), "{said}");
    let (_, said) = check(&text.replace("ProtectSystem=", "ProtectSystems="), &verify)?;
    ensure!(
        said.contains("ProtectSystems"),
        "a misspelt key passes: {said}"
    );

    // 0 is confined best, 10 not at all (times ten here); a bare unit has 9.6.
    let (confined, said) = check(
        &text,
        &["security", "--offline=true", "--no-pager", "--threshold=35"],
    )?;
    ensure!(confined, "{said}");
    Ok(())
}
