//! One record to every outlet, without ever waiting for one.
//!
//! In: records. Out: a thread and a bounded queue for each [`Outlet`]; what does not fit, or cannot be written, is counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::books::Books;
use super::{JournalCell, Outlet};
use crate::model::{LostDetail, OutletBooks, Record};

/// Records that wait for one outlet, at most.
pub const QUEUE_CAPACITY: usize = 8192;
/// The part of it that only alerts and health records may use: a flood of flows must not push out the alert about it.
pub const QUEUE_RESERVE: usize = 512;
/// How long an outlet may hold records.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// How long the end waits for outlets that do not move (a pipe that nobody reads).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of one outlet's records, since start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which outlet.
    pub name: &'static str,
    /// Records that found its queue full.
    pub queue_full: u64,
    /// Records that it could not take (disk full, reader gone).
    pub write_failed: u64,
    /// Whether its last flush failed; its records wait.
    pub failing: bool,
}

#[derive(Debug, Default)]
struct Counts {
    queued: AtomicUsize,
    queue_full: AtomicU64,
    write_failed: AtomicU64,
    failing: AtomicU64,
    books: Books,
}

/// What a lane's thread is told.
enum Message {
    Record(Record),
    /// To write all that came before, and say so.
    Flush(SyncSender<()>),
}

struct Lane {
    name: &'static str,
    queue: SyncSender<Message>,
    /// See [`Outlet::notes`].
    notes: bool,
    counts: Arc<Counts>,
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

/// All outlets.
#[derive(Default)]
pub struct Outlets {
    lanes: Vec<Lane>,
    journal: JournalCell,
}

impl Outlets {
    /// Where is noted what is told. An outlet that notes by itself has to be given the same.
    #[must_use]
    pub fn journal(&self) -> &JournalCell {
        &self.journal
    }

    /// Starts an outlet's thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn add(&mut self, outlet: impl Outlet + 'static) -> io::Result<()> {
        let (name, notes) = (outlet.name(), outlet.notes());
        let journal = notes.then(|| self.journal.clone());
        let counts = Arc::new(Counts::default());
        let (queue, records) = mpsc::sync_channel(QUEUE_CAPACITY);
        // One message at most.
        let (ended, done) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("egress-{name}"))
            .spawn({
                let counts = Arc::clone(&counts);
                move || {
                    Worker {
                        outlet,
                        counts,
                        journal,
                    }
                    .run(&records);
                    // Dropping `ended` says the same when the worker panicked.
                    drop(ended);
                }
            })?;
        self.lanes.push(Lane {
            name,
            queue,
            notes,
            counts,
            done,
            thread,
        });
        Ok(())
    }

    /// Hands a record to every outlet. Never blocks: a record that finds a queue full is counted against that outlet.
    pub fn publish(&self, record: &Record) {
        let room = match record {
            Record::Alert(_) | Record::HostAlert(_) | Record::Health(_) | Record::Gap(_) => {
                QUEUE_CAPACITY
            }
            Record::Flow(_) | Record::Exec { .. } | Record::File { .. } | Record::Blind { .. } => {
                QUEUE_CAPACITY - QUEUE_RESERVE
            }
        };
        let mut noted = false;
        for lane in &self.lanes {
            // Counted before it is sent, so that the worker never takes away what was not yet added.
            lane.counts.books.given(record);
            let queued = lane.counts.queued.fetch_add(1, Relaxed);
            if queued >= room
                || lane
                    .queue
                    .try_send(Message::Record(record.clone()))
                    .is_err()
            {
                lane.counts.queued.fetch_sub(1, Relaxed);
                lane.counts.queue_full.fetch_add(1, Relaxed);
                lane.counts.books.lost(record);
            } else {
                noted |= lane.notes;
            }
        }
        if !noted {
            // Nobody will: it is lost, and counted, or nobody writes it down.
            self.journal.told(record);
        }
    }

    /// Says of a record that it is not to be told.
    pub fn leave_out(&self, record: &Record) {
        self.journal.told(record);
    }

    /// Waits until every outlet has written what it was told so far. `false` when one does not within `timeout`.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let waiting: Vec<_> = self
            .lanes
            .iter()
            .map(|lane| {
                let (say, said) = mpsc::sync_channel(1);
                let mut message = Message::Flush(say);
                // A full queue empties, or its outlet does not move at all.
                while let Err(error) = lane.queue.try_send(message) {
                    let mpsc::TrySendError::Full(back) = error else {
                        return None;
                    };
                    if Instant::now() >= deadline {
                        return None;
                    }
                    message = back;
                    thread::sleep(Duration::from_millis(5));
                }
                Some(said)
            })
            .collect();
        waiting.into_iter().all(|said| {
            let left = deadline.saturating_duration_since(Instant::now());
            said.is_some_and(|said| said.recv_timeout(left).is_ok())
        })
    }

    /// Each outlet's losses.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let status = |lane: &Lane| Status {
            name: lane.name,
            queue_full: lane.counts.queue_full.load(Relaxed),
            write_failed: lane.counts.write_failed.load(Relaxed),
            failing: lane.counts.failing.load(Relaxed) != 0,
        };
        self.lanes.iter().map(status).collect()
    }

    /// The losses of all outlets, as health records tell them: kind `record`, causes `queue_full` and `write_failed`.
    #[must_use]
    pub fn lost(&self) -> [LostDetail; 2] {
        let status = self.status();
        let lost = |cause, count| LostDetail {
            kind: "record",
            cause,
            count,
        };
        [
            lost("queue_full", status.iter().map(|s| s.queue_full).sum()),
            lost("write_failed", status.iter().map(|s| s.write_failed).sum()),
        ]
    }

    /// What each outlet was given and lost, by kind of record.
    #[must_use]
    pub fn books(&self) -> Vec<OutletBooks> {
        self.lanes
            .iter()
            .flat_map(|lane| lane.counts.books.tell(lane.name))
            .collect()
    }

    /// Writes everything that is queued and ends the threads. One that does not end within five seconds is left
    /// behind, with an error in the log: the daemon must not hang on a pipe that nobody reads.
    pub fn close(self) {
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        let closing: Vec<_> = self
            .lanes
            .into_iter()
            .map(
                |Lane {
                     name,
                     queue,
                     notes: _,
                     counts,
                     done,
                     thread,
                 }| {
                    drop(queue);
                    (name, counts, done, thread)
                },
            )
            .collect();
        for (name, counts, done, thread) in closing {
            let left = deadline.saturating_duration_since(Instant::now());
            match done.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) => log::error!(
                    "{name}: does not write; {} records are lost",
                    counts.queued.load(Relaxed)
                ),
                Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                    if thread.join().is_err() {
                        log::error!("{name}: its thread ended by a panic; this is a bug");
                    }
                }
            }
        }
    }
}

/// One outlet's thread.
struct Worker<O> {
    outlet: O,
    counts: Arc<Counts>,
    /// For what an outlet that notes by itself could not take.
    journal: Option<JournalCell>,
}

impl<O: Outlet> Worker<O> {
    fn run(mut self, records: &Receiver<Message>) {
        let mut next_flush = Instant::now() + FLUSH_INTERVAL;
        loop {
            let wait = next_flush.saturating_duration_since(Instant::now());
            let now = match records.recv_timeout(wait) {
                Ok(Message::Flush(say)) => {
                    self.flush();
                    let _ = say.send(());
                    false
                }
                Ok(Message::Record(record)) => {
                    self.take(&record);
                    matches!(record, Record::Alert(_) | Record::HostAlert(_))
                        || Instant::now() >= next_flush
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if now {
                self.flush();
                next_flush = Instant::now() + FLUSH_INTERVAL;
            }
        }
        self.flush();
    }

    fn take(&mut self, record: &Record) {
        self.counts.queued.fetch_sub(1, Relaxed);
        if let Err(error) = self.outlet.record(record) {
            self.counts.write_failed.fetch_add(1, Relaxed);
            if let Some(journal) = &self.journal {
                journal.told(record);
            }
            self.counts.books.lost(record);
            self.failed(&error);
        }
    }

    fn flush(&mut self) {
        match self.outlet.flush() {
            Err(error) => self.failed(&error),
            Ok(()) => {
                if self.counts.failing.swap(0, Relaxed) != 0 {
                    log::warn!("{}: writes again", self.outlet.name());
                }
            }
        }
    }

    /// Says it once, until it works again.
    fn failed(&self, error: &io::Error) {
        if self.counts.failing.swap(1, Relaxed) == 0 {
            log::error!(
                "{}: cannot write: {error}; trying again",
                self.outlet.name()
            );
        }
    }
}

#[cfg(test)]
mod tests;
