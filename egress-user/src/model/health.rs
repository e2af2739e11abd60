//! What the daemon says of itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{BlindKind, BootTime, Counts, Interfaces, Reason};

/// The byte ledger. Always `attributed + sum(unattributed) == total`, for bytes and for packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Counted by the kernel side beside the slots, independently of them.
    pub total: u64,
    /// In flows with a process.
    pub attributed: u64,
    /// Without, by reason.
    pub unattributed: BTreeMap<Reason, u64>,
}

impl Ledger {
    /// Whether the books balance.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.attributed + self.unattributed.values().sum::<u64>() == self.total
    }
}

/// The kernel side's own totals and the bytes that had no slot, since start. Read after the slots were, so that
/// what is missing from the slots is what moved meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelTotals {
    /// Every wire byte.
    pub wire_total: u64,
    /// Of those, without a full socket.
    pub wire_no_socket: u64,
    /// Of those, without a free slot.
    pub wire_no_slot: u64,
    /// Of those, without socket storage.
    pub wire_no_storage: u64,
    /// Every application byte on sockets that can leave the host.
    pub app_total: u64,
    /// Of those, without a free slot.
    pub app_no_slot: u64,
    /// Of those, without socket storage.
    pub app_no_storage: u64,
}

/// State of one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HookState {
    /// Attached.
    Ok,
    /// This kernel does not have it.
    Unsupported,
    /// It should work, and did not.
    Broken,
    /// Turned off by configuration.
    Disabled,
}

/// One hook, for `doctor`, metrics and health records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookStatus {
    /// The feature: `send`, `recv`, `wire`, `socket_state`, `connect4`, ...
    pub hook: &'static str,
    /// How: `tp_btf/sock_send_length`.
    pub method: String,
    /// State.
    pub state: HookState,
    /// Why, unless it is ok.
    pub reason: Option<String>,
    /// What is lost without it.
    pub gives: &'static str,
}

/// Detail that was lost, by kind (`exec`, `file`, ...) and cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LostDetail {
    /// `fork`, `exec`, `exit`, `file`, `flow`, `name`, `record`, `packet`, `interface`, `program`.
    pub kind: &'static str,
    /// `ring_full`, `truncated`, `unreadable`, `malformed`, `table_full`, `queue_full`, `skipped`.
    pub cause: &'static str,
    /// Times since start.
    pub count: u64,
}

/// Where the events of one kind are, since start. At rest, when all rings are read,
/// `seen == told + repeated + filtered + lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Events {
    /// `fork`, `exec`, `exit` or `file`.
    pub kind: &'static str,
    /// Counted by the kernel side before anything else.
    pub seen: u64,
    /// Records that the daemon has understood.
    pub told: u64,
    /// Not told again: the same process had opened the same file in the same way.
    pub repeated: u64,
    /// Not told: no file that can hold data, or the daemon's own.
    pub filtered: u64,
    /// Lost: no place in the ring, or unreadable. [`LostDetail`] has the causes.
    pub lost: u64,
}

/// What became of the records of one kind at one outlet, since start: `given` is what it wrote or will write, and `lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutletBooks {
    /// `jsonl`, `metrics` or `console`.
    pub outlet: &'static str,
    /// `flow`, `exec`, `file`, `health` or `alert`.
    pub record: &'static str,
    /// Handed to the outlet.
    pub given: u64,
    /// Found its queue full, or could not be written.
    pub lost: u64,
    /// Application bytes of lost flow records.
    pub lost_app_bytes: u64,
    /// Wire bytes of lost flow records.
    pub lost_wire_bytes: u64,
}

/// How well we see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Every hook works, nothing was lost in this interval.
    Full,
    /// A hook is missing or detail was lost.
    Degraded,
}

/// A health record, one each interval.
#[derive(Clone, Debug)]
pub struct Health {
    /// When.
    pub at: BootTime,
    /// Since when the daemon runs.
    pub started: BootTime,
    /// Since when its hooks count: longer than it runs, when it took them over.
    pub attached: BootTime,
    /// Which maps `counted` is of ([`Mark::epoch`](super::Mark::epoch)).
    pub epoch: u32,
    /// The kernel side's counters that this tells of.
    pub counted: Counts,
    /// Wire bytes since start.
    pub wire_bytes: Ledger,
    /// Application bytes since start.
    pub app_bytes: Ledger,
    /// What left through network devices since start; `None` without the hook that sees it.
    pub interfaces: Option<Interfaces>,
    /// Hooks.
    pub hooks: Vec<HookStatus>,
    /// Lost detail since start, every known pair, zero included.
    pub lost: Vec<LostDetail>,
    /// Uses of blind spots told since the last health record; a use that goes on is told once a minute.
    pub blind: BTreeMap<BlindKind, u64>,
    /// What happened to processes and files, by kind, and what became of its records.
    pub events: Vec<Events>,
    /// What became of records, by outlet and kind.
    pub outlets: Vec<OutletBooks>,
    /// How well we saw, in the interval that ends here.
    pub coverage: Coverage,
    /// Slots in use.
    pub live_flows: u64,
    /// Processes known.
    pub live_processes: u64,
    /// Names of destinations known.
    pub live_names: u64,
}
