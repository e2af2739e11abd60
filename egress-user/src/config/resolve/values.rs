//! Single values, each with its form and its range.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use super::{Check, Result};
use crate::config::compile_glob;
use crate::config::quantity::{self, BYTES_FORM, DURATION_FORM};
use crate::config::raw::{Bytes, Value};

/// Names and lists in one open-ended table, and values in one list: bounds on what a file can make us hold.
const MAX_LIST: usize = 1024;
/// Longest name of a network or label, bytes.
const MAX_NAME: usize = 63;

impl Check<'_> {
    /// A CIDR without host bits, or a single address.
    pub(super) fn network(&self, value: &Spanned<String>) -> Result<IpNet> {
        const FORM: &str =
            "a CIDR such as \"198.51.100.0/24\" or \"2001:db8::/32\", or one address";
        let text = value.as_ref();
        let net = match text.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => {
                if let Ok(address) = text.parse::<IpAddr>() {
                    address.into()
                } else {
                    let problem = format!("{text:?} is not a network");
                    return Err(self.0.error(&value.span(), problem, FORM));
                }
            }
        };
        if net.trunc() == net {
            return Ok(net);
        }
        let problem = format!("{text:?} has bits set behind its prefix");
        let allowed = format!(
            "the network \"{}\", or the address \"{}\"",
            net.trunc(),
            net.addr()
        );
        Err(self.0.error(&value.span(), problem, &allowed))
    }

    pub(super) fn glob(&self, value: &Spanned<String>) -> Result<()> {
        const FORM: &str = "a glob over absolute paths such as \"/srv/**\" or \"/**/.ssh/id_*\"";
        let text = value.as_ref();
        let wrong = |why: String| self.0.error(&value.span(), format!("{text:?} {why}"), FORM);
        if !text.starts_with('/') {
            return Err(wrong("does not begin with `/`".into()));
        }
        if text.len() > 4096 {
            return Err(wrong("is longer than a path can be".into()));
        }
        let built = compile_glob(text).and_then(|glob| {
            // A set, because it reports what a single matcher panics on: a pattern too large to compile.
            globset::GlobSetBuilder::new().add(glob).build()
        });
        match built {
            Ok(_) => Ok(()),
            Err(error) => Err(wrong(format!("is not a glob: {}", error.kind()))),
        }
    }

    pub(super) fn integer<T: TryFrom<i64>>(
        &self,
        value: Value<i64>,
        default: T,
        range: RangeInclusive<i64>,
    ) -> Result<T> {
        let Some(value) = value else {
            return Ok(default);
        };
        let number = *value.as_ref();
        if range.contains(&number)
            && let Ok(number) = T::try_from(number)
        {
            return Ok(number);
        }
        let allowed = format!("{} to {}", range.start(), range.end());
        Err(self
            .0
            .error(&value.span(), format!("{number} is out of range"), &allowed))
    }

    pub(super) fn duration(
        &self,
        value: Value<String>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration> {
        let Some(value) = value else {
            return Ok(default);
        };
        let text = value.as_ref();
        let Some(duration) = quantity::duration(text) else {
            return Err(self.0.error(
                &value.span(),
                format!("{text:?} is not a duration"),
                DURATION_FORM,
            ));
        };
        if range.contains(&duration) {
            return Ok(duration);
        }
        let [from, to] = [range.start(), range.end()].map(|end| quantity::show_duration(*end));
        let problem = format!("{text:?} is out of range");
        Err(self
            .0
            .error(&value.span(), problem, &format!("{from} to {to}")))
    }

    pub(super) fn bytes<T: TryFrom<u64>>(
        &self,
        value: Value<Bytes>,
        default: T,
        range: RangeInclusive<u64>,
    ) -> Result<T> {
        let Some(value) = value else {
            return Ok(default);
        };
        let (shown, bytes) = match value.as_ref() {
            Bytes::Count(count) => (count.to_string(), u64::try_from(*count).ok()),
            Bytes::Text(text) => {
                let Some(bytes) = quantity::bytes(text) else {
                    return Err(self.0.error(
                        &value.span(),
                        format!("{text:?} is not a size"),
                        BYTES_FORM,
                    ));
                };
                (format!("{text:?}"), Some(bytes))
            }
        };
        if let Some(bytes) = bytes.filter(|bytes| range.contains(bytes))
            && let Ok(bytes) = T::try_from(bytes)
        {
            return Ok(bytes);
        }
        let [from, to] = [range.start(), range.end()].map(|end| quantity::show_bytes(*end));
        let problem = format!("{shown} is out of range");
        Err(self
            .0
            .error(&value.span(), problem, &format!("{from} to {to}")))
    }

    pub(super) fn bounded(
        &self,
        list: Spanned<Vec<Spanned<String>>>,
    ) -> Result<Vec<Spanned<String>>> {
        if list.as_ref().len() > MAX_LIST {
            let problem = format!("{} values are too many", list.as_ref().len());
            return Err(self
                .0
                .error(&list.span(), problem, &format!("up to {MAX_LIST}")));
        }
        Ok(list.into_inner())
    }

    pub(super) fn names(&self, raw: Vec<Spanned<String>>) -> Result<Vec<String>> {
        for value in &raw {
            self.name(&value.span(), value.as_ref())?;
        }
        Ok(raw.into_iter().map(Spanned::into_inner).collect())
    }

    /// Names go into metrics and records: plain ones only.
    pub(super) fn name(&self, at: &std::ops::Range<usize>, name: &str) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(plain) {
            return Ok(());
        }
        let allowed = format!("1 to {MAX_NAME} of a-z, A-Z, 0-9, `_`, `-`, `.`");
        Err(self
            .0
            .error(at, format!("{name:?} cannot be a name"), &allowed))
    }
}
