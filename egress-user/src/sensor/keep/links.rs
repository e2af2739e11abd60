//! Attached links: held, pinned, and watched.
//!
//! Whoever has the rights can detach a cgroup link or remove a pin while the daemon runs. The kernel tells of the first in
//! a link's `fdinfo` (`cgroup_id: 0`, Linux `kernel/bpf/cgroup.c`), and nothing of the second.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use aya::maps::MapData;
use aya::programs::links::FdLink;

use super::pins::Pins;
use crate::sensor::hooks::{HOOKS, Hook};

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Somebody detached it.
    Detached,
    /// Somebody removed its pin: the hook counts, and ends with the daemon.
    Unpinned,
}

/// The links of all hooks, by the hook's name.
#[derive(Default)]
pub struct Links {
    held: HashMap<&'static str, FdLink>,
    /// Hooks that were attached and should be.
    wanted: BTreeSet<&'static str>,
    pins: Option<Pins>,
    /// Pinned maps, by name.
    maps: Vec<(String, MapData)>,
    /// Pins that somebody removed, since start.
    pub unpinned: u64,
}

impl Links {
    /// Links that are pinned already, and are attached.
    #[must_use]
    pub fn adopt(pins: &Pins) -> Self {
        let detached = detached();
        let held: HashMap<_, _> = HOOKS
            .iter()
            .filter_map(|hook| {
                let link = pins.open_link(hook.name)?;
                let id = link.info().ok()?.id();
                if detached.contains(&id) {
                    // To be attached anew, under the same pin.
                    pins.remove_link(hook.name);
                    return None;
                }
                Some((hook.name, link))
            })
            .collect();
        Self {
            wanted: held.keys().copied().collect(),
            held,
            ..Self::default()
        }
    }

    /// Whether the hook is attached.
    #[must_use]
    pub fn has(&self, hook: &Hook) -> bool {
        self.held.contains_key(hook.name)
    }

    /// Holds a link, in place of one that was there.
    pub fn hold(&mut self, hook: &Hook, link: FdLink) {
        self.held.insert(hook.name, link);
        self.wanted.insert(hook.name);
    }

    /// Lets a hook's link go, which detaches it.
    pub fn release(&mut self, hook: &Hook) {
        self.wanted.remove(hook.name);
        if self.held.remove(hook.name).is_some()
            && let Some(pins) = &self.pins
        {
            pins.remove_link(hook.name);
        }
    }

    /// Pins everything that is held, and these maps; from then on it is watched.
    ///
    /// # Errors
    /// What could not be pinned; what was, stays.
    pub fn pin(&mut self, pins: &Pins, maps: Vec<(String, MapData)>) -> Result<(), String> {
        for (name, map) in &maps {
            pin_map(pins, name, map)?;
        }
        self.maps = maps;
        self.pins = Some(pins.clone());
        HOOKS.iter().try_for_each(|hook| self.pin_one(hook))
    }

    /// From now on nothing is pinned, and no pin is looked after.
    pub fn unpin(&mut self) {
        self.pins = None;
        self.maps = Vec::new();
    }

    /// Pins one hook's link, if it is not pinned.
    ///
    /// # Errors
    /// It cannot be.
    pub fn pin_one(&mut self, hook: &'static Hook) -> Result<(), String> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        let Some(link) = self.held.remove(hook.name) else {
            return Ok(());
        };
        if same(pins, hook, &link) {
            self.held.insert(hook.name, link);
            return Ok(());
        }
        // Whatever was there may be gone with its directory, or with its file system.
        let pins = match Pins::make() {
            Ok(pins) => pins,
            Err(error) => {
                self.held.insert(hook.name, link);
                return Err(error);
            }
        };
        let path = pins.link(hook.name);
        pins.remove_link(hook.name);
        // The library lets the link go when pinning fails: the hook is then found detached, and attached again.
        match link.pin(&path) {
            Ok(pinned) => {
                self.held.insert(hook.name, pinned.into());
                Ok(())
            }
            Err(error) => Err(format!(
                "{}: {}",
                path.display(),
                crate::sensor::load::describe(&error)
            )),
        }
    }

    /// Every pin is removed, and every link let go: all hooks are detached.
    pub fn detach(&mut self) {
        if let Some(pins) = &self.pins {
            for name in self.held.keys() {
                pins.remove_link(name);
            }
        }
        self.held.clear();
        self.wanted.clear();
    }

    /// What happened to links and pins since the last look. Pins of maps are made again at once; links are for the caller.
    pub fn troubles(&mut self) -> Vec<(&'static Hook, Trouble)> {
        let detached = detached();
        let mut found = Vec::new();
        for hook in HOOKS.iter().filter(|hook| self.wanted.contains(hook.name)) {
            let Some(link) = self.held.get(hook.name) else {
                found.push((hook, Trouble::Detached));
                continue;
            };
            if link.info().is_ok_and(|info| detached.contains(&info.id())) {
                found.push((hook, Trouble::Detached));
            } else if let Some(pins) = &self.pins
                && !same(pins, hook, link)
            {
                self.unpinned += 1;
                found.push((hook, Trouble::Unpinned));
            }
        }
        if let Some(pins) = &self.pins {
            for (name, map) in &self.maps {
                let there = pins
                    .map(name)
                    .is_none_or(|path| fs::symlink_metadata(path).is_ok());
                if !there {
                    self.unpinned += 1;
                    // The directory may be gone with it.
                    let again = Pins::make().and_then(|pins| pin_map(&pins, name, map));
                    match again {
                        Ok(()) => {
                            log::warn!(
                                "the pin of map {name} was removed by somebody; pinned again"
                            );
                        }
                        Err(error) => log::error!(
                            "the pin of map {name} was removed by somebody, and pinning it again failed: {error}"
                        ),
                    }
                }
            }
        }
        found
    }
}

/// Whether the hook's pin holds this very link.
fn same(pins: &Pins, hook: &Hook, link: &FdLink) -> bool {
    let id = |link: &FdLink| link.info().ok().map(|info| info.id());
    pins.open_link(hook.name)
        .is_some_and(|pinned| id(&pinned) == id(link))
}

fn pin_map(pins: &Pins, name: &str, map: &MapData) -> Result<(), String> {
    let Some(path) = pins.map(name) else {
        return Ok(());
    };
    if fs::symlink_metadata(&path).is_ok() {
        return Ok(());
    }
    map.pin(&path).map_err(|error| {
        format!(
            "{}: {}",
            path.display(),
            crate::sensor::load::describe(&error)
        )
    })
}

/// Ids of links of this process that were detached from their cgroup.
fn detached() -> Vec<u32> {
    let entries = fs::read_dir("/proc/self/fdinfo");
    let texts = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.filter_map(|text| detached_id(&text)).collect()
}

/// The id of the link in an `fdinfo` file, if it is of a cgroup and was detached.
fn detached_id(fdinfo: &str) -> Option<u32> {
    let field = |name: &str| {
        fdinfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    (field("cgroup_id:")? == 0)
        .then(|| u32::try_from(field("link_id:")?).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::detached_id;

    #[test]
    fn fdinfo_tells_a_detached_link() {
        let link = |cgroup| {
            format!(
                "pos:\t0\nflags:\t02000000\nmnt_id:\t16\nino:\t1062\nlink_type:\tcgroup\nlink_id:\t12\n\
                 prog_tag:\t0123456789abcdef\nprog_id:\t40\ncgroup_id:\t{cgroup}\nattach_type:\t1\n"
            )
        };
        assert_eq!(detached_id(&link(1)), None);
        assert_eq!(detached_id(&link(0)), Some(12));
        assert_eq!(
            detached_id("pos:\t0\nlink_type:\ttracing\nlink_id:\t3\n"),
            None
        );
        assert_eq!(detached_id(""), None);
    }
}
