//! What could not be read, counted and described: a seed goes on without it and says so.

use std::collections::BTreeMap;
use std::fmt;

/// One thing that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How often.
    pub count: u64,
    /// What happened the first time.
    pub first: String,
}

/// What could not be read, by what was wanted (`exe`, `fd`, `netns`, ...). The kinds are few and fixed, so this is bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(BTreeMap<&'static str, Gap>);

impl Gaps {
    /// Counts one more failure to read `what`.
    pub fn note(&mut self, what: &'static str, why: impl fmt::Display) {
        self.0
            .entry(what)
            .or_insert_with(|| Gap {
                count: 0,
                first: why.to_string(),
            })
            .count += 1;
    }

    /// Adds what another part could not read.
    pub fn merge(&mut self, other: Self) {
        for (what, gap) in other.0 {
            self.0
                .entry(what)
                .and_modify(|known| known.count += gap.count)
                .or_insert(gap);
        }
    }

    /// Every kind, with its count and first cause.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Gap)> {
        self.0.iter().map(|(what, gap)| (*what, gap))
    }

    /// Nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Gaps {
    /// `exe: 3 times, first: pid 17: Permission denied; ...`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (what, Gap { count, first })) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{what}: {count} times, first: {first}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind() {
        let mut gaps = Gaps::default();
        assert!(gaps.is_empty());
        gaps.note("exe", "pid 17: Permission denied");
        gaps.note("fd", "pid 17: Permission denied");
        gaps.note("exe", "pid 18: Permission denied");
        let mut more = Gaps::default();
        more.note("exe", "pid 19: Permission denied");
        more.note("cwd", "pid 19: Permission denied");
        more.merge(gaps.clone());
        let counts: Vec<_> = more.iter().map(|(what, gap)| (what, gap.count)).collect();
        assert_eq!(counts, [("cwd", 1), ("exe", 3), ("fd", 1)]);
        let told = gaps.to_string();
        assert_eq!(
            told,
            "exe: 2 times, first: pid 17: Permission denied; fd: 1 times, first: pid 17: Permission denied"
        );
    }
}
