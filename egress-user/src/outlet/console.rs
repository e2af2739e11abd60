//! The live view: who sends what where, and alerts as they come.
//!
//! In: records. Out, on a terminal: a table of the fastest flows, drawn again each second, below the alerts, which stay.
//! Elsewhere: one plain line for each flow record and alert. All text that others chose is escaped.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::shown::Escaped;
use super::summary::{AlertSentence, Bytes, HostAlertSentence, What, Where};
use super::words::scope;
use super::{Host, Outlet};
use crate::model::{Alert, Attribution, BootTime, Flow, FlowId, ProcessKey, Record};

mod table;

use table::{Row, draw};

/// Flows in the table's memory; a host with more shows the ones that came first, and says how many it leaves out.
const MAX_FLOWS: usize = 4096;
/// A flow that has not been told for this long is no longer shown. Longer than a flow's usual interval of 10 s.
const FORGET_AFTER: Duration = Duration::from_secs(25);

/// The live view.
#[derive(Debug)]
pub struct Console {
    host: Host,
    out: File,
    terminal: bool,
    color: bool,
    flows: HashMap<(FlowId, Option<ProcessKey>), Entry>,
    left_out: u64,
    /// What is to be written above the table.
    pending: String,
    /// Lines of the table on the screen.
    drawn: usize,
}

#[derive(Debug)]
struct Entry {
    row: Row,
    told: BootTime,
    seen: Instant,
}

impl Console {
    /// On standard output. Colours on a terminal, unless `NO_COLOR` is set and not empty (<https://no-color.org>).
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn stdout(host: Host) -> io::Result<Self> {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self::new(
            host,
            stdout.as_fd().try_clone_to_owned()?.into(),
            terminal,
            color,
        ))
    }

    fn new(host: Host, out: File, terminal: bool, color: bool) -> Self {
        Self {
            host,
            out,
            terminal,
            color,
            flows: HashMap::new(),
            left_out: 0,
            pending: String::new(),
            drawn: 0,
        }
    }

    fn flow(&mut self, flow: &Flow) {
        let delta = &flow.delta;
        let moved = delta.wire_bytes.max(delta.app_bytes);
        if !self.terminal {
            let row = Row::of(flow, moved);
            let time = self.host.clock.wall(delta.last);
            // A String takes everything.
            let _ = writeln!(
                self.pending,
                "{time} flow {} {} -> {} {} user={} job={} {}",
                Bytes(moved),
                row.process,
                row.destination,
                row.scope,
                row.user,
                row.job,
                if delta.closed.is_some() {
                    "closed"
                } else {
                    "open"
                },
            );
            return;
        }
        let key = (delta.id, flow.process.as_ref().map(|process| process.key));
        if self.flows.len() >= MAX_FLOWS && !self.flows.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let now = Instant::now();
        let entry = self.flows.entry(key).or_insert_with(|| Entry {
            row: Row::of(flow, 0),
            told: delta.first,
            seen: now,
        });
        entry.row.total = entry.row.total.saturating_add(moved);
        entry.row.rate = rate(moved, delta.last.saturating_sub(entry.told));
        entry.told = delta.last;
        entry.seen = now;
    }

    /// An alert's line, above the table.
    fn raise(&mut self, at: BootTime, sentence: &dyn fmt::Display, id: &str) {
        let (bold, plain) = if self.color {
            ("\x1b[1;31m", "\x1b[0m")
        } else {
            ("", "")
        };
        let time = self.host.clock.wall(at);
        let _ = writeln!(
            self.pending,
            "{time} {bold}ALERT{plain} {sentence} [{}]",
            Escaped(id)
        );
    }

    fn alert(&mut self, alert: &Alert) {
        self.raise(alert.at, &AlertSentence(alert), &alert.id);
        if self.terminal {
            for signal in alert.signals.iter().filter(|signal| signal.holds) {
                let _ = writeln!(self.pending, "    {}", Escaped(&signal.sentence));
            }
        }
    }

    /// Alerts, then the table in place of the last one, in a single write.
    fn frame(&mut self) -> String {
        self.flows
            .retain(|_, entry| entry.seen.elapsed() < FORGET_AFTER);
        let (width, height) = rustix::termios::tcgetwinsize(&self.out)
            .ok()
            .filter(|size| size.ws_col > 0 && size.ws_row > 0)
            .map_or((80, 24), |size| {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            });
        let mut rows: Vec<&Row> = self.flows.values().map(|entry| &entry.row).collect();
        rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.rate, row.total)));
        let mut frame = String::new();
        if self.drawn > 0 {
            let _ = write!(frame, "\x1b[{}A\r\x1b[J", self.drawn);
        }
        frame.push_str(&self.pending);
        // Never as high as the screen: the cursor cannot go back to what has scrolled away.
        let table = draw(
            &rows,
            width,
            height.saturating_sub(2).min(25),
            self.left_out,
            self.color,
        );
        self.drawn = table.matches('\n').count();
        frame.push_str(&table);
        frame
    }
}

/// Bytes a second. What moved in less than a second counts as if in one.
fn rate(bytes: u64, ns: BootTime) -> u64 {
    let ns = u128::from(ns.max(1_000_000_000));
    u64::try_from(u128::from(bytes) * 1_000_000_000 / ns).unwrap_or(u64::MAX)
}

impl Row {
    fn of(flow: &Flow, total: u64) -> Self {
        let delta = &flow.delta;
        let process = match (&flow.process, delta.owner, flow.attribution) {
            (Some(process), ..) => format!("{}[{}]", process.name, process.key.tgid),
            (None, Some(owner), _) => format!("{}[{}]", delta.owner_name, owner.tgid),
            (None, None, Attribution::None(reason)) => format!("({})", reason.name()),
            (None, None, _) => "(unknown)".to_owned(),
        };
        let user = match &flow.process {
            Some(process) => match &process.user_name {
                Some(name) => Escaped(name).to_string(),
                None => process.identity.uid.to_string(),
            },
            None => delta
                .owner_uid
                .map_or_else(|| "-".to_owned(), |uid| uid.to_string()),
        };
        let destination = match (&flow.destination, delta.remote) {
            (Some(destination), _) => Where(destination).to_string(),
            (None, Some(remote)) => format!("{remote}/{}", delta.transport.name()),
            (None, None) => format!("-/{}", delta.transport.name()),
        };
        Self {
            rate: 0,
            total,
            process,
            user,
            job: flow
                .job
                .as_ref()
                .map_or_else(|| "-".to_owned(), |job| What(job).to_string()),
            destination,
            scope: flow
                .scope()
                .map_or_else(|| "-".to_owned(), |far| Escaped(scope(far)).to_string()),
        }
    }
}

impl Outlet for Console {
    fn name(&self) -> &'static str {
        "console"
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        /// While nothing can be written, this much waits, bytes.
        const HOLD: usize = 1 << 20;
        // A burst of records, between two flushes, is no reason to lose one.
        if self.pending.len() > HOLD && self.flush().is_err() {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "nobody reads the live view",
            ));
        }
        match record {
            Record::Flow(flow) => self.flow(flow),
            Record::Alert(alert) => self.alert(alert),
            Record::HostAlert(alert) => {
                self.raise(alert.at, &HostAlertSentence(alert), &alert.id);
            }
            Record::Exec { .. }
            | Record::File { .. }
            | Record::Blind { .. }
            | Record::Health(_)
            | Record::Gap(_) => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.terminal {
            let frame = self.frame();
            self.out.write_all(frame.as_bytes())?;
            self.pending.clear();
            return Ok(());
        }
        while !self.pending.is_empty() {
            match self.out.write(self.pending.as_bytes()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    // The rest of a character cut in two is dropped with it: escaped text has few of them.
                    let count =
                        (count..=self.pending.len()).find(|at| self.pending.is_char_boundary(*at));
                    self.pending.drain(..count.unwrap_or(self.pending.len()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
