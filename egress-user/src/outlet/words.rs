//! What records, metrics and the live view call things: one word for each, in one place.

use crate::model::{Attribution, Coverage, Direction, HookState, NameSource, Reason, Scope};

/// A scope's name.
pub(super) fn scope(scope: &Scope) -> &str {
    match scope {
        Scope::Loopback => "loopback",
        Scope::Link => "link",
        Scope::Private => "private",
        Scope::Public => "public",
        Scope::Vm => "vm",
        Scope::Named(name) => name,
    }
}

/// A direction's name.
pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Initiated => "initiated",
        Direction::Accepted => "accepted",
        Direction::Listening => "listening",
        Direction::Unknown => "unknown",
    }
}

/// What a name's source is called.
pub(super) fn name_source(source: NameSource) -> &'static str {
    match source {
        NameSource::TlsSni => "tls_sni",
        NameSource::QuicSni => "quic_sni",
        NameSource::Dns => "dns",
        NameSource::HttpsHint => "https_hint",
    }
}

/// A hook state's name.
pub(super) fn hook_state(state: HookState) -> &'static str {
    match state {
        HookState::Ok => "ok",
        HookState::Unsupported => "unsupported",
        HookState::Broken => "broken",
        HookState::Disabled => "disabled",
    }
}

/// An attribution's name, and why there is none.
pub(super) fn attribution(attribution: Attribution) -> (&'static str, Option<Reason>) {
    match attribution {
        Attribution::Exact => ("exact", None),
        Attribution::Inherited => ("inherited", None),
        Attribution::Inferred => ("inferred", None),
        Attribution::None(reason) => ("none", Some(reason)),
    }
}

/// A coverage's name.
pub(super) fn coverage(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::Full => "full",
        Coverage::Degraded => "degraded",
    }
}
