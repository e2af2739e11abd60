//! Pipes: which processes had one as their standard output or error.

use std::collections::HashMap;

use crate::model::{Process, ProcessKey, Stdio};

/// Writers remembered of one pipe.
const WRITERS_MAX: usize = 64;

/// Writers by pipe. An entry lives as long as its process is remembered.
#[derive(Default)]
pub(super) struct Pipes {
    writers: HashMap<Stdio, Vec<ProcessKey>>,
    /// Writers beyond the bound.
    pub(super) refused: u64,
}

impl Pipes {
    /// Notes the pipes that an image of process `key` writes to.
    pub(super) fn add(&mut self, key: ProcessKey, process: &Process) {
        for end in ends(process) {
            let writers = self.writers.entry(end).or_default();
            if writers.contains(&key) {
                continue;
            }
            if writers.len() < WRITERS_MAX {
                writers.push(key);
            } else {
                self.refused += 1;
            }
        }
    }

    /// Forgets an image of a process that was added under one of these keys.
    pub(super) fn remove(&mut self, process: &Process, keys: [Option<ProcessKey>; 2]) {
        for end in ends(process) {
            if let Some(writers) = self.writers.get_mut(&end) {
                writers.retain(|key| !keys.contains(&Some(*key)));
                if writers.is_empty() {
                    self.writers.remove(&end);
                }
            }
        }
    }

    /// Who writes to a pipe, and whether that is all.
    pub(super) fn writers(&self, pipe: Stdio) -> (&[ProcessKey], bool) {
        let writers = self.writers.get(&pipe).map_or(&[][..], Vec::as_slice);
        (writers, writers.len() < WRITERS_MAX)
    }

    /// Pipes known.
    pub(super) fn len(&self) -> usize {
        self.writers.len()
    }
}

fn ends(process: &Process) -> impl Iterator<Item = Stdio> {
    let [_, out, error] = process.stdio;
    [out, error]
        .into_iter()
        .filter(|end| matches!(end, Stdio::Pipe { .. }))
}
