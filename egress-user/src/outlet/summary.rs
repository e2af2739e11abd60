//! Records in a sentence: what `message` says in JSON lines, and what the live view prints.

use std::fmt;

use super::shown::{Escaped, Harmless};
use crate::model::{Alert, Destination, HostAlert, Job, Rule, Scheduler};

/// A rule's name for people.
pub(super) fn rule_name(rule: Rule) -> &'static str {
    match rule {
        Rule::AutomatedExfiltration => "Automated exfiltration",
        Rule::SensitiveBulkTransfer => "Bulk transfer of sensitive files",
    }
}

/// A rule's id, as its serialization has it.
pub(super) fn rule_id(rule: Rule) -> &'static str {
    match rule {
        Rule::AutomatedExfiltration => "automated_exfiltration",
        Rule::SensitiveBulkTransfer => "sensitive_bulk_transfer",
    }
}

/// The rule of alerts about what can be seen here, for machines.
pub(super) const COVERAGE_ID: &str = "coverage";
/// The same for people.
pub(super) const COVERAGE_NAME: &str = "Coverage dropped";

/// Kind and name of a scheduler.
pub(super) fn scheduler(scheduler: &Scheduler) -> (&'static str, Option<&str>) {
    match scheduler {
        Scheduler::Cron(entry) => ("cron", entry.as_deref()),
        Scheduler::At => ("at", None),
        Scheduler::Systemd(unit) => ("systemd", Some(unit)),
        Scheduler::Ci(runner) => ("ci", Some(runner)),
        Scheduler::Container(id) => ("container", Some(id)),
        Scheduler::Interactive => ("interactive", None),
        Scheduler::None => ("none", None),
    }
}

/// `name (ip):port/transport`, or without the name.
pub(super) struct Where<'a>(pub &'a Destination);

impl fmt::Display for Where<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Destination {
            ip,
            port,
            transport,
            domain,
            ..
        } = self.0;
        match (domain, ip) {
            (Some(domain), _) => {
                write!(f, "{} ({ip}):{port}/{}", Escaped(domain), transport.name())
            }
            (None, std::net::IpAddr::V6(_)) => write!(f, "[{ip}]:{port}/{}", transport.name()),
            (None, std::net::IpAddr::V4(_)) => write!(f, "{ip}:{port}/{}", transport.name()),
        }
    }
}

/// What a job runs: its script if it has one, else its executable; and who starts it.
pub(super) struct What<'a>(pub &'a Job);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.script {
            Some(script) if script.path.is_empty() => write!(f, "{} -c", self.0.executable)?,
            Some(script) => write!(f, "{}", script.path)?,
            None => write!(f, "{}", self.0.executable)?,
        }
        match scheduler(&self.0.scheduler) {
            ("none", _) => Ok(()),
            (kind, None) => write!(f, " ({kind})"),
            (kind, Some(name)) => write!(f, " ({kind}: {})", Harmless(name)),
        }
    }
}

/// A number of bytes, with three digits or so: `1.5 MiB`.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut units = UNITS.iter();
        let mut unit = units.next();
        while value >= 1023.95 && units.len() > 0 {
            value /= 1024.0;
            unit = units.next();
        }
        write!(f, "{value:.1} {}", unit.copied().unwrap_or_default())
    }
}

/// An alert in one sentence.
pub(super) struct AlertSentence<'a>(pub &'a Alert);

impl fmt::Display for AlertSentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alert = self.0;
        write!(
            f,
            "{}, score {}: {} sent {} to {} in {} transfer{}",
            rule_name(alert.rule),
            alert.score,
            What(&alert.job),
            Bytes(alert.app_bytes.max(alert.wire_bytes)),
            Where(&alert.destination),
            alert.episodes,
            if alert.episodes == 1 { "" } else { "s" },
        )?;
        if let Some(period) = alert.period_ns {
            // Tenths of a second, rounded; whole seconds from ten on.
            let tenths = period.saturating_add(50_000_000) / 100_000_000;
            if tenths < 100 {
                write!(f, ", one about every {}.{} s", tenths / 10, tenths % 10)?;
            } else {
                write!(f, ", one about every {} s", (tenths + 5) / 10)?;
            }
        }
        if let Some(first) = alert.files.iter().find(|file| !file.labels.is_empty()) {
            let sensitive = alert
                .files
                .iter()
                .filter(|file| !file.labels.is_empty())
                .count();
            write!(f, ", after reading {}", first.file.path)?;
            if sensitive > 1 {
                write!(f, " and {} more sensitive files", sensitive - 1)?;
            }
        }
        for (at, kind) in alert.blind.iter().enumerate() {
            let before = if at == 0 {
                "; seen only in part: it uses"
            } else {
                ","
            };
            write!(f, "{before} {}", kind.name())?;
        }
        Ok(())
    }
}

/// An alert about what can be seen here, in one paragraph.
pub(super) struct HostAlertSentence<'a>(pub &'a HostAlert);

impl fmt::Display for HostAlertSentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{COVERAGE_NAME}, score {}:", self.0.score)?;
        self.0
            .evidence
            .iter()
            .try_for_each(|part| write!(f, " {}", part.sentence))
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn bytes_keep_their_digits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1536 << 20, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }
}
