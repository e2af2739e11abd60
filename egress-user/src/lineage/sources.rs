//! Which files may be in what a process sends.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Lineage;
use super::files::{Read, is_clutter};
use super::staging::Frozen;
use crate::model::{BootTime, FileId, FileRef, ProcessKey, Script, Stdio};

/// Files told.
const FILES_MAX: usize = 256;
/// Edges followed from the process that sends.
const DEPTH_MAX: u8 = 8;
/// Steps taken in all.
const STEPS_MAX: usize = 512;
/// Generations below a script that are looked at: its commands, and those of its subshells. What a command starts in its
/// turn is that command's own: a script that starts a whole service is not the gatherer of all that the service reads.
const GENERATIONS_MAX: u8 = 2;
/// How long before a transfer a script's other commands may have gathered what it sends, ns: 1 hour. Longer ago
/// only what they wrote to a file that was then read counts.
const GATHER_NS: u64 = 3600 * 1_000_000_000;
/// Distance of what the script around the process did, from what it did itself.
const AROUND: u8 = 100;

/// Where the bytes of a process may come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files, each once, at most 256. First those that data is kept in, then what loaders and runtimes read for
    /// themselves (an order, and no judgement); among these the nearest first (own reads, then pipes and staged
    /// files, then the rest of the script), then the latest.
    pub files: Vec<FileRead>,
    /// Whether that is all: no bound cut it, nothing was forgotten, and every process in it was watched all along.
    pub complete: bool,
}

/// A process read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRead {
    /// Which, under the name by which it was opened.
    pub file: FileRef,
    /// When it was last seen to be opened.
    pub at: BootTime,
    /// By whom.
    pub by: ProcessKey,
}

/// Reads of one process within a time.
#[derive(Clone, Copy)]
struct Step {
    key: ProcessKey,
    from: BootTime,
    until: BootTime,
    depth: u8,
    distance: u8,
}

struct Walk<'a> {
    lineage: &'a Lineage,
    todo: VecDeque<Step>,
    seen: HashMap<ProcessKey, (BootTime, BootTime)>,
    found: HashMap<FileId, (u8, ProcessKey, Read)>,
    complete: bool,
    steps: usize,
}

impl Lineage {
    /// The files that may be in what a process sends:
    ///
    /// - what it read itself since `since` (whatever program it ran then), its standard input if that is a file,
    /// - what those read that write into its standard input, through any number of pipes; if nobody is known to
    ///   (a shell writes there without executing anything), what the process read that made it,
    /// - what those read that wrote a file before it was read here, also long ago and of processes long gone
    ///   (staging),
    /// - what the script around it read, it and its other commands, up to an hour before `since`:
    ///   `curl -d "$(cat secret)"`.
    ///
    /// The kernel side tells an open of the same file by the same process once: a process that opens a file again
    /// after `since` is not seen to. Who has to be certain asks since 0.
    #[must_use]
    pub fn sources(&self, key: ProcessKey, since: BootTime) -> Sources {
        let (mut found, complete) = self.walk(key, since, true);
        let cut = found.len() > FILES_MAX;
        found.truncate(FILES_MAX);
        let mut complete = complete && !cut;
        let mut files = Vec::with_capacity(found.len());
        for (by, read) in found {
            match self.files.get(read.id, read.name) {
                Some(file) => files.push(FileRead {
                    file,
                    at: read.last,
                    by: self.resolve(by),
                }),
                None => complete = false,
            }
        }
        Sources { files, complete }
    }

    /// The sources of a process that ends, for those who read what it wrote. What its script did counts only for the
    /// script itself: its commands are asked one by one.
    pub(super) fn freeze(&self, key: ProcessKey) -> Frozen {
        let is_script = self.script_around(key) == Some(self.resolve(key));
        let (mut reads, complete) = self.walk(key, 0, is_script);
        let cut = reads.len() > FILES_MAX;
        reads.truncate(FILES_MAX);
        Frozen {
            reads: reads.into(),
            complete: complete && !cut,
        }
    }

    /// All reads found, in order.
    fn walk(
        &self,
        key: ProcessKey,
        since: BootTime,
        around: bool,
    ) -> (Vec<(ProcessKey, Read)>, bool) {
        let mut walk = Walk {
            lineage: self,
            todo: VecDeque::new(),
            seen: HashMap::new(),
            found: HashMap::new(),
            complete: true,
            steps: 0,
        };
        walk.follow(Step {
            key,
            from: since,
            until: BootTime::MAX,
            depth: 0,
            distance: 0,
        });
        walk.run();
        if around {
            walk.around(key, since);
        }
        let mut found: Vec<_> = walk
            .found
            .into_values()
            .map(|(distance, by, read)| {
                let file = self.files.get(read.id, read.name);
                let clutter = file.is_some_and(|file| is_clutter(file.path.as_bytes()));
                ((clutter, distance, Reverse(read.last), read.id), by, read)
            })
            .collect();
        found.sort_unstable_by_key(|(order, ..)| *order);
        let found = found.into_iter().map(|(_, by, read)| (by, read)).collect();
        (found, walk.complete)
    }

    /// The outermost process that runs the nearest script, among a process and its makers: subshells are copies.
    fn script_around(&self, key: ProcessKey) -> Option<ProcessKey> {
        let mut nearest: Option<(ProcessKey, &Arc<Script>)> = None;
        for (key, entry) in self.table.line(key) {
            match (&nearest, &entry.process.script) {
                (None, Some(script)) => nearest = Some((key, script)),
                (Some((_, script)), Some(same)) if *script == same => {
                    nearest = Some((key, same));
                }
                (Some(_), _) => break,
                (None, None) => {}
            }
        }
        nearest.map(|(key, _)| key)
    }
}

impl Walk<'_> {
    /// Puts a step on the list, unless everything in it was seen.
    fn follow(&mut self, mut step: Step) {
        step.key = self.lineage.resolve(step.key);
        if step.depth > DEPTH_MAX {
            self.complete = false;
            return;
        }
        if let Some((from, until)) = self.seen.get_mut(&step.key) {
            if *from <= step.from && step.until <= *until {
                return;
            }
            step.from = step.from.min(*from);
            step.until = step.until.max(*until);
            (*from, *until) = (step.from, step.until);
        } else {
            self.seen.insert(step.key, (step.from, step.until));
        }
        self.todo.push_back(step);
    }

    fn run(&mut self) {
        while let Some(step) = self.todo.pop_front() {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                self.complete = false;
                self.todo.clear();
                return;
            }
            // A writer of a staged file may be gone, or may have forgotten whom it got its data from.
            if step.depth > 0
                && let Some(frozen) = self.lineage.staging.get(step.key)
            {
                self.complete &= frozen.complete;
                for (by, read) in &frozen.reads {
                    self.read(step, *by, read);
                }
            } else {
                self.visit(step);
            }
        }
    }

    fn visit(&mut self, step: Step) {
        let lineage = self.lineage;
        let Some(entry) = lineage.table.get(step.key) else {
            self.complete = false;
            return;
        };
        let activity = &entry.activity;
        if activity.lost
            || entry.blank
            || activity.watched_since > step.from.max(entry.process.start_ns)
        {
            self.complete = false;
        }
        for read in &activity.reads {
            self.read(step, step.key, read);
        }
        for image in entry.images() {
            let pipe @ Stdio::Pipe { .. } = image.stdio[0] else {
                continue;
            };
            let (writers, all) = lineage.pipes.writers(pipe);
            self.complete &= all;
            let upstream = Step {
                from: 0,
                depth: step.depth + 1,
                distance: step.distance.saturating_add(1),
                ..step
            };
            let mut known = false;
            for writer in writers.iter().map(|writer| lineage.resolve(*writer)) {
                if writer != step.key {
                    known = true;
                    self.follow(Step {
                        key: writer,
                        ..upstream
                    });
                }
            }
            if !known && let Some(maker) = entry.maker {
                self.follow(Step {
                    key: maker,
                    ..upstream
                });
            }
        }
    }

    /// Takes a read that falls into the step's time, and goes on to who wrote that file before.
    fn read(&mut self, step: Step, by: ProcessKey, read: &Read) {
        if read.first > step.until || read.last < step.from {
            return;
        }
        let found = self
            .found
            .entry(read.id)
            .or_insert((step.distance, by, *read));
        if step.distance < found.0 {
            *found = (step.distance, by, *read);
        }
        let read_at = read.last.min(step.until);
        for (writer, at) in self.lineage.files.writers(read.id) {
            if *at <= read_at {
                self.follow(Step {
                    key: *writer,
                    from: 0,
                    until: read_at,
                    depth: step.depth + 1,
                    distance: step.distance.saturating_add(1),
                });
            }
        }
    }

    /// The script around a process: itself, and everything that it started.
    fn around(&mut self, key: ProcessKey, since: BootTime) {
        let table = &self.lineage.table;
        let Some(root) = self.lineage.script_around(key) else {
            return;
        };
        let Some(script) = table.get(root) else {
            return;
        };
        let from = script.process.exec_ns.max(since.saturating_sub(GATHER_NS));
        let mut level = vec![root];
        for generation in 0..=GENERATIONS_MAX {
            let mut below = Vec::new();
            for key in level {
                let Some(entry) = table.get(key) else {
                    continue;
                };
                if entry.process.exit_ns.is_some_and(|end| end < from) {
                    continue;
                }
                if entry.activity.children_forgotten > from {
                    self.complete = false;
                }
                if self.steps + self.todo.len() >= STEPS_MAX {
                    self.complete = false;
                    break;
                }
                self.follow(Step {
                    key,
                    from,
                    until: BootTime::MAX,
                    depth: 1,
                    distance: AROUND + generation,
                });
                // The latest ran last: if the bound cuts, it cuts the oldest.
                below.extend(entry.children.iter().rev());
            }
            level = below;
        }
        if !level.is_empty() {
            self.complete = false;
        }
        self.run();
    }
}
