//! A file of lines, rotated by size. A line is never split, not by rotation, not by a full disk, not by a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::model::Target;

/// An append-only file with its rotated predecessors `PATH.1` (the newest) to `PATH.keep`.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    limit: u64,
    keep: u32,
    file: File,
    /// Bytes in the file; `None` where size means nothing (`/dev/null`).
    size: Option<u64>,
    id: (u64, u64),
}

impl RotatingFile {
    /// Opens a file to append to, or makes it with mode 0640. Ends a line that a crash left without its end.
    ///
    /// # Errors
    /// When it cannot be opened, is a symbolic link, or is neither a regular file nor a character device.
    pub fn open(path: &Path, limit: u64, keep: u32) -> io::Result<Self> {
        // Absolute, so that another daemon finds it too.
        let path = std::path::absolute(path)?;
        let (file, size, id) = open(&path)?;
        Ok(Self {
            path,
            limit,
            keep,
            file,
            size,
            id,
        })
    }

    /// Bytes that the file may still grow by.
    pub fn room(&self) -> u64 {
        self.size
            .map_or(u64::MAX, |size| self.limit.saturating_sub(size))
    }

    /// The file, which now ends in a line of which `begun` bytes are there. `None` where lines do not stay (`/dev/null`).
    pub fn target(&self, begun: u64) -> Option<Target<'_>> {
        Some(Target {
            path: &self.path,
            id: self.id,
            from: self.size?.saturating_sub(begun),
        })
    }

    /// Moves the file to `PATH.1`, and those before it one up; begins a new one. Only between lines.
    ///
    /// # Errors
    /// When a file cannot be moved or made. Lines then go on into the old one.
    pub fn rotate(&mut self) -> io::Result<()> {
        if matches!(self.size, None | Some(0)) {
            return Ok(());
        }
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.keep).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, numbered(1))?;
        self.reopen()
    }

    /// Begins a new file when somebody else has moved or removed this one (logrotate).
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn reopen_if_moved(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(()),
            Ok(_) => self.reopen(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.reopen(),
            Err(error) => Err(error),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size, self.id) = open(&self.path)?;
        Ok(())
    }
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.size = self.size.map(|size| size + written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn open(path: &Path) -> io::Result<(File, Option<u64>, (u64, u64))> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        // NONBLOCK: opening a FIFO that nobody reads must fail below, not wait.
        .custom_flags(
            (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC)
                .bits()
                .cast_signed(),
        )
        .open(path)?;
    let metadata = file.metadata()?;
    let id = (metadata.dev(), metadata.ino());
    if metadata.file_type().is_char_device() {
        return Ok((file, None, id));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither a regular file nor a character device; for a pipe, write to standard output with `-`",
        ));
    }
    let mut size = metadata.len();
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, Some(size), id))
}
