//! Ring bytes, checked and turned into observations.
//!
//! The kernel side and this one are built together, but the ring is memory, and its records hold what processes
//! wrote: nothing in them is taken for granted. No unsafe code: the records are plain integers (`zerocopy`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use egress_common::records::{self, FileIdentity, Header};
use rustix::fs::FileType;
use zerocopy::FromBytes;

use super::paths::{components_to_path, split_args, until_nul};
use crate::model::{
    Access, BootTime, Event, Exec, FileAccess, FileId, FileRef, Identity, NameKind, NamePayload,
    Observation, Origin, ProcessKey, Stdio, Text,
};

/// Why a record makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than the fixed part of its kind.
    #[error("a record of {length} bytes is shorter than its kind's fixed part")]
    TooShort {
        /// Bytes.
        length: usize,
    },
    /// Not a kind that this ring carries.
    #[error("record kind {kind} is not one that this ring carries")]
    UnknownKind {
        /// `Header::kind`.
        kind: u16,
    },
    /// Not a blind spot that the kernel side tells.
    #[error("a blind-spot record of {what} says nothing that is told")]
    UnknownUse {
        /// `Blind::what`.
        what: u16,
    },
    /// The parts of the tail claim more bytes than there are.
    #[error("a part of the tail claims {claimed} bytes, but {left} are left")]
    TailTooShort {
        /// Bytes that the part claims.
        claimed: usize,
        /// Bytes that there are.
        left: usize,
    },
}

impl DecodeError {
    /// The cause, for counting.
    #[must_use]
    pub fn cause(self) -> &'static str {
        match self {
            Self::TooShort { .. } => "too_short",
            Self::UnknownKind { .. } => "unknown_kind",
            Self::UnknownUse { .. } => "unknown_use",
            Self::TailTooShort { .. } => "tail_too_short",
        }
    }
}

/// A record of the file ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// When.
    pub at: BootTime,
    /// The access; its path is empty when it was told before ([`super::path_table::PathTable`] has it).
    pub access: FileAccess,
    /// Which of the file's names.
    pub name_id: u64,
}

/// A record of the process ring. An exec's cgroup paths are left empty; `truncated` says that something was cut or
/// could not be read.
///
/// # Errors
/// When the bytes are not a whole record of a known kind.
pub fn process_record(bytes: &[u8]) -> Result<Observation, DecodeError> {
    let (header, _) = fixed::<Header>(bytes)?;
    let event = match header.kind {
        records::KIND_FORK => {
            let (fork, _) = fixed::<records::Fork>(bytes)?;
            let child = ProcessKey {
                tgid: fork.child_tgid,
                start_ns: fork.child_start_ns,
            };
            Event::Fork {
                parent: process(&header),
                child,
            }
        }
        records::KIND_EXEC => {
            let (exec, tail) = fixed::<records::Exec>(bytes)?;
            Event::Exec(Box::new(exec_event(&exec, Tail(tail))?))
        }
        records::KIND_EXIT => {
            let (exit, _) = fixed::<records::Exit>(bytes)?;
            Event::Exit {
                process: process(&header),
                code: exit.code,
            }
        }
        records::KIND_BLIND => {
            let (blind, _) = fixed::<records::Blind>(bytes)?;
            let unknown = DecodeError::UnknownUse { what: blind.what };
            Event::Blind(super::blind::use_of(&blind).ok_or(unknown)?)
        }
        kind => return Err(DecodeError::UnknownKind { kind }),
    };
    Ok(Observation {
        at: header.at_ns,
        event,
    })
}

/// A record of the file ring.
///
/// # Errors
/// When the bytes are not a whole file record.
pub fn file_record(bytes: &[u8]) -> Result<FileRecord, DecodeError> {
    let (Header { kind, .. }, _) = fixed(bytes)?;
    if kind != records::KIND_FILE {
        return Err(DecodeError::UnknownKind { kind });
    }
    let (file, tail) = fixed::<records::File>(bytes)?;
    let truncated = file.header.flags & records::FLAG_TRUNCATED != 0;
    let path = Tail(tail).take(file.path_len)?;
    Ok(FileRecord {
        at: file.header.at_ns,
        access: FileAccess {
            process: process(&file.header),
            file: file_ref(&file.file, components_to_path(path, !truncated)),
            access: Access {
                read: file.access & records::ACCESS_READ != 0,
                write: file.access & records::ACCESS_WRITE != 0,
                create: file.access & records::ACCESS_CREATE != 0,
            },
            truncated,
        },
        name_id: file.name_id,
    })
}

/// A record of the name ring. Its `cgroup_path` is left empty.
///
/// # Errors
/// When the bytes are not a whole name record.
pub fn name_record(bytes: &[u8]) -> Result<Observation, DecodeError> {
    let (Header { kind, .. }, _) = fixed(bytes)?;
    if kind != records::KIND_NAME {
        return Err(DecodeError::UnknownKind { kind });
    }
    let (name, tail) = fixed::<records::Name>(bytes)?;
    let kind = match name.what {
        records::NAME_DNS_UDP => NameKind::DnsUdp,
        records::NAME_DNS_TCP => NameKind::DnsTcp,
        records::NAME_TLS_HELLO => NameKind::TlsHello,
        records::NAME_QUIC_INITIAL => NameKind::QuicInitial,
        kind => return Err(DecodeError::UnknownKind { kind }),
    };
    let end = |addr: [u8; 16], port: [u8; 2]| {
        SocketAddr::new(
            IpAddr::V6(Ipv6Addr::from(addr)).to_canonical(),
            u16::from_be_bytes(port),
        )
    };
    Ok(Observation {
        at: name.header.at_ns,
        event: Event::Name(Box::new(NamePayload {
            kind,
            process: (name.header.tgid != 0).then(|| process(&name.header)),
            cookie: name.cookie,
            cgroup_id: name.cgroup_id,
            cgroup_path: Text::default(),
            netns: name.netns,
            local: end(name.saddr, name.sport),
            remote: end(name.daddr, name.dport),
            seq: name.seq,
            length: name.length,
            payload: Tail(tail).take(name.payload_len)?.into(),
        })),
    })
}

fn exec_event(exec: &records::Exec, mut tail: Tail<'_>) -> Result<Exec, DecodeError> {
    let cut = exec.header.flags & records::FLAG_TRUNCATED != 0;
    let unreadable = exec.header.flags & records::FLAG_UNREADABLE != 0;
    let path = |bytes: &[u8], cut: u16| components_to_path(bytes, exec.header.flags & cut == 0);
    let known = |id: u32| (id != u32::MAX).then_some(id);
    Ok(Exec {
        process: process(&exec.header),
        parent: ProcessKey {
            tgid: exec.parent_tgid,
            start_ns: exec.parent_start_ns,
        },
        origin: Origin::Kernel,
        exec_id: Some(exec.exec_id),
        filename: until_nul(tail.take(exec.filename_len)?),
        interpreter: until_nul(tail.take(exec.interp_len)?),
        executable: file_ref(
            &exec.exe,
            path(tail.take(exec.exe_path_len)?, records::FLAG_EXE_CUT),
        ),
        cwd: path(tail.take(exec.cwd_len)?, records::FLAG_CWD_CUT),
        args: split_args(tail.take(exec.args_len)?),
        name: until_nul(&exec.comm),
        truncated: cut || unreadable,
        identity: Identity {
            uid: exec.uid,
            euid: exec.euid,
            gid: exec.gid,
            loginuid: known(exec.loginuid),
            session_id: known(exec.session_id),
            tty: (exec.tty != 0).then_some(exec.tty),
        },
        cgroup_id: exec.cgroup_id,
        cgroup_path: Text::default(),
        cgroup_v1: None,
        netns: exec.netns,
        mntns: exec.mntns,
        pidns: exec.pidns,
        stdio: exec.stdio.map(|file| stdio(file_id(&file), file.mode)),
    })
}

/// What a descriptor is, by the type in `st_mode`. Directories and anonymous inodes (eventfd, epoll) are `None`.
pub(super) fn stdio(id: FileId, mode: u32) -> Stdio {
    match FileType::from_raw_mode(mode) {
        FileType::Fifo => Stdio::Pipe {
            ino: id.ino,
            dev: id.dev,
        },
        FileType::Socket => Stdio::Socket { ino: id.ino },
        FileType::RegularFile | FileType::BlockDevice => Stdio::File(id),
        FileType::CharacterDevice => Stdio::Device,
        _ => Stdio::None,
    }
}

fn process(header: &Header) -> ProcessKey {
    ProcessKey {
        tgid: header.tgid,
        start_ns: header.start_ns,
    }
}

fn file_id(file: &FileIdentity) -> FileId {
    FileId {
        dev: file.dev,
        ino: file.ino,
        generation: file.generation,
    }
}

fn file_ref(file: &FileIdentity, path: Text) -> FileRef {
    FileRef {
        id: file_id(file),
        path,
        size: file.size,
        mode: file.mode,
        nlink: file.nlink,
    }
}

/// The fixed part of a record and what follows it.
fn fixed<T: FromBytes>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(bytes).map_err(|_| DecodeError::TooShort {
        length: bytes.len(),
    })
}

/// What is left of a record's tail.
struct Tail<'a>(&'a [u8]);

impl<'a> Tail<'a> {
    fn take(&mut self, length: u16) -> Result<&'a [u8], DecodeError> {
        let claimed = usize::from(length);
        let error = DecodeError::TailTooShort {
            claimed,
            left: self.0.len(),
        };
        let (part, rest) = self.0.split_at_checked(claimed).ok_or(error)?;
        self.0 = rest;
        Ok(part)
    }
}

#[cfg(test)]
mod tests;
