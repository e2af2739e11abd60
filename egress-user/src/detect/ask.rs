//! What the lineage tells of an episode.

use std::collections::{BTreeMap, BTreeSet};

use super::labels::Labels;
use super::origins::{FileRead, Origins};
use super::pair::{Episode, FILES, same_file};
use super::signal::source::{Reading, is_archiver};
use crate::lineage::is_clutter;
use crate::model::{FileEvidence, FileId, FileRef, Job, Process, ProcessKey, Text};

/// A pipeline's members start within this of each other, ns; what a member read before the sender started counts.
const BEFORE: u64 = 60_000_000_000;

/// What reached the process of an episode.
pub(super) struct Asked {
    pub(super) reading: Reading,
    /// Files with a label, the largest first.
    pub(super) sensitive: Vec<FileEvidence>,
    /// Files without, the largest first; what loaders and runtimes read for themselves last.
    pub(super) others: Vec<FileEvidence>,
}

/// Asks for everything read since the process began: a long-lived sender may have read long before it sent, and an
/// open is told only once for each process and file. The script and the executable themselves are no source.
pub(super) fn ask(
    origins: &dyn Origins,
    labels: &Labels,
    (job, process): (&Job, &Process),
    episode: &Episode,
) -> Asked {
    let sender = process.key;
    let since = sender.start_ns.min(episode.start.saturating_sub(BEFORE));
    let sources = origins.sources(sender, since);
    let own = |read: &FileRead| {
        let id = read.file.id;
        id == process.executable.id
            || job
                .script
                .as_ref()
                .is_some_and(|script| script.file == Some(id) || script.path == read.file.path)
    };
    let mut seen = BTreeSet::<(FileId, Option<Text>)>::new();
    let mut archivers = BTreeMap::<ProcessKey, bool>::new();
    let mut archiver = |reader: ProcessKey| {
        *archivers.entry(reader).or_insert_with(|| {
            origins.ancestors(reader).iter().any(|above| {
                // The sender itself is not on the way to itself.
                above.key != sender && is_archiver(above.executable.path.file_name())
            })
        })
    };
    let mut asked = Asked {
        reading: Reading {
            complete: sources.complete,
            sent: episode.moved.app,
            ..Reading::default()
        },
        sensitive: Vec::new(),
        others: Vec::new(),
    };
    for read in sources.files {
        let identity = identity(&read.file);
        if own(&read) || seen.contains(&identity) {
            continue;
        }
        let labels = labels.of(&read.file.path);
        if !labels.is_empty() {
            // Only a sensitive name settles a file: it can be read under another first.
            seen.insert(identity);
            asked.reading.files += 1;
            asked.reading.bytes = asked.reading.bytes.saturating_add(read.file.size);
            asked.reading.handed_on |= read.by != sender;
            asked.reading.archived |= archiver(read.by);
        }
        let files = if labels.is_empty() {
            &mut asked.others
        } else {
            &mut asked.sensitive
        };
        files.push(FileEvidence {
            file: read.file,
            labels,
            read_at: read.at,
        });
    }
    for files in [&mut asked.sensitive, &mut asked.others] {
        let clutter = |file: &FileEvidence| is_clutter(file.file.path.as_bytes());
        files.sort_by(|a, b| (clutter(a), order(a)).cmp(&(clutter(b), order(b))));
        let mut told = BTreeSet::new();
        files.retain(|file| told.insert(identity(&file.file)));
        files.truncate(FILES);
    }
    let Asked {
        sensitive, others, ..
    } = &mut asked;
    others.retain(|other| {
        sensitive
            .iter()
            .all(|file| !same_file(&file.file, &other.file))
    });
    asked
}

/// A file without an inode number is known by its path alone.
fn identity(file: &FileRef) -> (FileId, Option<Text>) {
    (file.id, (file.id.ino == 0).then(|| file.path.clone()))
}

/// The largest first, then by identity and path, the latest read of each first: the same on replay.
fn order(file: &FileEvidence) -> impl Ord + '_ {
    use std::cmp::Reverse;
    (
        Reverse(file.file.size),
        file.file.id,
        &file.file.path,
        Reverse(file.read_at),
    )
}
