//! Durations and sizes as people write them: `"100ms"`, `"1h 30m"`, `"64MiB"`.

use std::time::Duration;

/// What a duration looks like.
pub(super) const DURATION_FORM: &str =
    "a duration such as \"100ms\", \"10s\", \"5m\", \"24h\" or \"1h 30m\" (units: ms, s, m, h, d)";
/// What a size looks like.
pub(super) const BYTES_FORM: &str = "a whole number of bytes, or a string such as \"64KiB\", \"256MiB\" or \"1GB\" (units: B, kB, MB, GB, KiB, MiB, GiB)";

/// Reads a duration: one or more whole numbers, each with its unit. `None` when it is not one, or too long for 64 bits of ms.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total_ms = 0_u64;
    while {
        let (number, unit, behind) = number_and_unit(rest)?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total_ms = total_ms.checked_add(number.checked_mul(unit_ms)?)?;
        rest = behind;
        !rest.is_empty()
    } {}
    Some(Duration::from_millis(total_ms))
}

/// Reads a size in bytes. `None` when it is not one, or does not fit 64 bits.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit, "") = number_and_unit(text.trim())? else {
        return None;
    };
    let factor = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// The number and the unit at the start, and what is behind them.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let rest = rest.trim_start();
    let letters = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    let (unit, behind) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, behind.trim_start()))
}

/// Shows a duration in the largest unit that divides it.
pub(super) fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ]
    .iter()
    .find(|(unit, _)| ms != 0 && ms.is_multiple_of(*unit))
    .map_or_else(
        || format!("{ms}ms"),
        |(unit, name)| format!("{}{name}", ms / unit),
    )
}

/// Shows a size in the largest binary unit that divides it.
pub(super) fn show_bytes(bytes: u64) -> String {
    [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .iter()
        .find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bytes}"),
            |(unit, name)| format!("{}{name}", bytes / unit),
        )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{bytes, duration, show_bytes, show_duration};

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("100ms", 100),
            ("10s", 10_000),
            ("5 m", 300_000),
            ("5min", 300_000),
            ("24h", 86_400_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 S",
            "1h 30",
            "99999999999999999999s",
            "1h,2m",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        for (text, value) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("1 MB", 1_000_000),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(bytes(text), Some(value), "{text}");
        }
        for text in [
            "",
            "MiB",
            "1.5MiB",
            "1TiBs",
            "-1",
            "1MiB1",
            "99999999999GiB",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ms in 0_u64..1 << 50, size in any::<u64>(), noise in ".{0,24}") {
            let shown = show_duration(Duration::from_millis(ms));
            prop_assert_eq!(duration(&shown), Some(Duration::from_millis(ms)));
            prop_assert_eq!(bytes(&show_bytes(size)), Some(size));
            let _ = (duration(&noise), bytes(&noise));
        }
    }
}
