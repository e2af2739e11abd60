//! The file as written: every key optional, nothing checked but its shape. Each value knows its place.
//!
//! In: text. Out: [`File`], which `resolve` checks and turns into the public types.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::error::{ConfigError, Source};

/// Largest file that is read, bytes: thousands of times what a configuration needs.
const MAX_BYTES: u64 = 1 << 20;

/// A value that may be absent, with its place.
pub(super) type Value<T> = Option<Spanned<T>>;
/// Open-ended tables: name = list.
pub(super) type Lists = BTreeMap<Spanned<String>, Spanned<Vec<Spanned<String>>>>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub sensor: Sensor,
    pub names: Names,
    pub networks: Lists,
    pub sensitive: Lists,
    pub detection: Detection,
    pub events: Events,
    pub metrics: Metrics,
    pub limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sensor {
    pub drain_interval: Value<String>,
    pub slots: Value<i64>,
    pub process_ring_bytes: Value<Bytes>,
    pub file_ring_bytes: Value<Bytes>,
    pub name_ring_bytes: Value<Bytes>,
    pub kernel_log: Option<bool>,
    pub pin: Option<bool>,
    pub keep_on_stop: Option<bool>,
    pub disable: Option<Vec<Spanned<String>>>,
    pub methods: BTreeMap<Spanned<String>, Spanned<String>>,
    pub btf: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Names {
    pub dns: Option<bool>,
    pub tls: Option<bool>,
    pub quic: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Detection {
    pub episode_idle: Value<String>,
    pub min_episodes: Value<i64>,
    pub min_episodes_scheduled: Value<i64>,
    pub min_score: Value<i64>,
    pub realert: Value<String>,
    pub learning: Value<String>,
    pub bulk_bytes: Value<Bytes>,
    pub ignore_scopes: Option<Vec<Spanned<String>>>,
    pub unattributed_percent: Value<i64>,
    pub coverage_min_bytes: Value<Bytes>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Events {
    pub path: Value<String>,
    pub rotate_bytes: Value<Bytes>,
    pub keep: Value<i64>,
    pub flow_interval: Value<String>,
    pub health_interval: Value<String>,
    pub exec: Option<bool>,
    pub files: Value<String>,
    pub loopback: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Metrics {
    pub listen: Value<String>,
    pub top: Value<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub processes: Value<i64>,
    pub files: Value<i64>,
    pub pairs: Value<i64>,
    pub names: Value<i64>,
    pub exited: Value<String>,
}

/// A size: a number of bytes, or a string with a unit.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a whole number of bytes, or a string such as \"64MiB\""
)]
pub(super) enum Bytes {
    Count(i64),
    Text(String),
}

/// Reads the file, bounded.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        fs::File::open(path)?
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let text = read().map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(failed(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {MAX_BYTES} bytes: this is not a configuration"),
        )));
    }
    Ok(text)
}

/// Parses the text.
pub(super) fn parse(text: &str, name: &Path) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| Source { text, name }.parser(&error))
}
