//! From what a kernel has to what is done on it: a pure function, so that every rung can be tested without its kernel.

use std::collections::{BTreeMap, HashMap};

use super::hooks::{Attach, FEATURES, Feature, Method};
use crate::model::{HookState, MethodStatus};

/// What the running kernel has, as far as the table of features asks.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// Places that cannot be had, and why. Everything else is taken to be there until the kernel refuses it.
    absent: HashMap<Attach, Absence>,
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
    pub fn lacks(&mut self, place: Attach, reason: impl Into<String>) {
        self.absent.entry(place).or_insert(Absence {
            state: HookState::Unsupported,
            reason: reason.into(),
        });
    }

    /// The kernel has this place, and refused it.
    pub fn refuses(&mut self, place: Attach, reason: impl Into<String>) {
        self.absent.insert(
            place,
            Absence {
                state: HookState::Broken,
                reason: reason.into(),
            },
        );
    }

    /// Whether a place can be had, as far as is known.
    #[must_use]
    pub fn has(&self, place: Attach) -> bool {
        !self.absent.contains_key(&place)
    }

    /// Why a method cannot be had, if it cannot.
    fn obstacle(&self, method: &Method) -> Option<Absence> {
        let missing: Vec<_> = method
            .needs
            .iter()
            .copied()
            .filter(|field| self.missing_fields.contains(field))
            .collect();
        if !missing.is_empty() {
            return Some(Absence {
                state: HookState::Unsupported,
                reason: format!("this kernel's BTF lacks {}", missing.join(", ")),
            });
        }
        method
            .parts
            .iter()
            .filter_map(|part| Some((part, self.absent.get(&part.attach)?)))
            // Where nothing can happen, nothing is missed; what was refused is.
            .find(|(part, absence)| !part.optional || absence.state == HookState::Broken)
            .map(|(_, absence)| absence.clone())
    }
}

/// What is done about a feature.
#[derive(Clone, Debug)]
pub enum Choice {
    /// This method.
    Method {
        /// Which.
        method: &'static Method,
        /// Why not a better one, if there is one.
        because: Option<String>,
    },
    /// Nothing can be done.
    Nothing(Absence),
    /// Nothing is to be done.
    Disabled,
}

/// Wishes: features not to observe, and methods to use whatever else there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Features.
    pub disabled: Vec<String>,
    /// Feature and method.
    pub methods: BTreeMap<String, String>,
}

/// A wish that nobody can fulfil.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; there is {known}")]
pub struct WishError {
    what: String,
    known: String,
}

impl Wishes {
    /// Whether features and methods of these names exist.
    ///
    /// # Errors
    /// The first that does not, with those that do.
    pub fn check(&self) -> Result<(), WishError> {
        for name in self.disabled.iter().chain(self.methods.keys()) {
            if super::hooks::find(name).is_none() {
                let known: Vec<_> = FEATURES.iter().map(|feature| feature.name).collect();
                return Err(WishError {
                    what: format!("nothing that egress observes is called `{name}`"),
                    known: known.join(", "),
                });
            }
        }
        for (name, wanted) in &self.methods {
            let methods = super::hooks::find(name).map_or(&[][..], |feature| feature.methods);
            if !methods.iter().any(|method| method.name == wanted) {
                let known: Vec<_> = methods.iter().map(|method| method.name).collect();
                return Err(WishError {
                    what: format!("`{name}` has no method `{wanted}`"),
                    known: known.join(", "),
                });
            }
        }
        Ok(())
    }
}

/// What a kernel offers.
#[must_use]
pub fn methods(capabilities: &Capabilities) -> Vec<MethodStatus> {
    let all = FEATURES
        .iter()
        .flat_map(|feature| feature.methods.iter().map(move |method| (feature, method)));
    all.map(|(feature, method)| MethodStatus {
        hook: feature.name,
        method: method.name,
        places: method.places(),
        reason: capabilities.obstacle(method).map(|absence| absence.reason),
    })
    .collect()
}

/// Chooses the best method that the kernel has for a feature.
#[must_use]
pub fn plan(feature: &Feature, capabilities: &Capabilities, wishes: &Wishes) -> Choice {
    if wishes.disabled.iter().any(|name| name == feature.name) {
        return Choice::Disabled;
    }
    let forced = wishes.methods.get(feature.name);
    let mut better = Vec::new();
    let mut last = None;
    for method in feature.methods {
        if forced.is_some_and(|forced| forced != method.name) {
            continue;
        }
        match capabilities.obstacle(method) {
            None => {
                let because = match forced {
                    Some(_) => Some("as configured".to_owned()),
                    None => (!better.is_empty()).then(|| better.join("; ")),
                };
                return Choice::Method { method, because };
            }
            Some(absence) => {
                better.push(format!("{}: {}", method.name, absence.reason));
                last = Some(absence);
            }
        }
    }
    // What was refused should have worked: that is the worse news.
    let state = last.map_or(HookState::Unsupported, |absence| absence.state);
    Choice::Nothing(Absence {
        state,
        reason: better.join("; "),
    })
}

#[cfg(test)]
mod tests {
    use super::super::hooks::find;
    use super::*;

    const SEND: Attach = Attach::BtfTracepoint("sock_send_length");

    fn chosen(
        name: &str,
        capabilities: &Capabilities,
        wishes: &Wishes,
    ) -> Result<&'static str, HookState> {
        match plan(find(name).unwrap(), capabilities, wishes) {
            Choice::Method { method, .. } => Ok(method.name),
            Choice::Nothing(absence) => Err(absence.state),
            Choice::Disabled => Err(HookState::Disabled),
        }
    }

    #[test]
    fn a_kernel_that_has_all_gets_the_first_method_of_everything() {
        for feature in FEATURES {
            let Choice::Method { method, because } =
                plan(feature, &Capabilities::default(), &Wishes::default())
            else {
                panic!("{}: nothing", feature.name)
            };
            assert_eq!((method.name, because), (feature.methods[0].name, None));
        }
    }

    #[test]
    fn each_rung_is_taken_when_those_above_it_are_gone() {
        for feature in FEATURES {
            let mut kernel = Capabilities::default();
            for method in feature.methods {
                assert_eq!(
                    chosen(feature.name, &kernel, &Wishes::default()),
                    Ok(method.name)
                );
                let required = method.parts.iter().find(|part| !part.optional).unwrap();
                kernel.lacks(required.attach, "test");
            }
            assert_eq!(
                chosen(feature.name, &kernel, &Wishes::default()),
                Err(HookState::Unsupported)
            );
        }
    }

    #[test]
    fn a_kernel_before_6_3_counts_by_the_functions_and_says_why() {
        let mut kernel = Capabilities::default();
        kernel.lacks(SEND, "this kernel has no sock_send_length");
        kernel.lacks(Attach::Fexit("inet_sendpage"), "gone since 6.5");
        let Choice::Method { method, because } =
            plan(find("send").unwrap(), &kernel, &Wishes::default())
        else {
            panic!("nothing")
        };
        assert_eq!(method.name, "fexit");
        assert_eq!(
            because.unwrap(),
            "tp_btf: this kernel has no sock_send_length"
        );
    }

    #[test]
    fn an_optional_place_that_is_refused_is_not_taken_for_one_that_is_not_there() {
        let mut kernel = Capabilities::default();
        kernel.lacks(SEND, "test");
        kernel.refuses(Attach::Fexit("inet_sendpage"), "the verifier");
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
        poor.lacks(Attach::Fentry("security_file_open"), "test");
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
        assert!(wish("files", "tracepoint").check().is_ok());
        let error = wish("files", "kprobe").check().unwrap_err().to_string();
        assert_eq!(
            error,
            "`files` has no method `kprobe`; there is lsm, fentry, tracepoint"
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
