//! The table.
//!
//! In: nothing. Out: [`all`], one [`Scenario`] for each way of sending. Bytes are few where many say no more, so that
//! the whole table runs in a minute and a half.

mod ip;
mod process;
mod tcp;
mod udp;

use super::{PORT, Scenario, Setting, Target, Unseen};

/// Every scenario, in the order in which they are told.
#[must_use]
pub fn all() -> Vec<&'static Scenario> {
    [
        tcp::SCENARIOS,
        udp::SCENARIOS,
        ip::SCENARIOS,
        process::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What most scenarios have in common.
const NONE: Scenario = Scenario {
    name: "",
    way: "",
    needs: &[],
    to: Target::V4,
    port: PORT,
    generator: &[],
    peer: &[],
    server: &[],
    setting: Setting::Plain,
    before: false,
    user: 0,
    lose: 0,
    transport: "",
    direction: "initiated",
    attribution: "exact",
    both: false,
    nowhere: false,
    unseen: Unseen {
        bytes: 1,
        most: 0,
        what: "",
    },
    note: "",
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn scenarios_have_names_and_addresses_of_their_own() {
        let all = super::all();
        let names: BTreeSet<_> = all.iter().map(|one| one.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() < 240, "one address each, of a /24");
        let way = |one: &&super::Scenario| !one.generator.is_empty() || !one.server.is_empty();
        assert!(all.iter().all(way));
    }
}
