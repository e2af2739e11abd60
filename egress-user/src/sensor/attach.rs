//! Feature by feature: chooses a rung, loads its programs, and attaches them. A rung that this kernel refuses costs that rung.
//! Links that an earlier daemon left are kept as they are.

use std::collections::HashMap;
use std::path::Path;

use aya::{Btf, Ebpf, Endianness};

use super::SensorError;
use super::cgroups::CgroupRoot;
use super::hooks::{HOOKS, Hook, Method, features, rung};
use super::keep::links::Links;
use super::load::describe;
use super::plan::{Absence, Capabilities, Choice, Wishes, hooks_of, plan};
use super::program::{self, Places};
use crate::config;
use crate::model::{HookState, HookStatus};

/// What is to be attached: the rung of each feature, whose programs are loaded. Loading is what takes time; attaching does not.
pub struct Planned<'a> {
    kernel: Capabilities,
    config: &'a config::Sensor,
    wishes: Wishes,
    choices: HashMap<&'static str, Choice>,
    btf: Btf,
}

impl<'a> Planned<'a> {
    /// Chooses a rung for each feature, and loads its programs, unless they are attached already. What the kernel refuses is
    /// no longer planned with.
    ///
    /// # Errors
    /// A wish for what does not exist; a kernel that does not describe itself.
    pub fn load(
        ebpf: &mut Ebpf,
        config: &'a config::Sensor,
        kernel: Capabilities,
        links: &Links,
    ) -> Result<Self, SensorError> {
        let wishes = Wishes::of(config)?;
        let btf = Btf::parse_file(&config.btf, Endianness::default())
            .map_err(|error| SensorError::Load(describe(&error)))?;
        let mut planned = Self {
            kernel,
            config,
            wishes,
            choices: HashMap::new(),
            btf,
        };
        for feature in features() {
            let choice = planned.load_feature(ebpf, feature, links);
            planned.choices.insert(feature, choice);
        }
        Ok(planned)
    }

    /// The best rung whose programs load.
    fn load_feature(&mut self, ebpf: &mut Ebpf, feature: &'static str, links: &Links) -> Choice {
        // What counts already goes on counting, unless another method is asked for.
        let counting = hooks_of(feature).into_iter().find(|hook| links.has(hook));
        if let Some(hook) = counting
            && self
                .wishes
                .methods
                .get(feature)
                .is_none_or(|wanted| wanted == hook.method.kind())
            && !self.wishes.disabled.iter().any(|name| name == feature)
        {
            return Choice::Rung {
                kind: hook.method.kind(),
                because: None,
            };
        }
        loop {
            let choice = plan(feature, &self.kernel, &self.wishes);
            let Choice::Rung { kind, .. } = choice else {
                return choice;
            };
            let failed = rung(feature, kind)
                .filter(|hook| !disabled(self.config, hook) && self.kernel.obstacle(hook).is_none())
                .find_map(|hook| Some((hook, program::load(ebpf, hook, &self.btf).err()?)));
            let Some((hook, absence)) = failed else {
                return choice;
            };
            unload(ebpf, feature, kind);
            self.kernel.refuses(hook.method, absence);
        }
    }

    /// Attaches the rung of every feature that is not attached already, and detaches what is not wanted.
    ///
    /// # Errors
    /// An essential hook could not be attached.
    pub fn attach(
        mut self,
        ebpf: &mut Ebpf,
        cgroup: &CgroupRoot,
        links: &mut Links,
    ) -> Result<Vec<HookStatus>, SensorError> {
        let places = Places::of(cgroup);
        let mut attached = Vec::with_capacity(HOOKS.len());
        for feature in features() {
            let mut choice = self.choices.remove(feature).unwrap_or(Choice::Disabled);
            loop {
                let (kind, because) = match &choice {
                    Choice::Rung { kind, because } => (*kind, because.clone()),
                    Choice::Nothing(absence) => {
                        if let Some(hook) =
                            hooks_of(feature).into_iter().find(|hook| hook.essential)
                        {
                            return Err(SensorError::Attach {
                                hook: hook.name,
                                method: hook.method.to_string(),
                                unsupported: absence.state == HookState::Unsupported,
                                reason: absence.reason.clone(),
                            });
                        }
                        attached.extend(self.nothing(feature, absence, links));
                        break;
                    }
                    Choice::Disabled => {
                        attached.extend(self.nothing(feature, &configured(), links));
                        break;
                    }
                };
                match self.attach_rung(ebpf, feature, kind, because, &places, links) {
                    Ok(statuses) => {
                        attached.extend(statuses);
                        break;
                    }
                    Err((hook, absence)) => {
                        for hook in rung(feature, kind) {
                            links.release(hook);
                        }
                        unload(ebpf, feature, kind);
                        self.kernel.refuses(hook.method, absence);
                        choice = self.load_feature(ebpf, feature, links);
                    }
                }
            }
        }
        Ok(attached)
    }

    /// Lets a feature go. Its best rung, or the one that was asked for, stands for it; where there is nothing to see, nothing
    /// is missing.
    fn nothing(
        &self,
        feature: &'static str,
        absence: &Absence,
        links: &mut Links,
    ) -> Vec<HookStatus> {
        let all = hooks_of(feature);
        for hook in &all {
            links.release(hook);
        }
        let asked = self.wishes.methods.get(feature).map(String::as_str);
        let first = asked.or_else(|| all.first().map(|hook| hook.method.kind()));
        all.iter()
            .filter(|hook| Some(hook.method.kind()) == first)
            .map(|hook| {
                if hook.optional && absence.state == HookState::Unsupported {
                    return nothing_to_see(hook, absence);
                }
                status(hook, absence.state, Some(absence.reason.clone()))
            })
            .collect()
    }

    /// Attaches the hooks of one rung; those of others are let go. The first that fails undoes all.
    fn attach_rung(
        &self,
        ebpf: &mut Ebpf,
        feature: &'static str,
        kind: &str,
        mut because: Option<String>,
        places: &Places<'_>,
        links: &mut Links,
    ) -> Result<Vec<HookStatus>, (&'static Hook, Absence)> {
        let mut attached = Vec::new();
        for hook in hooks_of(feature) {
            if hook.method.kind() != kind {
                links.release(hook);
                continue;
            }
            attached.push(if disabled(self.config, hook) {
                links.release(hook);
                let Absence { state, reason } = configured();
                status(hook, state, Some(reason))
            } else if links.has(hook) {
                status(hook, HookState::Ok, because.take())
            } else if let Some(absence) = self.kernel.obstacle(hook) {
                nothing_to_see(hook, &absence)
            } else {
                let link =
                    program::attach(ebpf, hook, places).map_err(|absence| (hook, absence))?;
                let unpinned = link.is_none() && !matches!(hook.method, Method::TailCall(_));
                if let Some(link) = link {
                    links.hold(hook, link);
                }
                let ends = "this kernel cannot pin it: it ends with the daemon";
                let reason = unpinned.then(|| ends.to_owned());
                status(hook, HookState::Ok, reason.or_else(|| because.take()))
            });
        }
        Ok(attached)
    }
}

fn status(hook: &Hook, state: HookState, reason: Option<String>) -> HookStatus {
    HookStatus {
        hook: hook.name,
        method: hook.method.to_string(),
        state,
        reason,
        gives: hook.gives,
    }
}

fn nothing_to_see(hook: &Hook, absence: &Absence) -> HookStatus {
    let reason = format!("not on this kernel, so nothing to see: {}", absence.reason);
    status(hook, HookState::Ok, Some(reason))
}

fn configured() -> Absence {
    Absence {
        state: HookState::Disabled,
        reason: "disabled in the configuration".to_owned(),
    }
}

fn disabled(config: &config::Sensor, hook: &Hook) -> bool {
    let unwanted = match hook.method {
        Method::CgroupSkbIngress => !config.names.dns,
        Method::TailCall(_) => !config.names.tls && !config.names.quic,
        _ => false,
    };
    unwanted
        || config
            .disable
            .iter()
            .any(|name| name == hook.name || name == hook.feature)
}

/// Gives the programs of a rung back to the kernel.
fn unload(ebpf: &mut Ebpf, feature: &str, kind: &str) {
    for hook in rung(feature, kind) {
        program::unload(ebpf, hook);
    }
}

/// Attaches a hook whose link is gone.
///
/// # Errors
/// Why it cannot be.
pub fn attach_again(
    ebpf: &mut Ebpf,
    hook: &'static Hook,
    btf: &Path,
    cgroup: &CgroupRoot,
    links: &mut Links,
) -> Result<(), String> {
    let btf = Btf::parse_file(btf, Endianness::default()).map_err(|error| describe(&error))?;
    let link = program::load(ebpf, hook, &btf)
        .and_then(|()| program::attach(ebpf, hook, &Places::of(cgroup)))
        .map_err(|absence| absence.reason)?;
    if let Some(link) = link {
        links.hold(hook, link);
        links.pin_one(hook)?;
    }
    Ok(())
}
