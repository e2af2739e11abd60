//! From what a kernel has to what is done on it: a pure function, so that every rung can be tested without its kernel.

use std::collections::{BTreeMap, HashMap};

use super::hooks::{self, Hook, Method, features, rung, rungs};
use crate::config;
use crate::model::{HookState, MethodStatus};

/// What the running kernel has, as far as the table of hooks asks.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// Places that cannot be had, and why. Everything else is taken to be there until the kernel refuses it.
    absent: HashMap<Method, Absence>,
    /// Fields that this kernel's BTF lacks.
    missing_fields: Vec<&'static str>,
}

/// Why a place cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    /// Not there, or there and refused.
    pub state: HookState,
    /// In words.
    pub reason: String,
}

impl Absence {
    /// Not on this kernel.
    #[must_use]
    pub const fn unsupported(reason: String) -> Self {
        Self {
            state: HookState::Unsupported,
            reason,
        }
    }

    /// On this kernel, which refused it.
    #[must_use]
    pub const fn broken(reason: String) -> Self {
        Self {
            state: HookState::Broken,
            reason,
        }
    }
}

impl Capabilities {
    /// Everything, but for these fields.
    #[must_use]
    pub fn without_fields(missing: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            absent: HashMap::new(),
            missing_fields: missing.into_iter().collect(),
        }
    }

    /// This kernel does not have this place.
    pub fn lacks(&mut self, place: Method, reason: impl Into<String>) {
        self.absent
            .entry(place)
            .or_insert_with(|| Absence::unsupported(reason.into()));
    }

    /// The place cannot be had, as it turned out.
    pub fn refuses(&mut self, place: Method, absence: Absence) {
        self.absent.insert(place, absence);
    }

    /// Why a hook cannot be had, if it cannot.
    #[must_use]
    pub fn obstacle(&self, hook: &Hook) -> Option<Absence> {
        let missing: Vec<_> = hook
            .needs
            .iter()
            .copied()
            .filter(|field| self.missing_fields.contains(field))
            .collect();
        if !missing.is_empty() {
            return Some(Absence::unsupported(format!(
                "this kernel's BTF lacks {}",
                missing.join(", ")
            )));
        }
        self.absent.get(&hook.method).cloned()
    }

    /// Why a rung cannot be had, if it cannot.
    fn obstacle_of(&self, feature: &str, kind: &str) -> Option<Absence> {
        rung(feature, kind).find_map(|hook| {
            let absence = self.obstacle(hook)?;
            // Where nothing can happen, nothing is missed; what was refused is.
            (!hook.optional || absence.state == HookState::Broken).then_some(absence)
        })
    }
}

/// What is done about a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The hooks of this rung.
    Rung {
        /// Its kind of method.
        kind: &'static str,
        /// Why not a better one, if there is one.
        because: Option<String>,
    },
    /// Nothing can be done.
    Nothing(Absence),
    /// Nothing is to be done.
    Disabled,
}

/// Wishes: what not to observe, and methods to use whatever else there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Features, or single hooks.
    pub disabled: Vec<String>,
    /// Feature and kind of method.
    pub methods: BTreeMap<String, String>,
}

/// A wish that nobody can fulfil.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[sensor]: {what}; there is {known}")]
pub struct WishError {
    what: String,
    known: String,
}

impl Wishes {
    /// What is configured.
    ///
    /// # Errors
    /// [`WishError`]
    pub fn of(config: &config::Sensor) -> Result<Self, WishError> {
        let wishes = Self {
            disabled: config.disable.clone(),
            methods: config.methods.clone(),
        };
        wishes.check()?;
        Ok(wishes)
    }

    /// Whether hooks, features and methods of these names exist: the first that does not, with those that do.
    fn check(&self) -> Result<(), WishError> {
        let features: Vec<_> = features().collect();
        for name in &self.disabled {
            let known = |hook: &Hook| hook.name == name || hook.feature == name;
            if !hooks::HOOKS.iter().any(known) {
                return Err(WishError {
                    what: format!("there is no hook `{name}` to disable"),
                    known: features.join(", "),
                });
            }
        }
        for (feature, wanted) in &self.methods {
            if !features.contains(&feature.as_str()) {
                return Err(WishError {
                    what: format!("nothing that egress observes is called `{feature}`"),
                    known: features.join(", "),
                });
            }
            let kinds = rungs(feature);
            if !kinds.contains(&wanted.as_str()) {
                return Err(WishError {
                    what: format!("`{feature}` has no method `{wanted}`"),
                    known: kinds.join(", "),
                });
            }
        }
        Ok(())
    }
}

/// Chooses the best rung that the kernel has for a feature.
#[must_use]
pub fn plan(feature: &str, kernel: &Capabilities, wishes: &Wishes) -> Choice {
    if wishes.disabled.iter().any(|name| name == feature) {
        return Choice::Disabled;
    }
    let forced = wishes.methods.get(feature);
    let mut better = Vec::new();
    let mut state = HookState::Unsupported;
    for kind in rungs(feature) {
        if forced.is_some_and(|forced| forced != kind) {
            continue;
        }
        let Some(absence) = kernel.obstacle_of(feature, kind) else {
            let because = match forced {
                Some(_) => Some("as configured".to_owned()),
                None => (!better.is_empty()).then(|| better.join("; ")),
            };
            return Choice::Rung { kind, because };
        };
        better.push(format!("{kind}: {}", absence.reason));
        state = absence.state;
    }
    // The last rung's state: when that one should have worked, something is broken.
    Choice::Nothing(Absence {
        state,
        reason: better.join("; "),
    })
}

/// What a kernel offers, feature by feature.
#[must_use]
pub fn offered(kernel: &Capabilities) -> Vec<MethodStatus> {
    features()
        .flat_map(|feature| rungs(feature).into_iter().map(move |kind| (feature, kind)))
        .map(|(feature, kind)| {
            let places: Vec<_> = rung(feature, kind)
                .filter(|hook| !hook.optional || kernel.obstacle(hook).is_none())
                .map(|hook| hook.method.to_string())
                .collect();
            MethodStatus {
                hook: feature,
                method: kind,
                places: places.join(", "),
                reason: kernel
                    .obstacle_of(feature, kind)
                    .map(|absence| absence.reason),
            }
        })
        .collect()
}

/// The hooks of all rungs of a feature.
#[must_use]
pub fn hooks_of(feature: &str) -> Vec<&'static Hook> {
    hooks::HOOKS
        .iter()
        .filter(|hook| hook.feature == feature)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(
        feature: &str,
        kernel: &Capabilities,
        wishes: &Wishes,
    ) -> Result<&'static str, HookState> {
        match plan(feature, kernel, wishes) {
            Choice::Rung { kind, .. } => Ok(kind),
            Choice::Nothing(absence) => Err(absence.state),
            Choice::Disabled => Err(HookState::Disabled),
        }
    }

    #[test]
    fn a_kernel_that_has_all_gets_the_first_rung_of_everything() {
        for feature in features() {
            let expected = Choice::Rung {
                kind: rungs(feature)[0],
                because: None,
            };
            assert_eq!(
                plan(feature, &Capabilities::default(), &Wishes::default()),
                expected
            );
        }
    }

    #[test]
    fn each_rung_is_taken_when_those_above_it_are_gone() {
        for feature in features() {
            let mut kernel = Capabilities::default();
            for kind in rungs(feature) {
                assert_eq!(chosen(feature, &kernel, &Wishes::default()), Ok(kind));
                let required = rung(feature, kind).find(|hook| !hook.optional);
                let Some(required) = required else { break };
                kernel.lacks(required.method, "test");
            }
        }
    }

    #[test]
    fn a_kernel_before_6_3_counts_by_the_functions_and_says_why() {
        let mut kernel = Capabilities::default();
        kernel.lacks(
            Method::BtfTracepoint("sock_send_length"),
            "this kernel has no sock_send_length",
        );
        kernel.lacks(Method::Fexit("inet_sendpage"), "gone since 6.5");
        let expected = Choice::Rung {
            kind: "fexit",
            because: Some("tp_btf: this kernel has no sock_send_length".into()),
        };
        assert_eq!(plan("send", &kernel, &Wishes::default()), expected);
    }

    #[test]
    fn an_optional_place_that_is_refused_is_not_taken_for_one_that_is_not_there() {
        let mut kernel = Capabilities::default();
        kernel.lacks(Method::BtfTracepoint("sock_send_length"), "test");
        let refused = Absence {
            state: HookState::Broken,
            reason: "the verifier".into(),
        };
        kernel.refuses(Method::Fexit("inet_sendpage"), refused);
        assert_eq!(
            chosen("send", &kernel, &Wishes::default()),
            Err(HookState::Broken)
        );
    }

    #[test]
    fn missing_fields_cost_what_needs_them() {
        let kernel = Capabilities::without_fields(["socket_sk", "sock_num"]);
        assert_eq!(chosen("send", &kernel, &Wishes::default()), Ok("tp_btf"));
        assert_eq!(
            chosen("socket_state", &kernel, &Wishes::default()),
            Err(HookState::Unsupported)
        );
    }

    #[test]
    fn wishes_are_followed_or_refused() {
        let wish = |feature: &str, method: &str| Wishes {
            methods: [(feature.to_owned(), method.to_owned())].into(),
            ..Wishes::default()
        };
        let kernel = Capabilities::default();
        assert_eq!(
            chosen("files", &kernel, &wish("files", "tracepoint")),
            Ok("tracepoint")
        );
        let mut poor = kernel.clone();
        poor.lacks(Method::Fentry("security_file_open"), "test");
        assert_eq!(
            chosen("files", &poor, &wish("files", "fentry")),
            Err(HookState::Unsupported),
            "no other method than the one asked for"
        );
        let off = Wishes {
            disabled: vec!["recv".into()],
            ..Wishes::default()
        };
        assert_eq!(chosen("recv", &kernel, &off), Err(HookState::Disabled));
        assert!(off.check().is_ok());
        let unknown = Wishes {
            disabled: vec!["recieve".into()],
            ..Wishes::default()
        };
        let error = unknown.check().unwrap_err().to_string();
        assert!(
            error.starts_with("[sensor]: there is no hook `recieve` to disable; there is "),
            "{error}"
        );
        assert!(wish("files", "tracepoint").check().is_ok());
        let error = wish("files", "kprobe").check().unwrap_err().to_string();
        assert_eq!(
            error,
            "[sensor]: `files` has no method `kprobe`; there is lsm, fentry, tracepoint"
        );
        assert!(
            wish("file", "lsm")
                .check()
                .unwrap_err()
                .to_string()
                .contains("send, recv")
        );
    }
}
