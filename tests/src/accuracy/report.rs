//! A run as a table, as JSON, and as the page docs/accuracy.md.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};

use super::{Outcome, Suite, Verdict};
use crate::command::run;

/// Columns of the table.
const HEADINGS: [&str; 8] = [
    "scenario",
    "way of sending",
    "app truth",
    "app measured",
    "wire truth",
    "wire measured",
    "attributed to",
    "verdict",
];

/// Exit code of a run in which all is exact that can run here.
pub const EXACT: u8 = 0;
/// Exit code of a run in which something is not exact.
pub const WRONG: u8 = 1;
/// Exit code when nothing could be measured.
pub const FAILED: u8 = 2;

/// The table, aligned for a terminal.
#[must_use]
pub fn table(suite: &Suite) -> String {
    let rows: Vec<[String; 8]> = [HEADINGS.map(str::to_owned)]
        .into_iter()
        .chain(suite.outcomes.iter().map(row))
        .collect();
    // The last column may be long: it is not padded.
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row).take(7) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column {
            2..=5 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        table += line.trim_end();
        table.push('\n');
    }
    table + "\n" + &summary(suite) + "\n"
}

/// How many of each verdict.
#[must_use]
pub fn summary(suite: &Suite) -> String {
    let count = |wanted: fn(&Verdict) -> bool| {
        suite
            .outcomes
            .iter()
            .filter(|outcome| wanted(&outcome.verdict))
            .count()
    };
    format!(
        "{} exact, {} not exact, {} not run, in {:.0?}",
        count(|verdict| matches!(verdict, Verdict::Exact)),
        count(|verdict| matches!(verdict, Verdict::Wrong(_))),
        count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        suite.took,
    )
}

/// One object for each scenario, and where it was measured.
#[must_use]
pub fn json(suite: &Suite) -> Value {
    let scenarios: Vec<_> = suite.outcomes.iter().map(object).collect();
    json!({ "kernel": kernel(), "egress": version(), "date": date(), "scenarios": scenarios })
}

fn object(outcome: &Outcome) -> Value {
    let (verdict, why) = match &outcome.verdict {
        Verdict::Exact => ("exact", Vec::new()),
        Verdict::Wrong(why) => ("wrong", why.clone()),
        Verdict::Skipped(why) => ("skipped", vec![why.clone()]),
    };
    let bytes = |(truth, measured): (u64, u64)| json!({ "truth": truth, "measured": measured });
    json!({
        "name": outcome.scenario.name,
        "way": outcome.scenario.way,
        "app_bytes": bytes(outcome.app),
        "wire_bytes": bytes(outcome.wire),
        "unseen_bytes": outcome.unseen,
        "attributed_to": outcome.attributed,
        "verdict": verdict,
        "why": why,
    })
}

fn row(outcome: &Outcome) -> [String; 8] {
    let scenario = outcome.scenario;
    let (name, way) = (scenario.name.to_owned(), scenario.way.to_owned());
    if let Verdict::Skipped(why) = &outcome.verdict {
        let none = String::new;
        return [
            name,
            way,
            none(),
            none(),
            none(),
            none(),
            none(),
            format!("not run: {why}"),
        ];
    }
    let verdict = match &outcome.verdict {
        Verdict::Wrong(why) => format!("WRONG: {}", why.join("; ")),
        _ if outcome.unseen > 0 => {
            format!(
                "exact, but for {} bytes unseen: {}",
                outcome.unseen, scenario.unseen.what
            )
        }
        _ => "exact".into(),
    };
    [
        name,
        way,
        outcome.app.0.to_string(),
        outcome.app.1.to_string(),
        outcome.wire.0.to_string(),
        outcome.wire.1.to_string(),
        outcome.attributed.clone(),
        verdict,
    ]
}

/// The page.
#[must_use]
pub fn page(suite: &Suite) -> String {
    let mut page = format!(
        "# Accuracy\n\n\
         <!-- Written by `cargo xtask accuracy`; changes by hand are lost. -->\n\n\
         What egress tells of each way of sending, beside two truths that know nothing of it. Measured on {}, on Linux {} \
         ({}, {}), by {}: {}. Run it on your own host, as root:\n\n\
         ```sh\ncargo xtask accuracy\n```\n\n",
        date(),
        kernel(),
        distribution(),
        std::env::consts::ARCH,
        version(),
        summary(suite),
    );
    page += ABOUT;
    page += "\n## Result\n\n";
    let _ = writeln!(
        page,
        "| {} |\n|{}",
        HEADINGS.join(" | "),
        "---|".repeat(HEADINGS.len())
    );
    for outcome in &suite.outcomes {
        if !matches!(outcome.verdict, Verdict::Skipped(_)) {
            let _ = writeln!(
                page,
                "| {} |",
                row(outcome)
                    .map(|cell| cell.replace('|', "\\|"))
                    .join(" | ")
            );
        }
    }
    page += "\n## Not run here\n\n";
    let mut skipped = false;
    for outcome in &suite.outcomes {
        if let Verdict::Skipped(why) = &outcome.verdict {
            skipped = true;
            let scenario = outcome.scenario;
            let _ = writeln!(page, "- `{}` ({}): {why}", scenario.name, scenario.way);
        }
    }
    if !skipped {
        page += "Nothing: this kernel has all that the suite can ask for.\n";
    }
    page += "\n## To know when reading it\n\n";
    for outcome in suite
        .outcomes
        .iter()
        .filter(|outcome| !outcome.scenario.note.is_empty())
    {
        let _ = writeln!(
            page,
            "- `{}`: {}.",
            outcome.scenario.name, outcome.scenario.note
        );
    }
    page += LIMITS;
    page
}

const ABOUT: &str = "\
## What is run

Two network namespaces, source and sink, are joined by a veth pair without offloads, so that what crosses it is the
packets that a real wire would carry. One daemon watches the host while the scenarios run, one after the other, each with
a destination address of its own and a generator with one way of sending. Nothing leaves the machine: addresses are of
the documentation ranges (RFC 5737, RFC 3849).

## What *exact* means

- **Application bytes**: the sum of what the generator's system calls returned. Tolerance: zero.
- **Wire bytes**: what nftables counted in the receiving namespace, at the IP layer, before anything there could drop or
  change a packet: headers, handshakes, acknowledgements and retransmissions included. Tolerance: zero, in sum and for
  each socket.
- **Attribution**: every one of these bytes is with the right process (pid and executable), its user, the direction
  (initiated or accepted), the destination's address, port, transport and scope; and none is with another process. Of a
  TCP socket that several processes use, app bytes are judged for each process, wire bytes for the socket (see the limits).
- **Books**: the daemon's ledger balances in every health record, and its flow records add up to the last one.

*Unseen* bytes are those for which no hook runs at the IP layer, for a reason that is known and given. Only the scenarios
that are about them may have any, and no more than the reason explains, to the byte.
";

const LIMITS: &str = "
## Known limits

- The last acknowledgement of a connection that this host closed first comes from `TIME_WAIT`, for no full socket, and
  passes no cgroup hook: 52 bytes over IPv4, 72 over IPv6. Likewise a reset over IPv6 that answers a segment without a
  socket (60 bytes).
- When several processes write to one TCP connection, app bytes are each one's own, exactly; a packet is counted to
  whoever's call had ended last, as the stream does not say whose its bytes are. So the packets of a process's first call
  are with the process before it; the sum is exact.
- Which of the processes at one socket is told as exact, and which as inherited, follows the order in which the daemon
  reads their counters: where all of them use it within one reading, that may be another than the order of their calls.
- netem is not used for losses: it would drop packets after the hook and before the truth. The sink drops them after it
  has counted them.
";

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// `PRETTY_NAME` of os-release(5).
fn distribution() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("unknown distribution")
        .trim_matches('"')
        .to_owned()
}

/// What `egress --version` says.
fn version() -> String {
    let said = crate::daemon::binary().and_then(|path| run(Command::new(path).arg("--version")));
    said.unwrap_or_default().trim().to_owned()
}

/// Today, UTC, by ISO 8601.
fn date() -> String {
    let said = run(Command::new("date").args(["-u", "+%F"]));
    said.unwrap_or_default().trim().to_owned()
}
