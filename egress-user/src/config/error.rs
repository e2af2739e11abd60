//! What is wrong with a configuration, where, and what would be right.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: cannot read the configuration: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a usable configuration.
    #[error("{}:{line}:{column}: {problem}{}", path.display(), Help(.allowed, .closest.as_deref()))]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong, with the value.
        problem: String,
        /// What is allowed there: keys, values, or one line on the range with an example. May be empty.
        allowed: Vec<String>,
        /// Of `allowed`, the one that was probably meant.
        closest: Option<String>,
    },
}

/// The second half of a message: what would be right.
struct Help<'a>(&'a [String], Option<&'a str>);

impl fmt::Display for Help<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(closest) = self.1 {
            write!(f, "; did you mean `{closest}`?")?;
        }
        match self.0 {
            [] => Ok(()),
            [one] => write!(f, "; allowed: {one}"),
            many => write!(f, "; allowed: {}", many.join(", ")),
        }
    }
}

/// The text that errors point into.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// All of it.
    pub text: &'a str,
    /// What it is called.
    pub name: &'a Path,
}

impl Source<'_> {
    /// An error at a byte offset, with what is allowed there in one line.
    pub fn error(&self, at: &Range<usize>, problem: String, allowed: &str) -> ConfigError {
        self.error_of(at, problem, vec![allowed.to_owned()], None)
    }

    /// An error about a word that is none of `allowed`.
    pub fn unknown(
        &self,
        at: &Range<usize>,
        problem: String,
        word: &str,
        allowed: Vec<String>,
    ) -> ConfigError {
        let closest = closest(word, &allowed);
        self.error_of(at, problem, allowed, closest)
    }

    /// An error in the TOML itself or in its shape, as the parser puts it.
    pub fn parser(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().unwrap_or(0..0);
        let message = error.message().trim().replace('\n', ", ");
        match unknown_field(&message) {
            Some((word, allowed)) => {
                self.unknown(&at, format!("unknown key `{word}`"), &word, allowed)
            }
            None => self.error_of(&at, message, Vec::new(), None),
        }
    }

    fn error_of(
        &self,
        at: &Range<usize>,
        problem: String,
        allowed: Vec<String>,
        closest: Option<String>,
    ) -> ConfigError {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ConfigError::Invalid {
            path: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
            problem,
            allowed,
            closest,
        }
    }
}

/// Takes serde's sentence on an unknown field apart: the field, and those that exist.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let (word, rest) = message
        .strip_prefix("unknown field `")?
        .rsplit_once("`, expected ")?;
    let allowed = rest.split('`').skip(1).step_by(2);
    Some((word.to_owned(), allowed.map(str::to_owned).collect()))
}

/// The nearest of `allowed` by edits, when it is near enough to be a slip: at most a third of the word.
fn closest(word: &str, allowed: &[String]) -> Option<String> {
    // Longer than any key: no slip, and the distance below is quadratic.
    if word.len() > 64 {
        return None;
    }
    let word = word.replace('-', "_").to_lowercase();
    allowed
        .iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= word.len().max(candidate.len()).div_ceil(3))
        .map(|(_, candidate)| candidate.clone())
}

/// Edits (Levenshtein) from one word to another.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(to.chars()) {
            left = (left + 1)
                .min(*cell + 1)
                .min(diagonal + usize::from(a != b));
            diagonal = std::mem::replace(cell, left);
        }
    }
    row.last().copied().unwrap_or_default()
}
