//! Automation: nobody is at a terminal.

use crate::model::{Scheduler, Signal, SignalKind};

/// What is known of who started it.
pub(in crate::detect) struct Input<'a> {
    /// What starts the job.
    pub scheduler: &'a Scheduler,
    /// A terminal controls it.
    pub terminal: bool,
    /// Distinct processes of the job among the recent episodes.
    pub processes: usize,
    /// The cadence holds: a person does not keep a beat.
    pub paced: bool,
}

/// Processes from which "the same again" is said.
const AGAIN: usize = 3;
/// From here on it is automated.
const THRESHOLD: f64 = 0.5;

/// Whether something other than a person starts the job.
pub(in crate::detect) fn scheduled(scheduler: &Scheduler) -> bool {
    match scheduler {
        Scheduler::Cron(_)
        | Scheduler::At
        | Scheduler::Systemd(_)
        | Scheduler::Ci(_)
        | Scheduler::Container(_) => true,
        Scheduler::Interactive | Scheduler::None => false,
    }
}

/// No controlling terminal 0.5, a scheduler 0.4, the same job in three processes 0.2, at most 1. With a terminal, only
/// the same job in three processes at a beat counts, 0.5: a loop that somebody left running in a terminal multiplexer.
pub(in crate::detect) fn judge(input: &Input) -> Signal {
    let by_scheduler = scheduled(input.scheduler);
    let again = input.processes >= AGAIN;
    let value = if input.terminal {
        if again && input.paced { 0.5 } else { 0.0 }
    } else {
        let traits = [(true, 0.5), (by_scheduler, 0.4), (again, 0.2)];
        traits
            .iter()
            .filter_map(|(holds, weight)| holds.then_some(weight))
            .sum::<f64>()
            .min(1.0)
    };
    let who = match input.scheduler {
        Scheduler::Cron(_) => "Started by cron",
        Scheduler::At => "Started by at",
        Scheduler::Systemd(_) => "Started by systemd",
        Scheduler::Ci(_) => "Started by a CI runner",
        Scheduler::Container(_) => "A container's workload",
        Scheduler::Interactive => "Started from a login session",
        Scheduler::None => "Started by no known scheduler",
    };
    let terminal = if input.terminal {
        "with a controlling terminal"
    } else {
        "without a controlling terminal"
    };
    let processes = match input.processes {
        1 => "one process".to_string(),
        n => format!("{n} processes"),
    };
    Signal {
        kind: SignalKind::Automation,
        holds: value >= THRESHOLD,
        score: value,
        value,
        threshold: THRESHOLD,
        baseline: None,
        sentence: format!(
            "{who}, {terminal}; {processes} of the same job among the recent transfers."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Input, judge};
    use crate::model::Scheduler;

    fn input(scheduler: &Scheduler, terminal: bool, processes: usize, paced: bool) -> Input<'_> {
        Input {
            scheduler,
            terminal,
            processes,
            paced,
        }
    }

    #[test]
    fn nobody_at_the_terminal() {
        let none = Scheduler::None;
        assert!(judge(&input(&none, false, 1, false)).holds, "a daemon");
        let cron = Scheduler::Cron(None);
        assert!(
            judge(&input(&cron, false, 3, false)).score
                > judge(&input(&none, false, 3, false)).score
        );
    }

    #[test]
    fn somebody_at_the_terminal() {
        let person = Scheduler::Interactive;
        assert!(!judge(&input(&person, true, 12, false)).holds, "by hand");
        assert!(
            !judge(&input(&person, true, 1, true)).holds,
            "one long process"
        );
        assert!(
            judge(&input(&person, true, 12, true)).holds,
            "a loop left running"
        );
    }
}
