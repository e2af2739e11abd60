//! The vocabulary of the rooms.
//!
//! In: nothing. Out: the types that the rooms hand to each other. No room's logic lives here, and nothing here
//! touches the operating system, so that a recording means the same everywhere.

mod alert;
mod destination;
mod doctor;
mod file;
mod flow;
mod health;
mod job;
mod observation;
mod process;
mod record;
mod text;
mod time;

pub use alert::{Alert, FileEvidence, Rule, Signal, SignalKind};
pub use destination::{Destination, Scope, Transport};
pub use doctor::{BlindSpot, DoctorReport, Verdict};
pub use file::{Access, FileAccess, FileId, FileRef};
pub use flow::{Attribution, Direction, Flow, FlowDelta, FlowId, Reason};
pub use health::{
    Coverage, Events, Health, HookState, HookStatus, KernelTotals, Ledger, LostDetail, OutletBooks,
};
pub use job::{Job, JobId, Scheduler, Script};
pub use observation::{Event, Exec, Observation, Origin, SocketOwner, Stdio};
pub use process::{Container, Identity, Process, ProcessKey};
pub use record::Record;
pub use text::Text;
pub use time::{BootTime, Clock, WallTime};
