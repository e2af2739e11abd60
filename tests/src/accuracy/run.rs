//! Runs the scenarios, one after the other, under one daemon.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::bench::Bench;
use super::{Done, Outcome, Scenario, Setting, Suite, Verdict, judge, scenarios};
use crate::daemon::{Daemon, HostLock};
use crate::lab::{Lab, Truth};

/// Everything is told, soon; nothing is judged, and no file: they are not what is measured.
const CONFIG: &str = "
[events]
flow_interval = \"500ms\"
health_interval = \"1s\"
files = \"none\"
loopback = true
";
/// Packets on their way when the last generator ends: the lab has no delay but the processors'.
const SETTLE: Duration = Duration::from_millis(300);

/// Runs the scenarios that `wanted` likes, and says on the way what it does.
///
/// # Errors
/// When the lab, the daemon or a generator fails: that is no verdict about what is measured.
pub fn run(wanted: impl Fn(&Scenario) -> bool, mut say: impl FnMut(&str)) -> Result<Suite> {
    let started = Instant::now();
    let host = HostLock::take()?;
    let lab = Lab::new()?;
    let bench = Bench::new(&lab)?;
    let mut plan = Vec::new();
    for (number, scenario) in (0_u8..).zip(scenarios::all()) {
        if wanted(scenario) {
            let missing = bench.missing(scenario)?;
            plan.push((scenario, scenario.to.address(number), missing));
        }
    }
    let runs = || plan.iter().filter(|(.., missing)| missing.is_none());
    bench.prepare(runs().map(|(scenario, address, _)| (*scenario, *address)))?;
    let mut waiting = Vec::new();
    for (scenario, address, _) in runs().filter(|(scenario, ..)| scenario.before) {
        say(&format!("{}: opens its socket", scenario.name));
        let begun = bench.begin(scenario, *address);
        waiting.push(begun.with_context(|| scenario.name)?);
    }
    let before = lab.truth()?;
    let mut daemon = Daemon::start_on(host, CONFIG)?;
    let mut waiting = waiting.into_iter();
    let mut done = Vec::new();
    for (position, (scenario, address, _)) in runs().enumerate() {
        let start = Instant::now();
        let begun = if scenario.before {
            waiting.next()
        } else {
            None
        };
        let senders = match begun {
            Some(begun) => bench.go_on(begun),
            None if scenario.setting == Setting::DaemonStopped => {
                daemon.while_stopped(|| bench.run(scenario, *address))?
            }
            None => bench.run(scenario, *address),
        };
        let took = start.elapsed();
        let count = runs().count();
        say(&format!(
            "[{}/{count}] {}: {took:.1?}",
            position + 1,
            scenario.name
        ));
        // One that fails is told as such; the others are measured all the same.
        let (senders, failed) = match senders {
            Ok(senders) => (senders, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        done.push(Done {
            scenario,
            address: *address,
            senders,
            failed,
            before: if scenario.before {
                before.clone()
            } else {
                Truth::default()
            },
            executable: bench.program(scenario).display().to_string(),
        });
    }
    std::thread::sleep(SETTLE);
    let truth = judge::Arrivals {
        sink: lab.truth()?,
        source: lab.truth_of_source()?,
        retransmissions: lab.source.retransmissions()?,
    };
    let stopping = Instant::now();
    let run = daemon.stop()?;
    say(&format!(
        "the daemon has ended, in {:.1?}",
        stopping.elapsed()
    ));
    let mut done = done.iter();
    let outcomes = plan.into_iter().map(|(scenario, _, missing)| {
        if let Some(why) = missing {
            return Ok(skipped(scenario, why));
        }
        let one = done.next().context("a scenario that ran")?;
        Ok(judge::judge(one, &run.records, &truth))
    });
    Ok(Suite {
        outcomes: outcomes.collect::<Result<_>>()?,
        took: started.elapsed(),
    })
}

fn skipped(scenario: &'static Scenario, why: String) -> Outcome {
    Outcome {
        scenario,
        app: (0, 0),
        wire: (0, 0),
        unseen: 0,
        attributed: String::new(),
        verdict: Verdict::Skipped(why),
    }
}
