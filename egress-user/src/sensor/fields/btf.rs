//! Just enough of BTF to find members: bytes in, structures and their members out.
//!
//! The format is Linux `Documentation/bpf/btf.rst`. Every read is checked against its section, so damaged bytes give an
//! error or a name that is not found.

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// `struct btf_header` up to `str_len`; later kernels may append to it.
const HEADER_LEN: usize = 24;
/// `struct btf_type`: name, info, size or type.
const TYPE_LEN: usize = 12;
/// `struct btf_member`: name, type, offset.
const MEMBER_LEN: usize = 12;
/// The bits of `info` that mean something: count, kind, kind flag.
const INFO_BITS: u32 = 0x9f00_ffff;

// `BTF_KIND_*`
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Why bytes are not the BTF of this machine's kernel.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The header, or a section that it announces.
    #[error("{0}")]
    Header(&'static str),
    /// A type does not fit into its section.
    #[error("type {id} is cut short")]
    Cut {
        /// Its number, from 1.
        id: usize,
    },
    /// A type of no known length, so that nothing after it can be found.
    #[error(
        "type {id} has the unknown kind {kind} (info {info:#010x}): damaged, or of a kernel newer than this egress"
    )]
    Unknown {
        /// Its number, from 1.
        id: usize,
        /// `BTF_KIND_*`.
        kind: u32,
        /// The whole word.
        info: u32,
    },
}

/// BTF, and where in it are the structures that were asked for.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type starts in `types`; type 1 is the first (0 is `void`).
    starts: Vec<u32>,
    /// Structures and unions of a wanted name, by number.
    wanted: Vec<(&'a str, u32)>,
    /// Wanted names that a function or a typedef has.
    symbols: Vec<&'a str>,
}

/// A structure or union.
#[derive(Clone, Copy, Debug)]
pub struct Structure<'a> {
    /// `struct btf_member`s, whole ones only.
    members: &'a [u8],
    /// `kind_flag`: the upper byte of an offset is the size of a bitfield.
    sized: bool,
}

/// One member of a [`Structure`].
#[derive(Clone, Copy, Debug)]
pub struct Member {
    name: u32,
    type_id: u32,
    /// Where it starts, in bits from the start of its structure.
    pub bit_offset: u32,
    /// Bits of a bitfield; 0 when it is none, or when its type says so (see [`Btf::is_bitfield`]).
    bits: u32,
}

/// `struct btf_type` and what follows it.
struct Type<'a> {
    kind: u32,
    flag: bool,
    /// Size in bytes, or the number of the type that it refers to.
    size_or_id: u32,
    rest: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Reads `bytes`, and looks for structures, unions, functions and typedefs called one of `names`.
    ///
    /// # Errors
    /// When it is not BTF, of the other byte order, cut short, or has a kind that came after 6.0 (`ENUM64`).
    pub fn parse(bytes: &'a [u8], names: &[&'a str]) -> Result<Self, BtfError> {
        let (types, strings) = sections(bytes)?;
        let mut btf = Self {
            types,
            strings,
            starts: Vec::new(),
            wanted: Vec::new(),
            symbols: Vec::new(),
        };
        let mut at = 0;
        while at < types.len() {
            let id = btf.starts.len() + 1;
            let cut = || BtfError::Cut { id };
            let start = u32::try_from(at).map_err(|_| cut())?;
            let info = word(types, at + 4).ok_or_else(cut)?;
            let kind = kind(info);
            let rest = rest_len(info).ok_or(BtfError::Unknown { id, kind, info })?;
            let end = at + TYPE_LEN + rest;
            if end > types.len() {
                return Err(cut());
            }
            if matches!(kind, STRUCT | UNION | FUNC | TYPEDEF) {
                let name = word(types, at).ok_or_else(cut)?;
                let found = names.iter().find(|wanted| btf.is_called(name, wanted));
                match found {
                    Some(wanted) if matches!(kind, STRUCT | UNION) => {
                        let id = u32::try_from(id).map_err(|_| cut())?;
                        btf.wanted.push((wanted, id));
                    }
                    Some(wanted) => btf.symbols.push(wanted),
                    None => {}
                }
            }
            btf.starts.push(start);
            at = end;
        }
        Ok(btf)
    }

    /// The structures and unions called `name`, which was one of the names asked for.
    pub fn structures(&self, name: &str) -> impl Iterator<Item = Structure<'a>> {
        self.wanted
            .iter()
            .filter(move |(wanted, _)| *wanted == name)
            .filter_map(|(_, id)| self.type_of(*id)?.structure())
    }

    /// Those of the names asked for that a function or a typedef has.
    #[must_use]
    pub fn symbols(&self) -> &[&'a str] {
        &self.symbols
    }

    /// Whether the member is called `name`; `""` is an anonymous one.
    #[must_use]
    pub fn is_named(&self, member: &Member, name: &str) -> bool {
        self.is_called(member.name, name)
    }

    /// Whether no load can read it as it stands. Without `kind_flag` the type says so: an integer of fewer bits
    /// than its bytes have, or one that does not start with them.
    #[must_use]
    pub fn is_bitfield(&self, member: &Member) -> bool {
        let narrow = || {
            let found = self.unqualified(member.type_id)?;
            let encoding = (found.kind == INT).then(|| word(found.rest, 0))??;
            let (offset, bits) = ((encoding >> 16) & 0xff, encoding & 0xff);
            Some(offset != 0 || Some(bits) != found.size_or_id.checked_mul(8))
        };
        member.bits != 0 || narrow().unwrap_or(false)
    }

    /// What the member is made of, when it is a structure or union itself (not a pointer to one).
    #[must_use]
    pub fn structure_of(&self, member: &Member) -> Option<Structure<'a>> {
        self.unqualified(member.type_id)?.structure()
    }

    /// Whether the string at `offset` is `name`. Never looks further than `name` is long.
    fn is_called(&self, offset: u32, name: &str) -> bool {
        usize::try_from(offset)
            .ok()
            .and_then(|offset| self.strings.get(offset..))
            .and_then(|string| string.strip_prefix(name.as_bytes()))
            .is_some_and(|after| after.first() == Some(&0))
    }

    fn type_of(&self, id: u32) -> Option<Type<'a>> {
        let index = usize::try_from(id).ok()?.checked_sub(1)?;
        let at = usize::try_from(*self.starts.get(index)?).ok()?;
        let info = word(self.types, at + 4)?;
        let rest = at + TYPE_LEN;
        Some(Type {
            kind: kind(info),
            flag: info >> 31 == 1,
            size_or_id: word(self.types, at + 8)?,
            rest: self.types.get(rest..rest + rest_len(info)?)?,
        })
    }

    /// The type without typedefs, qualifiers and tags; bounded, because they may lead in a circle.
    fn unqualified(&self, mut id: u32) -> Option<Type<'a>> {
        for _ in 0..=super::DEPTH_MAX {
            let found = self.type_of(id)?;
            match found.kind {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = found.size_or_id,
                _ => return Some(found),
            }
        }
        None
    }
}

impl<'a> Type<'a> {
    fn structure(&self) -> Option<Structure<'a>> {
        matches!(self.kind, STRUCT | UNION).then_some(Structure {
            members: self.rest,
            sized: self.flag,
        })
    }
}

impl<'a> Structure<'a> {
    /// Its members in order.
    pub fn members(self) -> impl Iterator<Item = Member> + 'a {
        self.members.chunks_exact(MEMBER_LEN).filter_map(move |at| {
            let offset = word(at, 8)?;
            let (bits, bit_offset) = if self.sized {
                (offset >> 24, offset & 0x00ff_ffff)
            } else {
                (0, offset)
            };
            Some(Member {
                name: word(at, 0)?,
                type_id: word(at, 4)?,
                bit_offset,
                bits,
            })
        })
    }
}

/// The types and the strings.
fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
    let error = BtfError::Header;
    let short = || BtfError::Header("shorter than a BTF header");
    let [m0, m1, version, flags, ..] = *bytes else {
        return Err(short());
    };
    let magic = u16::from_ne_bytes([m0, m1]);
    if magic == MAGIC.swap_bytes() {
        return Err(error("its byte order is not this machine's"));
    }
    if magic != MAGIC {
        return Err(error("does not start with the BTF magic number"));
    }
    if version != 1 || flags != 0 {
        return Err(error(
            "its BTF version or flags are unknown: only version 1 without flags is",
        ));
    }
    let field = |at| usize::try_from(word(bytes, at)?).ok();
    let header_len = field(4).ok_or_else(short)?;
    if header_len < HEADER_LEN {
        return Err(error("its header is shorter than BTF version 1 has it"));
    }
    let section = |offset, length| {
        // Both are relative to the end of the header.
        let start = header_len.checked_add(field(offset)?)?;
        bytes.get(start..start.checked_add(field(length)?)?)
    };
    let types = section(8, 12).ok_or(error("its type section is cut short"))?;
    let strings = section(16, 20).ok_or(error("its string section is cut short"))?;
    if strings.first() != Some(&0) || strings.last() != Some(&0) {
        return Err(error("its string section does not start and end with NUL"));
    }
    Ok((types, strings))
}

/// `BTF_INFO_KIND`.
const fn kind(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

/// Bytes after the `struct btf_type`; `None` when unknown.
fn rest_len(info: u32) -> Option<usize> {
    if info & !INFO_BITS != 0 {
        return None;
    }
    let count = usize::try_from(info & 0xffff).ok()?;
    Some(match kind(info) {
        PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        ENUM | FUNC_PROTO => count * 8,
        STRUCT | UNION => count * MEMBER_LEN,
        DATASEC | ENUM64 => count * 12,
        _ => return None,
    })
}

/// The word at `at`, in this machine's byte order.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}
