//! User names.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::BootTime;

/// Names remembered.
const CACHE_MAX: usize = 4096;
/// How long a name is believed, ns: 5 minutes.
const TTL_NS: u64 = 300_000_000_000;

/// uid to name, remembered.
pub(super) struct Users {
    lookup: fn(u32) -> Option<String>,
    cache: HashMap<u32, (Option<Arc<str>>, BootTime)>,
}

impl Users {
    /// Names of this host, by the name service switch.
    pub(super) fn host() -> Self {
        Self::with(|uid| Some(uzers::get_user_by_uid(uid)?.name().to_string_lossy().into()))
    }

    /// No names.
    pub(super) fn none() -> Self {
        Self::with(|_| None)
    }

    fn with(lookup: fn(u32) -> Option<String>) -> Self {
        Self {
            lookup,
            cache: HashMap::new(),
        }
    }

    /// The name of a uid, not older than 5 minutes; `None` if it has none.
    pub(super) fn name(&mut self, uid: u32, now: BootTime) -> Option<Arc<str>> {
        if let Some((name, until)) = self.cache.get(&uid)
            && now < *until
        {
            return name.clone();
        }
        if self.cache.len() >= CACHE_MAX {
            self.cache.clear();
        }
        let name: Option<Arc<str>> = (self.lookup)(uid).map(Into::into);
        self.cache
            .insert(uid, (name.clone(), now.saturating_add(TTL_NS)));
        name
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{CACHE_MAX, TTL_NS, Users};

    #[test]
    fn root_has_a_name() {
        assert_eq!(Users::host().name(0, 0).as_deref(), Some("root"));
        assert_eq!(Users::none().name(0, 0), None);
    }

    #[test]
    fn a_name_is_asked_for_once_in_five_minutes_and_the_cache_is_bounded() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let mut users = Users::with(|uid| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            (uid == 7).then(|| "seven".into())
        });
        for now in [0, 1, TTL_NS - 1] {
            assert_eq!(users.name(7, now).as_deref(), Some("seven"));
            assert_eq!(users.name(8, now), None);
        }
        assert_eq!(
            ASKED.load(Ordering::Relaxed),
            2,
            "also those without a name"
        );
        users.name(7, TTL_NS);
        assert_eq!(ASKED.load(Ordering::Relaxed), 3);
        for uid in 0..20_000 {
            users.name(uid, 0);
        }
        assert!(users.cache.len() <= CACHE_MAX);
    }
}
