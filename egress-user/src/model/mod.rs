//! The vocabulary of the rooms.
//!
//! In: nothing. Out: the types that the rooms hand to each other. No room's logic lives here, and nothing here
//! touches the operating system, so that a recording means the same everywhere.

mod alert;
mod blind;
mod destination;
mod doctor;
mod file;
mod flow;
mod gap;
mod health;
mod host_alert;
mod interface;
mod job;
mod name;
mod observation;
mod process;
mod record;
mod text;
mod time;
mod told;

pub use alert::{Alert, FileEvidence, Rule, Signal, SignalKind};
pub use blind::{BlindKind, BlindUse};
pub use destination::{Destination, Scope, Transport};
pub use doctor::{BlindSpot, BlindUser, DoctorReport, MethodStatus, ProgramCost, Verdict};
pub use file::{Access, FileAccess, FileId, FileRef};
pub use flow::{Attribution, Direction, Flow, FlowDelta, FlowId, Reason};
pub use gap::{Gap, GapReason};
pub use health::{
    Coverage, Events, Health, HookState, HookStatus, KernelTotals, Ledger, LostDetail, OutletBooks,
};
pub use host_alert::{CoverageEvidence, CoverageLoss, HostAlert};
pub use interface::{DeviceState, Interface, Interfaces, PacketClass, Transmitted};
pub use job::{Job, JobId, Scheduler, Script};
pub use name::{NameKind, NamePayload, NameSource, Named};
pub use observation::{Event, Exec, Observation, Origin, SocketOwner, Stdio};
pub use process::{Container, Identity, Login, Process, ProcessKey};
pub use record::Record;
pub use text::{Text, is_harmless};
pub use time::{BootTime, Clock, WallTime};
pub use told::{Counts, Figures, Journal, Mark, Target, Told};
