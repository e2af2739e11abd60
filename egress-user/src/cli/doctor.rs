//! `egress doctor`: the report as a table, or as JSON.

use std::fmt::Write as _;

use crate::model::{BlindUser, DoctorReport, HookState, Verdict};

/// Processes named for each blind spot in the table; JSON has them all.
const USERS: usize = 4;

/// For programs.
pub(super) fn json(report: &DoctorReport) -> String {
    // Strings, lists and maps with string keys: nothing in it can fail to be JSON.
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}

/// For people.
pub(super) fn table(report: &DoctorReport) -> String {
    let mut text = String::new();
    section(
        &mut text,
        "Host",
        &report
            .host
            .iter()
            .map(|(name, value)| [name.clone(), value.clone()])
            .collect::<Vec<_>>(),
    );
    let hooks: Vec<_> = report
        .hooks
        .iter()
        .map(|hook| {
            let state = match hook.state {
                HookState::Ok => "ok",
                HookState::Unsupported => "unsupported",
                HookState::Broken => "BROKEN",
                HookState::Disabled => "disabled",
            };
            let gives = match &hook.reason {
                None => hook.gives.to_owned(),
                Some(reason) if hook.state == HookState::Ok => {
                    format!("{} ({reason})", hook.gives)
                }
                Some(reason) => format!("{reason} (lost: {})", hook.gives),
            };
            [
                hook.hook.to_owned(),
                state.to_owned(),
                hook.method.clone(),
                gives,
            ]
        })
        .collect();
    section(&mut text, "Hooks", &hooks);
    // Of those that have a choice.
    let choices: Vec<_> = report
        .methods
        .iter()
        .filter(|one| {
            report
                .methods
                .iter()
                .filter(|other| other.hook == one.hook)
                .count()
                > 1
        })
        .map(|one| {
            [
                format!("{}={}", one.hook, one.method),
                one.places.clone(),
                one.reason
                    .clone()
                    .unwrap_or_else(|| "offered by this kernel".to_owned()),
            ]
        })
        .collect();
    section(&mut text, "Methods (--method)", &choices);
    let blind: Vec<_> = report
        .blind
        .iter()
        .map(|spot| {
            let in_use = match spot.in_use {
                Some(true) => "IN USE",
                Some(false) => "not in use",
                None => "not known",
            };
            [
                spot.name.clone(),
                in_use.to_owned() + &by(&spot.by),
                spot.why.clone(),
            ]
        })
        .collect();
    section(&mut text, "Blind spots", &blind);
    let (verdict, reasons) = match &report.verdict {
        Verdict::Ok => ("ok: everything works here", &[][..]),
        Verdict::Degraded(reasons) => (
            "degraded: egress works here, but not all of it",
            &reasons[..],
        ),
        Verdict::CannotRun(reasons) => ("cannot run here", &reasons[..]),
    };
    let _ = writeln!(text, "Verdict: {verdict}");
    for reason in reasons {
        let _ = writeln!(text, "  - {reason}");
    }
    text
}

/// The first of those who use a blind spot, and how many more there are.
fn by(users: &[BlindUser]) -> String {
    let mut text = String::new();
    for (at, user) in users.iter().take(USERS).enumerate() {
        let before = if at == 0 { " by" } else { "," };
        let _ = write!(text, "{before} {}[{}]", user.name, user.pid);
    }
    if let Some(more) = users.len().checked_sub(USERS).filter(|more| *more > 0) {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// A heading and its rows, in columns as wide as their widest cell.
fn section<const N: usize>(text: &mut String, heading: &str, rows: &[[String; N]]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "{heading}");
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    });
    for row in rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, " {cell:width$} ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::{json, table};
    use crate::model::{
        BlindSpot, BlindUser, DoctorReport, HookState, HookStatus, MethodStatus, Verdict,
    };

    #[test]
    fn says_what_works_what_does_not_and_why() {
        let method = |hook, method, reason: Option<&str>| MethodStatus {
            hook,
            method,
            places: "x/y".into(),
            reason: reason.map(Into::into),
        };
        let hook = |hook, state, reason: Option<&str>| HookStatus {
            hook,
            method: "tp_btf/x".into(),
            state,
            reason: reason.map(Into::into),
            gives: "bytes",
        };
        let report = DoctorReport {
            verdict: Verdict::Degraded(vec!["files: no lsm".into()]),
            host: vec![("kernel".into(), "6.18".into())],
            hooks: vec![
                hook("send", HookState::Ok, None),
                hook("file_open", HookState::Broken, Some("EPERM")),
            ],
            methods: vec![
                method("files", "lsm", Some("no bpf")),
                method("files", "tracepoint", None),
                method("send", "tp_btf", None),
            ],
            programs: Vec::new(),
            blind: vec![BlindSpot {
                name: "af_xdp".into(),
                in_use: Some(true),
                by: (1..=6)
                    .map(|pid| BlindUser {
                        pid,
                        name: "x\n".into(),
                        netns: 1,
                    })
                    .collect(),
                why: "passes no socket".into(),
            }],
        };
        let text = table(&report);
        for line in [
            "  kernel  6.18",
            "  send       ok      tp_btf/x  bytes",
            "  file_open  BROKEN  tp_btf/x  EPERM (lost: bytes)",
            "  files=lsm         x/y  no bpf",
            "  files=tracepoint  x/y  offered by this kernel",
            "  af_xdp  IN USE by x\\x0a[1], x\\x0a[2], x\\x0a[3], x\\x0a[4] and 2 more  passes no socket",
            "Verdict: degraded: egress works here, but not all of it",
            "  - files: no lsm",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} in\n{text}");
        }
        let value: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(value["verdict"]["state"], "degraded");
        assert_eq!(value["hooks"][1]["state"], "broken");
        assert_eq!(value["blind"][0]["in_use"], true);
    }
}
