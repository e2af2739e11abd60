//! What each process sent, by what was told of it.
//!
//! In: a scenario's flows and its senders. Out: complaints.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{INHERITED, Judge};
use crate::accuracy::Sender;
use crate::records::{number, sum, text};

/// Process id, uid, executable.
type Identity = (u64, String, String);

impl<'a> Judge<'a> {
    /// Each flow, and each process: what an entity (a process id can come again) sent as one user with one executable.
    pub(super) fn senders(&mut self) {
        let mut told: BTreeMap<(&str, Identity), u64> = BTreeMap::new();
        for flow in self.flows.clone() {
            let Some(sender) = self.sender_of(flow) else {
                let bytes = sum([flow]);
                let who =
                    text(flow, "egress.unattributed_reason").or(text(flow, "process.executable"));
                let who = who.unwrap_or("nobody").to_owned();
                self.complaints.push(format!(
                    "{} app and {} wire bytes are with {who}",
                    bytes.app_bytes, bytes.wire_bytes
                ));
                continue;
            };
            let entity = text(flow, "process.entity_id").unwrap_or_default();
            *told.entry((entity, identity(flow))).or_default() += sum([flow]).app_bytes;
            if let Some(complaint) = self.flow(flow, sender) {
                self.complaints.push(complaint);
            }
        }
        // Who only had packets, as whoever connects for others, sent no app bytes.
        let mut told: Vec<(Identity, u64)> = told
            .into_iter()
            .map(|((_, identity), bytes)| (identity, bytes))
            .filter(|(_, bytes)| *bytes > 0)
            .collect();
        for sender in self.done.senders.iter().filter(|one| one.app_bytes > 0) {
            let identity = self.identity(sender);
            let exact = (identity.clone(), sender.app_bytes);
            if let Some(position) = told.iter().position(|one| *one == exact) {
                told.swap_remove(position);
                continue;
            }
            let other = told.iter().find(|(one, _)| *one == identity);
            let told = other.map_or("nothing".into(), |(_, bytes)| format!("{bytes} app bytes"));
            self.complaints.push(format!(
                "{told} told of process {} ({}, uid {}), of {}",
                identity.0, identity.2, identity.1, sender.app_bytes
            ));
        }
        for ((pid, user, executable), bytes) in told {
            self.complaints.push(format!(
                "{bytes} app bytes told of process {pid} ({executable}, uid {user}) that are not its own"
            ));
        }
    }

    /// Whose a flow is: of the same process id, the one with its user and executable, if there is one.
    fn sender_of(&self, flow: &Value) -> Option<&'a Sender> {
        let pid = number(flow, "process.pid")?;
        let mut of_pid = self.done.senders.iter().filter(|sender| sender.pid == pid);
        let first = of_pid.clone().next()?;
        let told = identity(flow);
        of_pid
            .find(|sender| self.identity(sender) == told)
            .or(Some(first))
    }

    /// Who a sender is.
    pub(super) fn identity(&self, sender: &Sender) -> Identity {
        let executable = sender.executable.as_deref();
        (
            sender.pid,
            sender.user.unwrap_or(self.scenario.user.into()).to_string(),
            executable.unwrap_or(&self.done.executable).to_owned(),
        )
    }

    /// Of the processes that use one socket, the first is told as exact, and every other one has inherited it.
    pub(super) fn holders(&mut self) {
        if self.scenario.attribution != INHERITED {
            return;
        }
        let flows = self.flows.iter();
        let told: BTreeSet<(&str, &str)> = flows
            .filter_map(|flow| {
                let attribution = text(flow, "egress.attribution")?;
                Some((text(flow, "process.entity_id")?, attribution))
            })
            .collect();
        let with = |wanted| told.iter().filter(|(_, told)| *told == wanted).count();
        let (exact, inherited) = (with("exact"), with(INHERITED));
        let entities: BTreeSet<&str> = told.iter().map(|(entity, _)| *entity).collect();
        let one_each = told.len() == entities.len() && exact + inherited == told.len();
        self.expect(exact == 1 && inherited > 0 && one_each, || {
            format!(
                "of {} processes at one socket {exact} are told as exact, {inherited} as inherited",
                entities.len()
            )
        });
    }
}

/// Who a flow is told of.
fn identity(flow: &Value) -> Identity {
    let word = |path| text(flow, path).unwrap_or_default().to_owned();
    let pid = number(flow, "process.pid").unwrap_or_default();
    (pid, word("user.id"), word("process.executable"))
}
