//! What a scrape says, written from one locked state.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::series::{Moved, Series};
use super::{Numbers, State};
use crate::model::{Coverage, Interfaces, Ledger, PacketClass, Reason};
use crate::outlet::summary::{COVERAGE_ID, rule_id};
use crate::outlet::words::hook_state;

type Pair<'a> = (&'static str, &'a str);

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let state = self.lock();
        let mut out = Out(encoder);
        out.series(&state.series)?;
        out.daemon(&state)?;
        out.health(&state)
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &'static str, help: &str) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)
    }

    fn gauge(&mut self, name: &'static str, help: &str) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0
            .encode_descriptor(name, help, None, MetricType::Gauge)
    }

    fn series(&mut self, series: &Series) -> fmt::Result {
        type Pick = fn(Moved) -> u64;
        let counters: [(&'static str, &str, Pick); 4] = [
            ("app_bytes", "Bytes that send calls accepted.", |moved| {
                moved.app_bytes
            }),
            (
                "wire_bytes",
                "Bytes sent at the IP layer, headers included.",
                |moved| moved.wire_bytes,
            ),
            (
                "wire_packets",
                "Packets sent, a segmented one counted as its segments.",
                |moved| moved.wire_packets,
            ),
            ("rx_bytes", "Bytes that receive calls returned.", |moved| {
                moved.rx_bytes
            }),
        ];
        let mut shown: Vec<_> = series.shown().collect();
        shown.sort_unstable_by_key(|(labels, _)| *labels);
        for (name, help, pick) in counters {
            let mut metric = self.counter(name, help)?;
            for (labels, moved) in &shown {
                let transport = labels.transport.name();
                let set = [
                    ("executable", labels.executable.as_str()),
                    ("scope", &labels.scope),
                    ("direction", labels.direction),
                    ("transport", &transport),
                ];
                count(&mut metric, &set, pick(*moved))?;
            }
            let rest =
                ["executable", "scope", "direction", "transport"].map(|label| (label, "other"));
            count(&mut metric, &rest, pick(series.other()))?;
        }
        let (budget, used) = series.budget();
        let metric = self.gauge(
            "series_budget",
            "Label sets that each metric with open-ended labels may show, beside the one named other.",
        )?;
        ConstGauge::new(budget as u64).encode(metric)?;
        let metric = self.gauge("series_used", "Label sets that are shown.")?;
        ConstGauge::new(used as u64).encode(metric)?;
        let (retired, times) = series.retired();
        let metric = self.counter(
            "series_retired",
            "Label sets that gave their place to a larger sender.",
        )?;
        ConstCounter::new(times).encode(metric)?;
        let metric = self.counter(
            "series_retired_wire_bytes",
            "Bytes at the IP layer that label sets had counted which are no longer shown.",
        )?;
        ConstCounter::new(retired.wire_bytes).encode(metric)
    }

    fn daemon(&mut self, state: &State) -> fmt::Result {
        let mut metric = self.gauge("build_info", "Always 1; the version is in the label.")?;
        level(&mut metric, &[("version", env!("CARGO_PKG_VERSION"))], 1)?;
        let metric = self.counter("exec", "Programs executed.")?;
        ConstCounter::new(state.execs).encode(metric)?;
        let mut metric = self.counter(
            "blind_spot_uses",
            "Uses of what hooks see only in part, by kind. One that goes on counts once a minute, process and operation.",
        )?;
        for (kind, uses) in &state.blind {
            count(&mut metric, &[("kind", kind.name())], *uses)?;
        }
        let mut metric = self.counter("alerts", "Alerts raised, by rule.")?;
        for (rule, alerts) in &state.alerts {
            count(&mut metric, &[("rule", rule_id(*rule))], *alerts)?;
        }
        count(&mut metric, &[("rule", COVERAGE_ID)], state.host_alerts)?;
        let mut metric = self.counter(
            "gaps",
            "Times that no daemon ran before this one, by reason.",
        )?;
        for (reason, (gaps, _)) in &state.gaps {
            count(&mut metric, &[("reason", reason.name())], *gaps)?;
        }
        let mut metric = self.counter(
            "gap_seconds",
            "How long no daemon ran before this one, by reason.",
        )?;
        for (reason, (_, length)) in &state.gaps {
            let seconds = Duration::from_nanos(*length).as_secs_f64();
            ConstCounter::new(seconds)
                .encode(metric.encode_family(&[("reason", reason.name())])?)?;
        }
        Ok(())
    }

    fn health(&mut self, state: &State) -> fmt::Result {
        let Some(health) = &state.health else {
            return Ok(());
        };
        let mut metric = self.gauge(
            "ledger_bytes",
            "Where every byte since start is: total = attributed + unattributed by reason, within each layer.",
        )?;
        for (layer, ledger) in [("wire", &health.wire_bytes), ("app", &health.app_bytes)] {
            books(&mut metric, layer, ledger)?;
        }
        if let Some(interfaces) = &health.interfaces {
            self.interfaces(interfaces)?;
        }
        let mut metric = self.counter(
            "lost",
            "Detail that was lost, by kind and cause. Byte totals never are.",
        )?;
        for lost in &health.lost {
            count(
                &mut metric,
                &[("kind", lost.kind), ("cause", lost.cause)],
                lost.count,
            )?;
        }
        let mut metric = self.counter(
            "events",
            "Events of processes and files by kind: seen = told + repeated + filtered + lost, but for those on their way.",
        )?;
        for events in &health.events {
            for (state, value) in [
                ("seen", events.seen),
                ("told", events.told),
                ("repeated", events.repeated),
                ("filtered", events.filtered),
                ("lost", events.lost),
            ] {
                count(
                    &mut metric,
                    &[("kind", events.kind), ("state", state)],
                    value,
                )?;
            }
        }
        let mut metric = self.counter(
            "outlet_records",
            "Records of each outlet by kind: handed to it, and of those lost.",
        )?;
        for books in &health.outlets {
            for (state, value) in [("given", books.given), ("lost", books.lost)] {
                let labels = [
                    ("outlet", books.outlet),
                    ("record", books.record),
                    ("state", state),
                ];
                count(&mut metric, &labels, value)?;
            }
        }
        let mut metric = self.gauge(
            "hook_info",
            "Always 1; how each hook is attached, and whether it works.",
        )?;
        for hook in &health.hooks {
            let set = [
                ("hook", hook.hook),
                ("method", &hook.method),
                ("state", hook_state(hook.state)),
            ];
            level(&mut metric, &set, 1)?;
        }
        let full = health.coverage == Coverage::Full;
        let metric = self.gauge(
            "coverage_full",
            "1 when in the last interval every hook worked and no detail was lost, else 0.",
        )?;
        ConstGauge::new(u64::from(full)).encode(metric)?;
        let metric = self.gauge("live_flows", "Flows that are followed.")?;
        ConstGauge::new(health.live_flows).encode(metric)?;
        let metric = self.gauge("live_processes", "Processes that are known.")?;
        ConstGauge::new(health.live_processes).encode(metric)?;
        let metric = self.gauge("live_names", "Names of destinations that are known.")?;
        ConstGauge::new(health.live_names).encode(metric)
    }

    /// Summed over devices, so that their number does not matter.
    fn interfaces(&mut self, interfaces: &Interfaces) -> fmt::Result {
        let total = &interfaces.total;
        let mut metric = self.counter(
            "interface_transmit_bytes",
            "Bytes at the link layer that left through network devices, loopback aside, by what they were; unseen: by no hook.",
        )?;
        for (class, bytes) in PacketClass::ALL.into_iter().zip(total.bytes) {
            count(&mut metric, &[("class", class.name())], bytes)?;
        }
        count(&mut metric, &[("class", "unseen")], total.unseen)?;
        let mut metric = self.counter(
            "interface_transmit_packets",
            "Packets of these that a hook saw, a segmented one counted as its segments.",
        )?;
        for (class, packets) in PacketClass::ALL.into_iter().zip(total.packets) {
            count(&mut metric, &[("class", class.name())], packets)?;
        }
        let metric = self.gauge(
            "interface_hidden_namespaces",
            "Network namespaces whose devices' counters cannot be read.",
        )?;
        ConstGauge::new(interfaces.hidden_namespaces).encode(metric)
    }
}

fn books(metric: &mut MetricEncoder<'_>, layer: &str, ledger: &Ledger) -> fmt::Result {
    let mut cell = |state, reason, bytes| {
        level(
            metric,
            &[("layer", layer), ("state", state), ("reason", reason)],
            bytes,
        )
    };
    cell("total", "", ledger.total)?;
    cell("attributed", "", ledger.attributed)?;
    Reason::ALL.into_iter().try_for_each(|reason| {
        let bytes = ledger
            .unattributed
            .get(&reason)
            .copied()
            .unwrap_or_default();
        cell("unattributed", reason.name(), bytes)
    })
}

fn count(metric: &mut MetricEncoder<'_>, labels: &[Pair<'_>], value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(metric.encode_family(&labels)?)
}

fn level(metric: &mut MetricEncoder<'_>, labels: &[Pair<'_>], value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(metric.encode_family(&labels)?)
}
