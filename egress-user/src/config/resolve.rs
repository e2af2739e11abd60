//! From the file as written to the checked configuration.
//!
//! In: `raw::File`. Out: [`Config`], or the first thing that is wrong, with its place and its range.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use super::error::{ConfigError, Source};
use super::raw::{self, Bytes, Lists, Value};
use super::{
    Config, Detection, Events, FileRecords, Limits, Metrics, Names, Networks, RESERVED_SCOPES,
    Sensitive, Sensor,
};

type Result<T> = std::result::Result<T, ConfigError>;

mod values;

/// Checks everything.
pub(super) fn resolve(file: raw::File, source: &Source<'_>) -> Result<Config> {
    let check = Check(*source);
    let networks = check.networks(file.networks)?;
    Ok(Config {
        sensor: Sensor {
            names: names(&file.names),
            ..check.sensor(file.sensor)?
        },
        sensitive: check.sensitive(file.sensitive)?,
        detection: check.detection(file.detection, &networks)?,
        events: check.events(file.events)?,
        metrics: check.metrics(file.metrics)?,
        limits: check.limits(file.limits)?,
        networks,
    })
}

fn names(raw: &raw::Names) -> Names {
    let default = Names::default();
    Names {
        dns: raw.dns.unwrap_or(default.dns),
        tls: raw.tls.unwrap_or(default.tls),
        quic: raw.quic.unwrap_or(default.quic),
    }
}

struct Check<'a>(Source<'a>);

impl Check<'_> {
    fn sensor(&self, raw: raw::Sensor) -> Result<Sensor> {
        let default = Sensor::default();
        let ring = |value: Value<Bytes>, default: u32| -> Result<u32> {
            let Some(value) = value else {
                return Ok(default);
            };
            let at = value.span();
            let bytes: u32 = self.bytes(Some(value), default, 4096..=1 << 30)?;
            if bytes.is_power_of_two() {
                return Ok(bytes);
            }
            let problem = format!("{bytes} bytes is not a power of two, as a ring must be");
            Err(self
                .0
                .error(&at, problem, "a power of two such as \"4MiB\""))
        };
        Ok(Sensor {
            drain_interval: self.duration(
                raw.drain_interval,
                default.drain_interval,
                Duration::from_millis(10)..=Duration::from_secs(1),
            )?,
            slots: self.integer(raw.slots, default.slots, 1024..=1 << 20)?,
            process_ring_bytes: ring(raw.process_ring_bytes, default.process_ring_bytes)?,
            file_ring_bytes: ring(raw.file_ring_bytes, default.file_ring_bytes)?,
            name_ring_bytes: ring(raw.name_ring_bytes, default.name_ring_bytes)?,
            kernel_log: raw.kernel_log.unwrap_or(default.kernel_log),
            pin: raw.pin.unwrap_or(default.pin),
            keep_on_stop: raw.keep_on_stop.unwrap_or(default.keep_on_stop),
            disable: match raw.disable {
                Some(names) => self.names(names)?,
                None => default.disable,
            },
            methods: raw
                .methods
                .into_iter()
                .map(|(feature, method)| {
                    self.name(&feature.span(), feature.as_ref())?;
                    self.name(&method.span(), method.as_ref())?;
                    Ok((feature.into_inner(), method.into_inner()))
                })
                .collect::<Result<_>>()?,
            btf: raw.btf.unwrap_or(default.btf),
            names: default.names,
        })
    }

    fn networks(&self, raw: Lists) -> Result<Networks> {
        let mut seen: Vec<(IpNet, String)> = Vec::new();
        let mut networks = Networks::default();
        for (name, list) in raw {
            let (at, name) = (name.span(), name.into_inner());
            if RESERVED_SCOPES.contains(&name.as_str()) {
                let problem = format!("`{name}` is a built-in scope, not a name for a network");
                return Err(self.0.error(&at, problem, "any other name"));
            }
            self.name(&at, &name)?;
            let mut nets = Vec::new();
            for value in self.bounded(list)? {
                let net = self.network(&value)?;
                if let Some((_, other)) = seen.iter().find(|(known, _)| *known == net) {
                    let problem = format!("{net} is already in `{other}`");
                    return Err(self.0.error(&value.span(), problem, "each network once"));
                }
                seen.push((net, name.clone()));
                nets.push(net);
            }
            networks.0.insert(name, nets);
        }
        Ok(networks)
    }

    /// Labels of the file replace the built-in ones of the same name, one by one; an empty list removes a label.
    fn sensitive(&self, raw: Lists) -> Result<Sensitive> {
        let mut sensitive = Sensitive::default();
        for (label, list) in raw {
            let (at, label) = (label.span(), label.into_inner());
            self.name(&at, &label)?;
            let mut globs = Vec::new();
            for value in self.bounded(list)? {
                self.glob(&value)?;
                globs.push(value.into_inner());
            }
            if globs.is_empty() {
                sensitive.labels.remove(&label);
            } else {
                sensitive.labels.insert(label, globs);
            }
        }
        Ok(sensitive)
    }

    fn detection(&self, raw: raw::Detection, networks: &Networks) -> Result<Detection> {
        let default = Detection::default();
        let second = Duration::from_secs(1);
        Ok(Detection {
            episode_idle: self.duration(
                raw.episode_idle,
                default.episode_idle,
                Duration::from_millis(100)..=600 * second,
            )?,
            min_episodes: self.integer(raw.min_episodes, default.min_episodes, 3..=1000)?,
            min_episodes_scheduled: self.integer(
                raw.min_episodes_scheduled,
                default.min_episodes_scheduled,
                2..=1000,
            )?,
            min_score: self.integer(raw.min_score, default.min_score, 0..=100)?,
            realert: self.duration(raw.realert, default.realert, Duration::ZERO..=30 * DAY)?,
            learning: self.duration(raw.learning, default.learning, Duration::ZERO..=90 * DAY)?,
            bulk_bytes: self.bytes(raw.bulk_bytes, default.bulk_bytes, 1..=1 << 50)?,
            ignore_scopes: match raw.ignore_scopes {
                Some(scopes) => self.scopes(scopes, networks)?,
                None => default.ignore_scopes,
            },
            unattributed_percent: self.integer(
                raw.unattributed_percent,
                default.unattributed_percent,
                0..=100,
            )?,
            coverage_min_bytes: self.bytes(
                raw.coverage_min_bytes,
                default.coverage_min_bytes,
                1..=1 << 50,
            )?,
        })
    }

    fn scopes(&self, raw: Vec<Spanned<String>>, networks: &Networks) -> Result<Vec<String>> {
        let built_in = ["loopback", "link", "private", "public", "vm"].map(String::from);
        let known: Vec<String> = built_in
            .into_iter()
            .chain(networks.0.keys().cloned())
            .collect();
        for scope in &raw {
            if !known.contains(scope.as_ref()) {
                let name = scope.as_ref();
                let problem = format!("{name:?} is neither a scope nor a name of [networks]");
                return Err(self.0.unknown(&scope.span(), problem, name, known));
            }
        }
        Ok(raw.into_iter().map(Spanned::into_inner).collect())
    }

    fn events(&self, raw: raw::Events) -> Result<Events> {
        let default = Events::default();
        let interval = Duration::from_millis(100)..=Duration::from_hours(1);
        Ok(Events {
            path: match raw.path {
                Some(path) if path.as_ref().contains('\0') => {
                    let problem = "a path cannot contain a zero byte".to_owned();
                    return Err(self.0.error(&path.span(), problem, "a file, \"-\" or \"\""));
                }
                Some(path) => Some(path.into_inner())
                    .filter(|path| !path.is_empty())
                    .map(Into::into),
                None => default.path,
            },
            rotate_bytes: self.bytes(raw.rotate_bytes, default.rotate_bytes, 64 << 10..=1 << 40)?,
            keep: self.integer(raw.keep, default.keep, 1..=1000)?,
            flow_interval: self.duration(
                raw.flow_interval,
                default.flow_interval,
                interval.clone(),
            )?,
            health_interval: self.duration(
                raw.health_interval,
                default.health_interval,
                interval,
            )?,
            exec: raw.exec.unwrap_or(default.exec),
            files: match raw.files {
                None => default.files,
                Some(word) => match word.as_ref().as_str() {
                    "none" => FileRecords::None,
                    "sensitive" => FileRecords::Sensitive,
                    "all" => FileRecords::All,
                    other => {
                        let allowed = ["none", "sensitive", "all"].map(String::from).into();
                        let problem = format!("{other:?} is not a choice of file records");
                        return Err(self.0.unknown(&word.span(), problem, other, allowed));
                    }
                },
            },
            loopback: raw.loopback.unwrap_or(default.loopback),
        })
    }

    fn metrics(&self, raw: raw::Metrics) -> Result<Metrics> {
        let default = Metrics::default();
        Ok(Metrics {
            listen: match raw.listen {
                None => default.listen,
                Some(text) => text.as_ref().parse::<SocketAddr>().map_err(|_| {
                    let problem = format!("{:?} is not an address with a port", text.as_ref());
                    let allowed = "such as \"127.0.0.1:9468\" or \"[::1]:9468\"";
                    self.0.error(&text.span(), problem, allowed)
                })?,
            },
            top: self.integer(raw.top, default.top, 1..=1000)?,
        })
    }

    fn limits(&self, raw: raw::Limits) -> Result<Limits> {
        let default = Limits::default();
        let table = 1000..=10_000_000;
        Ok(Limits {
            processes: self.integer(raw.processes, default.processes, table.clone())?,
            files: self.integer(raw.files, default.files, table.clone())?,
            pairs: self.integer(raw.pairs, default.pairs, table.clone())?,
            names: self.integer(raw.names, default.names, table)?,
            exited: self.duration(raw.exited, default.exited, Duration::ZERO..=DAY)?,
        })
    }
}

const DAY: Duration = Duration::from_hours(24);
