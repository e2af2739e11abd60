//! Why the sensor cannot run.

use super::cgroups::CgroupError;
use super::fields::FieldsError;

/// Why the sensor cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// What was asked for does not exist.
    #[error(transparent)]
    Wish(#[from] super::plan::WishError),
    /// The kernel does not describe itself.
    #[error(transparent)]
    Fields(#[from] FieldsError),
    /// There is no cgroup2 to attach to.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Loading failed.
    #[error("loading the eBPF object failed: {0}")]
    Load(String),
    /// The object is not ours.
    #[error("the eBPF object has no usable {0}: it was built from other sources")]
    Object(&'static str),
    /// Mapping failed.
    #[error("mapping {map} into memory failed: {source}")]
    Map {
        /// Which map.
        map: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Something that an earlier daemon left cannot be taken over.
    #[error("pins: {0}")]
    Pins(String),
    /// An essential hook failed.
    #[error("the hook {hook} ({method}) cannot be attached: {reason}")]
    Attach {
        /// Which hook.
        hook: &'static str,
        /// How.
        method: String,
        /// This kernel does not have it (rather than: it refused).
        unsupported: bool,
        /// Why.
        reason: String,
    },
}
