use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Outlets, QUEUE_CAPACITY, QUEUE_RESERVE};
use crate::model::Record;
use crate::outlet::{Outlet, samples};

/// Keeps what it takes; waits for leave before each record when it has a gate; fails while told to.
struct Probe {
    taken: Arc<Mutex<Vec<&'static str>>>,
    flushed: SyncSender<usize>,
    gate: Option<Receiver<()>>,
    broken: bool,
}

impl Outlet for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
        if self.broken {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.taken.lock().unwrap().push(match record {
            Record::Alert(_) => "alert",
            _ => "other",
        });
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.flushed.send(self.taken.lock().unwrap().len());
        if self.broken {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            Ok(())
        }
    }
}

#[test]
fn a_full_queue_costs_flows_before_alerts_counts_both_and_never_blocks() {
    let taken = Arc::<Mutex<Vec<_>>>::default();
    let (open, gate) = mpsc::sync_channel(64);
    // Nobody listens, and nobody may have to.
    let (flushed, _flushes) = mpsc::sync_channel(4 * QUEUE_CAPACITY);
    let mut outlets = Outlets::default();
    outlets
        .add(Probe {
            taken: Arc::clone(&taken),
            flushed,
            gate: Some(gate),
            broken: false,
        })
        .unwrap();
    let began = Instant::now();
    for _ in 0..QUEUE_CAPACITY + 100 {
        outlets.publish(&samples::flow());
    }
    let flows_lost = outlets.lost()[0].count;
    // The thread may have taken one from the queue already.
    let (least, most) = (QUEUE_RESERVE as u64 + 99, QUEUE_RESERVE as u64 + 100);
    assert!((least..=most).contains(&flows_lost), "{flows_lost}");
    outlets.publish(&samples::alert());
    assert_eq!(
        outlets.lost()[0].count,
        flows_lost,
        "an alert has room in reserve"
    );
    for _ in 0..QUEUE_CAPACITY {
        outlets.publish(&samples::alert());
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "publishing waits for nobody"
    );
    let lost = outlets.lost()[0].count;
    drop(open);
    outlets.close();
    let taken = taken.lock().unwrap().len() as u64;
    assert_eq!(
        taken + lost,
        2 * QUEUE_CAPACITY as u64 + 101,
        "every record is taken or counted"
    );
}

#[test]
fn an_alert_is_flushed_at_once_and_the_rest_within_a_second() {
    let (teller, flushes) = mpsc::sync_channel(64);
    let mut outlets = Outlets::default();
    outlets
        .add(Probe {
            taken: Arc::default(),
            flushed: teller,
            gate: None,
            broken: false,
        })
        .unwrap();
    let began = Instant::now();
    outlets.publish(&samples::alert());
    assert_eq!(flushes.recv_timeout(Duration::from_millis(700)), Ok(1));
    assert!(began.elapsed() < Duration::from_millis(700));
    outlets.publish(&samples::flow());
    assert_eq!(flushes.recv_timeout(Duration::from_secs(3)), Ok(2));
    outlets.publish(&samples::flow());
    outlets.close();
    assert_eq!(flushes.iter().last(), Some(3), "the end flushes too");
}

#[test]
fn what_cannot_be_written_is_counted() {
    let (teller, flushes) = mpsc::sync_channel(64);
    let mut outlets = Outlets::default();
    outlets
        .add(Probe {
            taken: Arc::default(),
            flushed: teller,
            gate: None,
            broken: true,
        })
        .unwrap();
    outlets.publish(&samples::flow());
    outlets.publish(&samples::alert());
    flushes.recv_timeout(Duration::from_secs(3)).unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    while !outlets.status()[0].failing && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(outlets.status()[0].failing);
    assert_eq!(outlets.lost()[1].count, 2);
    outlets.close();
}
