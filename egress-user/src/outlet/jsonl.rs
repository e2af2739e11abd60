//! JSON lines to standard output or to a file.
//!
//! In: records. Out: one JSON object a line, as [`super::ecs`] has it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use super::ecs::Document;
use super::file::RotatingFile;
use super::{Host, Outlet};
use crate::model::Record;

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
    /// Whole lines, the first of which may be partly written (see `torn`).
    held: Vec<u8>,
    /// The last write ended within a line.
    torn: bool,
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
            torn: false,
            trouble: None,
        }
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
            let (target, take): (&mut dyn Write, _) = match &mut self.target {
                Target::Stdout(stdout) => (stdout, left.len()),
                Target::File(file) => {
                    let mut take = fitting(left, self.torn, file.room());
                    if take == 0 && rotated.is_ok() {
                        rotated = file.rotate();
                        take = fitting(left, false, file.room());
                    }
                    if take == 0 {
                        // No rotation to be had, or a line larger than the limit: rather too large than lost.
                        take = first_line(left);
                    }
                    (file, take)
                }
            };
            match target.write(left.get(..take).unwrap_or(left)) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    self.torn = self.held.get(written - 1) != Some(&b'\n');
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.held.drain(..written);
        result
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
        if self.held.len() >= WRITE_AT && self.trouble.is_none() {
            self.trouble = self.write().err();
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let before = self.trouble.take();
        if let Target::File(file) = &mut self.target
            && !self.torn
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
