//! An alert's line.

use super::{Document, job_of, present, time};
use crate::model::{
    Alert, Coverage, CoverageEvidence, FileEvidence, HostAlert, Scheduler, Signal, SignalKind,
};
use crate::outlet::ecs;
use crate::outlet::host::Host;
use crate::outlet::shown::{Device, EntityId, Escaped, Harmless, Shown};
use crate::outlet::summary;
use crate::outlet::words::coverage;

/// Files named in a lineage; `egress.files` has them all.
const LINEAGE_FILES: usize = 16;

impl<'a> Document<'a> {
    pub(super) fn alert(alert: &'a Alert, host: &'a Host) -> Self {
        let mut document = Self::of(
            host,
            alert.at,
            "alert",
            &["intrusion_detection", "network"],
            &["info"],
        );
        document.event.id = Some(&alert.id);
        document.event.risk_score = Some(alert.score.min(100));
        document.event.start = Some(time(host, alert.first));
        document.event.end = Some(time(host, alert.last));
        document.message = Some(summary::AlertSentence(alert).to_string());
        document.set_process(&alert.process, host);
        document.set_destination(&alert.destination);
        document.rule = Some(ecs::Rule {
            id: summary::rule_id(alert.rule),
            name: summary::rule_name(alert.rule),
        });
        document.threat = Some(threat(&alert.techniques));
        let egress = &mut document.egress;
        egress.job = Some(job_of(&alert.job));
        egress.alert = Some(ecs::AlertFields {
            id: &alert.id,
            episodes: alert.episodes,
            period_ns: alert.period_ns,
            app_bytes: alert.app_bytes,
            wire_bytes: alert.wire_bytes,
            rx_bytes: alert.rx_bytes,
            first: time(host, alert.first),
            last: time(host, alert.last),
            blind_spots: alert.blind.iter().map(|kind| kind.name()).collect(),
            coverage: coverage(alert.coverage),
        });
        egress.coverage = Some(coverage(alert.coverage));
        egress.evidence = alert.signals.iter().map(evidence).collect();
        egress.files = alert
            .files
            .iter()
            .map(|file| file_evidence(file, host))
            .collect();
        egress.lineage = lineage(alert);
        document
    }

    pub(super) fn host_alert(alert: &'a HostAlert, host: &'a Host) -> Self {
        let mut document = Self::of(
            host,
            alert.at,
            "alert",
            &["intrusion_detection", "host"],
            &["info"],
        );
        document.event.id = Some(&alert.id);
        document.event.risk_score = Some(alert.score.min(100));
        let since = alert.evidence.iter().map(|part| part.since).min();
        document.event.start = since.map(|since| time(host, since));
        document.message = Some(summary::HostAlertSentence(alert).to_string());
        document.rule = Some(ecs::Rule {
            id: summary::COVERAGE_ID,
            name: summary::COVERAGE_NAME,
        });
        document.threat = Some(threat(&alert.techniques));
        let egress = &mut document.egress;
        egress.coverage = Some(coverage(Coverage::Degraded));
        egress.evidence = alert
            .evidence
            .iter()
            .map(|part| coverage_evidence(part, host))
            .collect();
        document
    }
}

fn threat<'a>(techniques: &'a [&'static str]) -> ecs::Threat<'a> {
    ecs::Threat {
        framework: "MITRE ATT&CK",
        technique: ecs::Technique {
            id: techniques,
            name: techniques.iter().map(|id| technique_name(id)).collect(),
        },
    }
}

/// What a technique is called (MITRE ATT&CK Enterprise v18); of a sub-technique not listed, its parent.
fn technique_name(id: &'static str) -> &'static str {
    match id.split('.').next().unwrap_or(id) {
        "T1020" => "Automated Exfiltration",
        "T1029" => "Scheduled Transfer",
        "T1030" => "Data Transfer Size Limits",
        "T1041" => "Exfiltration Over C2 Channel",
        "T1048" => "Exfiltration Over Alternative Protocol",
        "T1052" => "Exfiltration Over Physical Medium",
        "T1053" => "Scheduled Task/Job",
        "T1074" => "Data Staged",
        "T1119" => "Automated Collection",
        "T1537" => "Transfer Data to Cloud Account",
        "T1562" => "Impair Defenses",
        "T1560" => "Archive Collected Data",
        "T1567" => "Exfiltration Over Web Service",
        _ => id,
    }
}

fn evidence(signal: &Signal) -> ecs::Evidence<'_> {
    // JSON has no infinities and no NaN.
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    ecs::Evidence {
        kind: match signal.kind {
            SignalKind::Automation => "automation",
            SignalKind::Cadence => "cadence",
            SignalKind::Chunking => "chunking",
            SignalKind::Asymmetry => "asymmetry",
            SignalKind::Novelty => "novelty",
            SignalKind::Source => "source",
            SignalKind::Volume => "volume",
            SignalKind::Disguise => "disguise",
        },
        holds: signal.holds,
        score: finite(signal.score),
        value: finite(signal.value),
        threshold: finite(signal.threshold),
        baseline: signal.baseline.and_then(finite),
        since: None,
        sentence: &signal.sentence,
    }
}

fn coverage_evidence<'a>(part: &'a CoverageEvidence, host: &Host) -> ecs::Evidence<'a> {
    ecs::Evidence {
        kind: part.kind.name(),
        holds: true,
        score: None,
        value: Some(part.value).filter(|value| value.is_finite()),
        threshold: Some(part.threshold).filter(|value| value.is_finite()),
        baseline: None,
        since: Some(time(host, part.since)),
        sentence: &part.sentence,
    }
}

fn file_evidence<'a>(evidence: &'a FileEvidence, host: &Host) -> ecs::FileEvidence<'a> {
    ecs::FileEvidence {
        path: present(&evidence.file.path),
        labels: evidence
            .labels
            .iter()
            .map(|label| Shown(Escaped(label)))
            .collect(),
        size: evidence.file.size,
        read_at: time(host, evidence.read_at),
        inode: Shown(evidence.file.id.ino),
        device: Shown(Device(evidence.file.id.dev)),
    }
}

/// Who starts it, what it runs, what it read, who sent it, where it went.
fn lineage(alert: &Alert) -> Vec<ecs::Step> {
    let step = |kind, name| ecs::Step {
        kind,
        name,
        entity_id: None,
    };
    let mut steps = Vec::new();
    if alert.job.scheduler != Scheduler::None {
        let (kind, name) = summary::scheduler(&alert.job.scheduler);
        let name = name.map_or_else(
            || kind.to_owned(),
            |name| format!("{kind}: {}", Harmless(name)),
        );
        steps.push(step("scheduler", name));
    }
    if let Some(script) = alert
        .job
        .script
        .as_deref()
        .filter(|script| !script.path.is_empty())
    {
        steps.push(step("script", script.path.to_string()));
    }
    let files = alert.files.iter().take(LINEAGE_FILES);
    steps.extend(files.map(|file| step("file", file.file.path.to_string())));
    steps.push(ecs::Step {
        entity_id: Some(Shown(EntityId(alert.process.key))),
        ..step("process", alert.process.executable.path.to_string())
    });
    steps.push(step(
        "destination",
        summary::Where(&alert.destination).to_string(),
    ));
    steps
}
