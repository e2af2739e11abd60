//! Which files are sensitive.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::config;
use crate::model::Text;

/// The configuration's globs, compiled into one automaton.
#[derive(Clone, Debug)]
pub struct Labels {
    set: GlobSet,
    /// Label of each glob, as an index into `names`.
    label: Vec<usize>,
    /// Labels in the order of the configuration's map.
    names: Vec<String>,
}

impl Labels {
    /// Compiles the globs. `*` and `?` do not match a slash, `**` does.
    ///
    /// # Errors
    /// The first glob that is not one.
    pub fn new(config: &config::Sensitive) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        let mut label = Vec::new();
        let mut names = Vec::with_capacity(config.labels.len());
        for (name, globs) in &config.labels {
            for glob in globs {
                set.add(GlobBuilder::new(glob).literal_separator(true).build()?);
                label.push(names.len());
            }
            names.push(name.clone());
        }
        Ok(Self {
            set: set.build()?,
            label,
            names,
        })
    }

    /// The labels of a path, each once, sorted; empty for a file that is not sensitive.
    #[must_use]
    pub fn of(&self, path: &Text) -> Vec<String> {
        if path.is_empty() {
            return Vec::new();
        }
        // Matches come in the order of the globs, so that a label's are neighbours.
        let matched = self.set.matches(path.as_path());
        let mut labels = matched
            .iter()
            .filter_map(|glob| self.label.get(*glob).copied())
            .collect::<Vec<_>>();
        labels.sort_unstable();
        labels.dedup();
        labels
            .into_iter()
            .filter_map(|label| self.names.get(label).cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Labels;
    use crate::config;
    use crate::model::Text;

    #[test]
    fn labels_follow_the_configuration() {
        let labels = Labels::new(&config::Sensitive::default()).unwrap();
        let of = |path: &[u8]| labels.of(&Text::from(path));
        assert_eq!(of(b"/etc/shadow"), ["credentials"]);
        assert_eq!(of(b"/root/.ssh/id_ed25519"), ["keys"]);
        assert_eq!(of(b"/srv/a/b.csv"), ["business"]);
        assert_eq!(
            of(b"/srv/\xff\n"),
            ["business"],
            "not UTF-8, and still a path"
        );
        assert_eq!(of(b"/srv/x/.ssh/id_rsa"), ["business", "keys"]);
        assert_eq!(of(b"/etc/ssh/ssh_host_a/b_key"), Vec::<String>::new());
        assert_eq!(of(b""), Vec::<String>::new());
    }

    #[test]
    fn a_bad_glob_is_an_error() {
        let config = config::Sensitive {
            labels: [("x".to_string(), vec!["/[".to_string()])].into(),
        };
        assert!(Labels::new(&config).is_err());
    }
}
