//! JSON lines to standard output or to a file.
//!
//! In: records. Out: one JSON object a line, as [`super::ecs`] has it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use super::ecs::Document;
use super::file::RotatingFile;
use super::{Host, JournalCell, Outlet};
use crate::model::{Record, Told};
use egress_common::state::INTENTS;

/// From this many bytes on, lines are written without waiting for the flush.
const WRITE_AT: usize = 64 << 10;
/// Lines that wait while nothing can be written, bytes; a line that finds no place is lost, and counted.
const HOLD: usize = 4 << 20;

/// The JSON lines outlet.
#[derive(Debug)]
pub struct Jsonl {
    host: Host,
    target: Target,
    /// The line that is being made.
    line: Vec<u8>,
    /// Whole lines, the first of which may be partly written (see `begun`).
    held: Vec<u8>,
    /// What they tell, each with where its line ends in `held`.
    tells: VecDeque<(usize, Told)>,
    /// Where that is noted once it is written.
    journal: JournalCell,
    /// Bytes of the last line that are written, when its end is not.
    begun: u64,
    /// What went wrong since the last flush, to be told by it.
    trouble: Option<io::Error>,
}

#[derive(Debug)]
enum Target {
    Stdout(File),
    File(RotatingFile),
}

impl Jsonl {
    /// To standard output.
    ///
    /// # Errors
    /// When it is closed.
    pub fn stdout(host: Host) -> io::Result<Self> {
        // A descriptor of its own: std's handle would flush at every line.
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self::new(host, Target::Stdout(stdout.into())))
    }

    /// To a file: appended to, made with mode 0640, never through a symbolic link; rotated before it would grow beyond
    /// `rotate_bytes`, with `keep` older ones beside it.
    ///
    /// # Errors
    /// When it cannot be opened; the message names it.
    pub fn file(host: Host, path: &Path, rotate_bytes: u64, keep: u32) -> io::Result<Self> {
        let file = RotatingFile::open(path, rotate_bytes, keep).map_err(|error| {
            let why = match error.raw_os_error() {
                Some(libc::ELOOP) => "it is a symbolic link, which is not followed".to_owned(),
                _ => error.to_string(),
            };
            io::Error::new(
                error.kind(),
                format!("cannot write events to {}: {why}", path.display()),
            )
        })?;
        Ok(Self::new(host, Target::File(file)))
    }

    fn new(host: Host, target: Target) -> Self {
        Self {
            host,
            target,
            line: Vec::new(),
            held: Vec::new(),
            tells: VecDeque::new(),
            journal: JournalCell::default(),
            begun: 0,
            trouble: None,
        }
    }

    /// With a journal in which it notes what is written.
    #[must_use]
    pub fn noting(mut self, journal: JournalCell) -> Self {
        self.journal = journal;
        self
    }

    /// Writes what is held, rotating between lines. What could not be written stays.
    fn write(&mut self) -> io::Result<()> {
        let mut rotated = Ok(());
        let mut written = 0;
        let result = loop {
            let left = self.held.get(written..).unwrap_or_default();
            if left.is_empty() {
                break rotated;
            }
            let take = match &mut self.target {
                Target::Stdout(_) => left.len(),
                Target::File(file) => {
                    let mut take = fitting(left, self.begun > 0, file.room());
                    if take == 0 && rotated.is_ok() {
                        rotated = file.rotate();
                        take = fitting(left, false, file.room());
                    }
                    if take == 0 {
                        // No rotation to be had, or a line larger than the limit: rather too large than lost.
                        take = first_line(left);
                    }
                    take
                }
            };
            let take = self.intend(written, take);
            let lines = left.get(..take).unwrap_or(left);
            let done = match &mut self.target {
                Target::Stdout(stdout) => stdout.write(lines),
                Target::File(file) => file.write(lines),
            };
            match done {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    let chunk = lines.get(..count).unwrap_or(lines);
                    let end = chunk.iter().rposition(|byte| *byte == b'\n');
                    self.begun = match end {
                        Some(end) => (chunk.len() - end - 1) as u64,
                        None => self.begun + chunk.len() as u64,
                    };
                    written += count;
                    self.note(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.held.drain(..written);
        for (end, _) in &mut self.tells {
            *end -= written;
        }
        result
    }

    /// Notes what the next `take` bytes will tell, and returns how many of them the journal has room for.
    fn intend(&self, written: usize, take: usize) -> usize {
        let Target::File(file) = &self.target else {
            return take;
        };
        let Some(target) = file.target(self.begun) else {
            return take;
        };
        let (mut limit, mut last, mut counters) = (written + take, written, 0);
        let mut count = 0;
        for (end, told) in &self.tells {
            counters += usize::from(matches!(told, Told::Counters(..)));
            if *end > limit {
                break;
            }
            if count == INTENTS || counters > 1 {
                limit = last;
                break;
            }
            (count, last) = (count + 1, *end);
        }
        let size = target.from + self.begun;
        self.journal.with(|journal| {
            let tells = self.tells.iter().take(count);
            journal.intend(
                target,
                &mut tells.map(|(end, told)| (size + (*end - written) as u64, told)),
            );
        });
        limit - written
    }

    /// Notes what is told by the lines up to `written`.
    fn note(&mut self, written: usize) {
        while let Some((_, told)) = self.tells.pop_front_if(|(end, _)| *end <= written) {
            self.journal.with(|journal| journal.told(&told));
        }
        self.journal.with(|journal| journal.done());
    }
}

/// Bytes of the first line, its end included.
fn first_line(lines: &[u8]) -> usize {
    lines
        .iter()
        .position(|b| *b == b'\n')
        .map_or(lines.len(), |end| end + 1)
}

/// Bytes of the whole lines that fit into `room`; the rest of a line already begun always does.
fn fitting(lines: &[u8], torn: bool, room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(lines.len());
    let whole = lines
        .get(..room)
        .unwrap_or(lines)
        .iter()
        .rposition(|b| *b == b'\n');
    match whole {
        Some(end) => end + 1,
        None if torn => first_line(lines),
        None => 0,
    }
}

impl Outlet for Jsonl {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, &Document::new(record, &self.host))?;
        self.line.push(b'\n');
        if self.held.len() + self.line.len() > HOLD {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("{} bytes of lines wait already", self.held.len()),
            ));
        }
        self.held.extend_from_slice(&self.line);
        if let Some(told) = Told::by(record) {
            self.tells.push_back((self.held.len(), told));
        }
        if self.held.len() >= WRITE_AT && self.trouble.is_none() {
            self.trouble = self.write().err();
        }
        Ok(())
    }

    fn notes(&self) -> bool {
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        let before = self.trouble.take();
        if let Target::File(file) = &mut self.target
            && self.begun == 0
        {
            file.reopen_if_moved()?;
        }
        self.write()?;
        before.map_or(Ok(()), Err)
    }
}

impl Drop for Jsonl {
    fn drop(&mut self) {
        let lines = self.held.split(|byte| *byte == b'\n').count() - 1;
        if lines > 0 {
            log::error!("jsonl: {lines} records could not be written and are lost");
        }
    }
}

#[cfg(test)]
mod tests;
