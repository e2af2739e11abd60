//! What an events file says of a daemon that was killed while it wrote.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::Kept;

/// Files looked at in the folder of an events file that was moved.
const FILES_MAX: usize = 10_000;
/// Bytes that one write can have left behind its beginning: more than lines that wait can be.
const TAIL_MAX: u64 = 16 << 20;

impl Kept {
    /// Notes as told what a daemon that was killed had written without noting it, and takes away the beginning of a line
    /// that it could not end, which will be told again. To be called before anybody opens the events file.
    pub fn recover(&self) {
        let Some((path, id, from)) = self.target() else {
            return;
        };
        let found = path.as_deref().and_then(|path| find(path, id));
        let length = found.as_ref().map(|file| whole_lines(file, from));
        match length {
            Some(Ok(length)) => {
                for intended in self.intended() {
                    if intended.end <= length {
                        self.confirm(&intended);
                    }
                }
            }
            Some(Err(error)) => log::warn!(
                "the events file of the daemon before cannot be read ({error}): its last records may be told twice"
            ),
            None if self.intended().is_empty() => {}
            None => log::warn!(
                "the events file of the daemon before is gone: its last records may be told twice"
            ),
        }
        crate::model::Journal::done(self);
    }
}

/// The file with this identity: at its path, or moved within its folder (rotated).
fn find(path: &Path, id: (u64, u64)) -> Option<File> {
    let open = |path: &Path| {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .ok()?;
        let metadata = file.metadata().ok()?;
        (metadata.is_file() && (metadata.dev(), metadata.ino()) == id).then_some(file)
    };
    open(path).or_else(|| {
        let entries = fs::read_dir(path.parent()?).ok()?;
        let mut same = entries
            .take(FILES_MAX)
            .flatten()
            .filter(|entry| entry.ino() == id.1);
        same.find_map(|entry| open(&entry.path()))
    })
}

/// Length of the file in whole lines, to which it is cut, if what is behind them was begun by the write at `from`.
fn whole_lines(mut file: &File, from: u64) -> io::Result<u64> {
    let size = file.metadata()?.len();
    if size <= from || size - from > TAIL_MAX {
        return Ok(size);
    }
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(TAIL_MAX).read_to_end(&mut tail)?;
    let end = tail.iter().rposition(|byte| *byte == b'\n');
    let length = from + end.map_or(0, |end| end as u64 + 1);
    if length < size {
        file.set_len(length)?;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use super::{Kept, find, whole_lines};
    use crate::model::{Counts, Figures, Journal as _, Mark, Target, Told};

    fn flow(slot: u32, bytes: u64) -> Told {
        Told::Flow(Mark {
            epoch: 7,
            slot,
            figures: Figures {
                app_bytes: bytes,
                wire_bytes: 2 * bytes,
                ..Figures::default()
            },
        })
    }

    fn counters(events: u64) -> Told {
        let mut counts = Counts::default();
        counts[3].events = events;
        Told::Counters(7, Box::new(counts))
    }

    /// A daemon that is killed when `written` bytes of its three lines, after one that it had noted, are in the file.
    fn killed_at(dir: &Path, written: usize) -> File {
        let kept = Kept::in_files(dir, 64, 7);
        let path = dir.join("events");
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        let metadata = file.metadata().unwrap();
        let target = |from| Target {
            path: &path,
            id: (metadata.dev(), metadata.ino()),
            from,
        };
        kept.intend(target(0), &mut [(6, &flow(1, 10))].into_iter());
        file.write_all(b"first\n").unwrap();
        kept.told(&flow(1, 10));
        kept.done();
        let lines = [(10, &flow(1, 15)), (14, &counters(9)), (20, &flow(2, 40))];
        kept.intend(target(6), &mut lines.into_iter());
        file.write_all(&b"one\ntwo\nthree\n"[..written]).unwrap();
        file
    }

    #[test]
    fn what_a_kill_left_in_the_file_is_told_and_the_rest_is_not() {
        for (written, length, told) in [
            (0, 6, (10, 0, 0)),
            (3, 6, (10, 0, 0)),
            (4, 10, (15, 0, 0)),
            (7, 10, (15, 0, 0)),
            (8, 14, (15, 9, 0)),
            (13, 14, (15, 9, 0)),
            (14, 20, (15, 9, 40)),
        ] {
            let dir = tempfile::tempdir().unwrap();
            killed_at(dir.path(), written);
            if written % 2 == 1 {
                // As logrotate does.
                fs::rename(dir.path().join("events"), dir.path().join("events.old")).unwrap();
            }
            // Another daemon, with the same maps.
            let kept = Kept::in_files(dir.path(), 64, 7);
            for _ in 0..2 {
                kept.recover();
                let found = (
                    kept.figures(1).app_bytes,
                    kept.counters()[3].events,
                    kept.figures(2).app_bytes,
                );
                assert_eq!(found, told, "{written} bytes written");
                assert_eq!(kept.figures(2).wire_bytes, 2 * found.2);
            }
            let path = dir.path().join(if written % 2 == 1 {
                "events.old"
            } else {
                "events"
            });
            assert_eq!(fs::metadata(path).unwrap().len(), length, "{written}");
        }
    }

    #[test]
    fn without_the_file_nothing_is_taken_for_told() {
        let dir = tempfile::tempdir().unwrap();
        killed_at(dir.path(), 14);
        fs::remove_file(dir.path().join("events")).unwrap();
        let kept = Kept::in_files(dir.path(), 64, 7);
        kept.recover();
        assert_eq!(
            (kept.figures(1).app_bytes, kept.figures(2).app_bytes),
            (10, 0)
        );
        assert!(kept.intended().is_empty());
    }

    #[test]
    fn what_is_told_never_shrinks_and_is_of_its_own_maps() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::in_files(dir.path(), 64, 7);
        kept.told(&flow(5, 100));
        kept.told(&flow(5, 90));
        kept.told(&Told::Flow(Mark {
            epoch: 6,
            slot: 5,
            figures: Figures::of([1000; 5]),
        }));
        kept.told(&flow(64, 1));
        assert_eq!(kept.figures(5).app_bytes, 100);
        // A slot's lives: used, taken back, handed out again.
        assert_eq!(kept.retired(5, 44), None);
        kept.set_flow(5, 9);
        kept.retire(5, 44);
        assert_eq!((kept.retired(5, 44), kept.flow(5)), (Some(false), 9));
        kept.free(5);
        assert_eq!((kept.retired(5, 44), kept.flow(5)), (Some(true), 0));
        assert_eq!(kept.retired(5, 45), None, "somebody else's");
    }

    #[test]
    fn a_torn_line_goes_and_what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        for (text, from, whole) in [
            ("one\ntwo\n", 4, 8),
            ("one\ntwo\nthr", 4, 8),
            ("one\nt", 4, 4),
            ("one\n", 4, 4),
            // Nobody began that line at `from`.
            ("o", 4, 1),
            ("", 0, 0),
        ] {
            fs::write(&path, text).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            assert_eq!(whole_lines(&file, from).unwrap(), whole, "{text:?}");
            assert_eq!(fs::metadata(&path).unwrap().len(), whole, "{text:?}");
        }
    }

    #[test]
    fn a_rotated_file_is_found_by_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        fs::write(&path, "x\n").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let id = (metadata.dev(), metadata.ino());
        assert!(find(&path, id).is_some());
        fs::rename(&path, dir.path().join("events.1")).unwrap();
        fs::write(&path, "new\n").unwrap();
        let found = find(&path, id).expect("found beside it");
        assert_eq!(found.metadata().unwrap().len(), 2);
        fs::remove_file(dir.path().join("events.1")).unwrap();
        drop(found);
        assert!(find(&path, (id.0, u64::MAX)).is_none());
    }
}
