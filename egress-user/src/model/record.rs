//! What leaves through the outlets.

use std::sync::Arc;

use super::{Alert, BlindUse, BootTime, FileAccess, Flow, Gap, Health, HostAlert, Job, Process};

/// One record, handed to every outlet.
#[derive(Clone, Debug)]
pub enum Record {
    /// Bytes that a flow gained since its last record.
    Flow(Arc<Flow>),
    /// A process executed a program.
    Exec {
        /// When.
        at: BootTime,
        /// Which.
        process: Arc<Process>,
        /// Its parent, when known.
        parent: Option<Arc<Process>>,
        /// Its job.
        job: Arc<Job>,
    },
    /// A process opened a file.
    File {
        /// When.
        at: BootTime,
        /// Which file, how.
        access: Arc<FileAccess>,
        /// Labels of the configuration's globs that it matches.
        labels: Vec<String>,
        /// Who, when known.
        process: Option<Arc<Process>>,
    },
    /// A process uses what hooks see only in part.
    Blind {
        /// When.
        at: BootTime,
        /// What, and which process.
        using: Arc<BlindUse>,
        /// Who, when known.
        process: Option<Arc<Process>>,
        /// Its job, when known.
        job: Option<Arc<Job>>,
    },
    /// State of the daemon.
    Health(Arc<Health>),
    /// An alert about transfers.
    Alert(Arc<Alert>),
    /// Time in which no daemon ran.
    Gap(Arc<Gap>),
    /// An alert about what can be seen here.
    HostAlert(Arc<HostAlert>),
}
