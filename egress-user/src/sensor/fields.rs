//! Where this kernel keeps the fields that the eBPF programs read, from its own type information (BTF).

mod btf;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use egress_common::offsets::{Field, MISSING, Offsets};

use btf::{Btf, BtfError, Member, Structure};

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = crate::config::DEFAULT_BTF;

/// Bound on the members looked at for one path. The largest structure, `task_struct`, has about 300; BTF that
/// nests without end stops here.
const MEMBERS_MAX: u32 = 20_000;
/// Bound on typedefs, qualifiers and anonymous structures around one member.
const DEPTH_MAX: u32 = 16;

/// Why the kernel's fields are not known.
#[derive(Debug, thiserror::Error)]
pub enum FieldsError {
    /// The kernel has no BTF.
    #[error(
        "{path}: not there: either this kernel was built without CONFIG_DEBUG_INFO_BTF, which egress needs to find the \
         fields of kernel structures (every distribution's since 2021 has it), or it is hidden here: then name a copy of \
         this very kernel's BTF with --btf"
    )]
    NoBtf {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not BTF as `Documentation/bpf/btf.rst` describes it.
    #[error("{path}: is not the BTF of a kernel: {reason}")]
    Malformed {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The fields of the running kernel; `path` is [`VMLINUX`].
///
/// # Errors
/// When there is no BTF, or it cannot be read or parsed. A field that the kernel does not have is no error:
/// see [`Offsets::missing`].
pub fn from_host(path: &Path) -> Result<Offsets, FieldsError> {
    let bytes = read(path)?;
    let offsets = resolve(&bytes).map_err(|error| FieldsError::Malformed {
        path: path.into(),
        reason: error.to_string(),
    })?;
    if offsets == Offsets::UNKNOWN {
        let reason = "none of the structures that egress reads is in it".to_owned();
        return Err(FieldsError::Malformed {
            path: path.into(),
            reason,
        });
    }
    Ok(offsets)
}

/// Those of `names` that are functions or typedefs of the running kernel; `path` is [`VMLINUX`]. A tracepoint NAME is the
/// typedef `btf_trace_NAME` (Linux `include/trace/bpf_probe.h`).
///
/// # Errors
/// As [`from_host`].
pub fn symbols(path: &Path, names: &[&str]) -> Result<HashSet<String>, FieldsError> {
    let bytes = read(path)?;
    let btf = Btf::parse(&bytes, names).map_err(|error| FieldsError::Malformed {
        path: path.into(),
        reason: error.to_string(),
    })?;
    Ok(btf
        .symbols()
        .iter()
        .map(|name| (*name).to_owned())
        .collect())
}

fn read(path: &Path) -> Result<Vec<u8>, FieldsError> {
    std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => FieldsError::NoBtf { path: path.into() },
        _ => FieldsError::Unreadable {
            path: path.into(),
            source,
        },
    })
}

/// Looks up every field of [`Offsets::FIELDS`]; [`MISSING`] for those that are not there.
fn resolve(bytes: &[u8]) -> Result<Offsets, BtfError> {
    let mut names: Vec<&str> = Offsets::FIELDS.iter().map(|f| f.structure).collect();
    names.sort_unstable();
    names.dedup();
    let btf = Btf::parse(bytes, &names)?;
    Ok(Offsets::from_values(|field| {
        field_offset(&btf, field).unwrap_or(MISSING)
    }))
}

/// Byte offset of one field: the first of its paths that exists, in the first structure of its name that has it
/// (BTF may hold several of one name).
fn field_offset(btf: &Btf<'_>, field: &Field) -> Option<u32> {
    field.paths.iter().find_map(|path| {
        let mut left = MEMBERS_MAX;
        btf.structures(field.structure).find_map(|structure| {
            let bits = path_offset(btf, structure, path, &mut left)?;
            (bits % 8 == 0).then_some(bits / 8)
        })
    })
}

/// Bit offset of the member that `path` leads to; `None` too when it is a bitfield, which no load can read.
fn path_offset(btf: &Btf<'_>, structure: Structure<'_>, path: &str, left: &mut u32) -> Option<u32> {
    let (name, rest) = path
        .split_once('.')
        .map_or((path, None), |(name, rest)| (name, Some(rest)));
    let (offset, member) = member_offset(btf, structure, name, DEPTH_MAX, left)?;
    match rest {
        None => (!btf.is_bitfield(&member)).then_some(offset),
        Some(rest) => {
            let inner = btf.structure_of(&member)?;
            offset.checked_add(path_offset(btf, inner, rest, left)?)
        }
    }
}

/// Bit offset of the member called `name`, also within anonymous structures and unions, and the member.
fn member_offset(
    btf: &Btf<'_>,
    structure: Structure<'_>,
    name: &str,
    depth: u32,
    left: &mut u32,
) -> Option<(u32, Member)> {
    let depth = depth.checked_sub(1)?;
    for member in structure.members() {
        *left = left.checked_sub(1)?;
        if btf.is_named(&member, name) {
            return Some((member.bit_offset, member));
        }
        if btf.is_named(&member, "")
            && let Some(inner) = btf.structure_of(&member)
            && let Some((offset, found)) = member_offset(btf, inner, name, depth, left)
        {
            return Some((member.bit_offset.checked_add(offset)?, found));
        }
    }
    None
}

#[cfg(test)]
mod tests;
