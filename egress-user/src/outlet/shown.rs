//! Values that records show as strings, without allocating, and with hostile text escaped.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

use crate::model::{ProcessKey, Text, Transport, is_harmless};

/// Serialized as the string that `Display` gives.
#[derive(Clone, Copy, Debug)]
pub struct Shown<T>(pub T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<T> JsonSchema for Shown<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "string".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

/// A string that somebody else may have chosen (a DNS name, a unit, a container's name), shown as [`Text`] is.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |b: u8| (b == b' ' || b.is_ascii_graphic()) && b != b'\\';
        if self.0.bytes().all(plain) {
            f.write_str(self.0)
        } else {
            Text::from(self.0).fmt(f)
        }
    }
}

/// A name that `lineage` has made harmless already, shown as it is: systemd writes `\x2d` itself, and whoever looks for
/// that unit writes it so too.
#[derive(Clone, Copy, Debug)]
pub struct Harmless<'a>(pub &'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_harmless(self.0) {
            f.write_str(self.0)
        } else {
            Escaped(self.0).fmt(f)
        }
    }
}

/// [`ProcessKey::entity_id`], without allocating.
#[derive(Clone, Copy, Debug)]
pub struct EntityId(pub ProcessKey);

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.tgid, self.0.start_ns)
    }
}

/// `st_mode`'s permission bits, octal, four digits, as ECS `file.mode` wants them.
#[derive(Clone, Copy, Debug)]
pub struct Mode(pub u32);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0 & 0o7777)
    }
}

/// A device number of the kernel's own encoding (Linux `include/linux/kdev_t.h`: 12 bits major, 20 bits minor), as `major:minor`.
#[derive(Clone, Copy, Debug)]
pub struct Device(pub u32);

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 20, self.0 & 0xf_ffff)
    }
}

/// [`Transport::name`].
#[derive(Clone, Copy, Debug)]
pub struct TransportName(pub Transport);

impl fmt::Display for TransportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, EntityId, Escaped, Mode};
    use crate::model::{ProcessKey, Text};

    #[test]
    fn shows() {
        let key = ProcessKey {
            tgid: 7,
            start_ns: 42,
        };
        assert_eq!(EntityId(key).to_string(), key.entity_id());
        assert_eq!(Mode(0o100_640).to_string(), "0640");
        assert_eq!(Device(0x0080_0001).to_string(), "8:1");
        for text in ["plain.example", "a\\b", "a\u{202e}b\n", "é"] {
            assert_eq!(Escaped(text).to_string(), Text::from(text).to_string());
        }
    }
}
