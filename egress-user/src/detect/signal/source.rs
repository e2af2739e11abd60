//! Source: sensitive files were read.
//!
//! Using a key is not sending it: `ssh` reads a private key and `kubectl` its configuration each time. What tells
//! them apart is who read and how much was sent: data is handed on by another process, or makes up what was sent.

use super::{Bytes, float, share};
use crate::model::{Signal, SignalKind};

/// What one episode's process read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::detect) struct Reading {
    /// Sensitive files.
    pub files: usize,
    /// Their size together.
    pub bytes: u64,
    /// One of them was read by another process, which handed the data on.
    pub handed_on: bool,
    /// An archiver, compressor or encrypter read one of them, or is above the sender.
    pub archived: bool,
    /// Application bytes that the episode sent.
    pub sent: u64,
    /// Nothing is known to be missing.
    pub complete: bool,
}

/// From here on sensitive data is what was sent, rather than a credential that was used.
pub(in crate::detect) const STRONG: f64 = 0.5;

impl Reading {
    /// 0 without a sensitive file. Else by the share of the sent bytes that the files can explain: 0.1 to 0.5 below one half,
    /// 0.7 to 1 above, 1 from 0.9 on (compression makes the share large, framing and base64 make it small). At least
    /// 0.7 when another process handed the data on, 0.9 when it was archived on the way.
    pub(in crate::detect) fn score(&self) -> f64 {
        if self.files == 0 {
            return 0.0;
        }
        let explained = share(float(self.bytes), float(self.sent));
        let by_size = if explained >= 0.5 {
            0.7 + 0.3 * ((explained - 0.5) / 0.4).min(1.0)
        } else {
            0.1 + 0.8 * explained
        };
        let by_reader = match (self.handed_on, self.archived) {
            (_, true) => 0.9,
            (true, false) => 0.7,
            (false, false) => 0.0,
        };
        by_size.max(by_reader)
    }
}

/// `strongest`: the reading with the highest score among the recent episodes; `files`: sensitive files gathered over all.
pub(in crate::detect) fn judge(strongest: &Reading, files: usize) -> Signal {
    let value = if strongest.files == 0 {
        0.0
    } else {
        super::len(files.max(strongest.files))
    };
    let sentence = if strongest.files == 0 {
        let known = if strongest.complete {
            ""
        } else {
            " The lineage is incomplete."
        };
        format!("No sensitive file is known to have been read.{known}")
    } else {
        format!(
            "{} sensitive files read, {} in one transfer that sent {}{}{}.",
            value,
            Bytes(strongest.bytes),
            Bytes(strongest.sent),
            if strongest.handed_on {
                ", handed on by another process"
            } else {
                ""
            },
            if strongest.archived {
                ", through an archiver"
            } else {
                ""
            },
        )
    };
    Signal {
        kind: SignalKind::Source,
        holds: value >= 1.0,
        score: strongest.score(),
        value,
        threshold: 1.0,
        baseline: None,
        sentence,
    }
}

/// Whether an executable packs, compresses or encrypts, by its file name. It only ever adds to a score.
pub(in crate::detect) fn is_archiver(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 22] = [
        b"tar", b"bsdtar", b"cpio", b"ar", b"zip", b"7z", b"7za", b"7zr", b"rar", b"gzip", b"pigz",
        b"bzip2", b"pbzip2", b"xz", b"zstd", b"lz4", b"gpg", b"gpg2", b"age", b"openssl", b"split",
        b"base64",
    ];
    NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::{Reading, STRONG, is_archiver, judge};

    fn reading(bytes: u64, sent: u64) -> Reading {
        Reading {
            files: 1,
            bytes,
            sent,
            complete: true,
            ..Reading::default()
        }
    }

    #[test]
    fn sending_a_file_is_not_using_a_key() {
        assert!(reading(20_000, 20_300).score() > 0.99);
        assert!(reading(20_000, 27_000).score() > STRONG, "base64");
        assert!(
            reading(100_000_000, 1_000_000).score() > 0.99,
            "one piece of it"
        );
        assert!(
            reading(2_600, 10_000_000).score() < 0.15,
            "ssh with its key"
        );
        let piped = Reading {
            handed_on: true,
            ..reading(2_600, 10_000_000)
        };
        assert!(piped.score() > STRONG, "tar that has a key in it");
        assert!(!judge(&Reading::default(), 0).holds);
        assert!(judge(&reading(1, 1), 1).holds);
        assert!(reading(0, 0).score() < STRONG);
    }

    #[test]
    fn archivers_by_exact_name() {
        assert!(is_archiver(b"tar") && !is_archiver(b"start") && !is_archiver(b""));
    }
}
