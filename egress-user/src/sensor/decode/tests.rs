use proptest::prelude::*;
use zerocopy::IntoBytes as _;

use super::*;

const PIPE: u32 = 0o010_600;
const SOCKET: u32 = 0o140_777;
const REGULAR: u32 = 0o100_644;
const TERMINAL: u32 = 0o020_620;

fn identity(mode: u32) -> FileIdentity {
    FileIdentity {
        ino: 5,
        size: 6,
        dev: 0x0080_0001,
        generation: 8,
        mode,
        nlink: 1,
    }
}

fn exec_bytes(flags: u16, parts: [&[u8]; 5]) -> Vec<u8> {
    let length = |part: &[u8]| u16::try_from(part.len()).expect("fits");
    let exec = records::Exec {
        header: Header {
            kind: records::KIND_EXEC,
            flags,
            tgid: 10,
            at_ns: 99,
            start_ns: 50,
        },
        parent_start_ns: 40,
        cgroup_id: 77,
        parent_tgid: 9,
        uid: 1,
        gid: 2,
        euid: 3,
        loginuid: u32::MAX,
        session_id: 12,
        tty: 0,
        netns: 4,
        mntns: 5,
        pidns: 6,
        exe: identity(REGULAR),
        stdio: [identity(PIPE), identity(SOCKET), FileIdentity::default()],
        comm: *b"backup.sh\0\0\0\0\0\0\0",
        filename_len: length(parts[0]),
        interp_len: length(parts[1]),
        exe_path_len: length(parts[2]),
        cwd_len: length(parts[3]),
        args_len: length(parts[4]),
        _pad: 0,
        exec_id: 7,
    };
    [exec.as_bytes(), &parts.concat()].concat()
}

const PARTS: [&[u8]; 5] = [
    b"./backup.sh",
    b"/bin/sh\0",
    b"dash\0bin\0usr\0",
    b"srv\0/\0",
    b"/bin/sh\0./backup.sh\0\xff\0",
];

fn exec_of(bytes: &[u8]) -> Exec {
    match process_record(bytes).expect("well-formed").event {
        Event::Exec(exec) => *exec,
        other => panic!("not an exec: {other:?}"),
    }
}

#[test]
fn an_exec_arrives_whole() {
    let mut bytes = exec_bytes(0, PARTS);
    bytes.extend(b"what the ring rounds up to");
    assert_eq!(process_record(&bytes).expect("well-formed").at, 99);
    let exec = exec_of(&bytes);
    assert_eq!(
        exec.process,
        ProcessKey {
            tgid: 10,
            start_ns: 50
        }
    );
    assert_eq!(
        exec.parent,
        ProcessKey {
            tgid: 9,
            start_ns: 40
        }
    );
    assert_eq!(exec.origin, Origin::Kernel);
    let texts = [
        &exec.filename,
        &exec.interpreter,
        &exec.executable.path,
        &exec.cwd,
        &exec.name,
    ];
    assert_eq!(
        texts.map(ToString::to_string),
        [
            "./backup.sh",
            "/bin/sh",
            "/usr/bin/dash",
            "/srv",
            "backup.sh"
        ]
    );
    let args: Vec<_> = exec.args.iter().map(ToString::to_string).collect();
    assert_eq!(args, ["/bin/sh", "./backup.sh", "\\xff"]);
    let expected = Identity {
        uid: 1,
        euid: 3,
        gid: 2,
        loginuid: None,
        session_id: Some(12),
        tty: None,
    };
    assert_eq!(exec.identity, expected);
    assert_eq!(
        (exec.cgroup_id, exec.netns, exec.mntns, exec.pidns),
        (77, 4, 5, 6)
    );
    let id = FileId {
        dev: 0x0080_0001,
        ino: 5,
        generation: 8,
    };
    assert_eq!(
        (
            exec.executable.id,
            exec.executable.size,
            exec.executable.nlink
        ),
        (id, 6, 1)
    );
    assert_eq!(
        exec.stdio,
        [
            Stdio::Pipe {
                ino: 5,
                dev: id.dev
            },
            Stdio::Socket { ino: 5 },
            Stdio::None
        ]
    );
    assert!(!exec.truncated);
}

#[test]
fn what_was_cut_is_not_told_as_whole() {
    let cut = [PARTS[0], PARTS[1], PARTS[2], b"deep\0down\0", PARTS[4]];
    let exec = exec_of(&exec_bytes(
        records::FLAG_TRUNCATED | records::FLAG_CWD_CUT,
        cut,
    ));
    assert!(exec.truncated);
    assert_eq!(exec.executable.path.to_string(), "/usr/bin/dash");
    assert_eq!(
        exec.cwd.to_string(),
        "down/deep",
        "its upper end is missing"
    );
    let exec = exec_of(&exec_bytes(
        records::FLAG_TRUNCATED | records::FLAG_EXE_CUT,
        PARTS,
    ));
    assert!(!exec.executable.path.to_string().starts_with('/'));
    assert_eq!(exec.cwd.to_string(), "/srv");
    assert!(exec_of(&exec_bytes(records::FLAG_UNREADABLE, PARTS)).truncated);
}

#[test]
fn descriptors_are_told_by_type() {
    let id = FileId {
        dev: 1,
        ino: 2,
        generation: 3,
    };
    assert_eq!(stdio(id, REGULAR), Stdio::File(id));
    assert_eq!(stdio(id, 0o060_600), Stdio::File(id), "block device");
    assert_eq!(stdio(id, TERMINAL), Stdio::Device);
    assert_eq!(stdio(id, 0o040_755), Stdio::None, "directory");
    assert_eq!(stdio(id, 0o600), Stdio::None, "anonymous inode");
}

#[test]
fn forks_and_exits_arrive() {
    let header = Header {
        kind: records::KIND_FORK,
        flags: 0,
        tgid: 1,
        at_ns: 7,
        start_ns: 2,
    };
    let fork = records::Fork {
        header,
        child_start_ns: 4,
        child_tgid: 3,
        _pad: 0,
    };
    let Event::Fork { parent, child } = process_record(fork.as_bytes()).expect("fork").event else {
        panic!("not a fork");
    };
    assert_eq!(
        (parent.tgid, parent.start_ns, child.tgid, child.start_ns),
        (1, 2, 3, 4)
    );
    let header = Header {
        kind: records::KIND_EXIT,
        ..header
    };
    let exit = records::Exit {
        header,
        code: 0x0900,
        _pad: 0,
    };
    let Event::Exit { process, code } = process_record(exit.as_bytes()).expect("exit").event else {
        panic!("not an exit");
    };
    assert_eq!((process.tgid, process.start_ns, code), (1, 2, 0x0900));
}

fn file_bytes(flags: u16, access: u32, path: &[u8]) -> Vec<u8> {
    let file = records::File {
        header: Header {
            kind: records::KIND_FILE,
            flags,
            tgid: 10,
            at_ns: 99,
            start_ns: 50,
        },
        file: identity(REGULAR),
        name_id: 1234,
        access,
        path_len: u16::try_from(path.len()).expect("fits"),
        _pad: 0,
    };
    [file.as_bytes(), path].concat()
}

#[test]
fn a_file_arrives_whole() {
    let record = file_record(&file_bytes(
        0,
        records::ACCESS_READ | records::ACCESS_CREATE,
        b"shadow\0etc\0",
    ))
    .expect("file");
    assert_eq!((record.at, record.name_id), (99, 1234));
    assert_eq!(
        record.access.process,
        ProcessKey {
            tgid: 10,
            start_ns: 50
        }
    );
    assert_eq!(record.access.file.path.to_string(), "/etc/shadow");
    assert_eq!(
        record.access.access,
        Access {
            read: true,
            write: false,
            create: true
        }
    );
    let cut = file_record(&file_bytes(records::FLAG_TRUNCATED, 0, b"shadow\0etc\0")).expect("file");
    assert!(cut.access.truncated);
    assert_eq!(cut.access.file.path.to_string(), "etc/shadow");
    assert!(
        file_record(&file_bytes(0, 0, b""))
            .expect("file")
            .access
            .file
            .path
            .is_empty()
    );
}

#[test]
fn nonsense_is_refused_by_cause() {
    let cause = |bytes: &[u8]| process_record(bytes).expect_err("nonsense").cause();
    let exec = exec_bytes(0, PARTS);
    assert_eq!(cause(b""), "too_short");
    assert_eq!(cause(&exec[..100]), "too_short");
    assert_eq!(cause(&exec[..exec.len() - 1]), "tail_too_short");
    assert_eq!(
        cause(&file_bytes(0, 0, b"")),
        "unknown_kind",
        "a file record in the process ring"
    );
    assert_eq!(
        file_record(&exec).expect_err("nonsense").cause(),
        "unknown_kind"
    );
    let file = file_bytes(0, 0, b"shadow\0etc\0");
    assert_eq!(
        file_record(&file[..file.len() - 1])
            .expect_err("nonsense")
            .cause(),
        "tail_too_short"
    );
}

fn name_bytes(what: u16, length: u32, payload: &[u8]) -> Vec<u8> {
    let name = records::Name {
        header: Header {
            kind: records::KIND_NAME,
            flags: 0,
            tgid: 10,
            at_ns: 99,
            start_ns: 50,
        },
        cookie: 5,
        cgroup_id: 77,
        saddr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1],
        daddr: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        netns: 4,
        seq: 6,
        length,
        sport: [0x9c, 0x40],
        dport: [0, 53],
        what,
        payload_len: u16::try_from(payload.len()).expect("fits"),
        _pad: 0,
    };
    [name.as_bytes(), payload, b"room that was not needed"].concat()
}

#[test]
fn a_name_arrives_whole() {
    let observation = name_record(&name_bytes(records::NAME_DNS_TCP, 9, b"answer")).expect("whole");
    let Event::Name(name) = observation.event else {
        panic!("not a name: {:?}", observation.event)
    };
    assert_eq!((observation.at, name.kind), (99, NameKind::DnsTcp));
    assert_eq!(name.process.map(|process| process.tgid), Some(10));
    assert_eq!(
        (name.local, name.remote),
        (
            "192.0.2.1:40000".parse().expect("an address"),
            "[2001:db8::9]:53".parse().expect("an address")
        )
    );
    assert_eq!((name.cookie, name.cgroup_id, name.netns), (5, 77, 4));
    assert_eq!((name.seq, name.length), (6, 9));
    assert_eq!(*name.payload, *b"answer");
    let cause = |bytes: &[u8]| name_record(bytes).map_err(DecodeError::cause).err();
    assert_eq!(cause(&name_bytes(99, 1, b"x")), Some("unknown_kind"));
    assert_eq!(cause(&name_bytes(1, 1, b"x")[..96]), Some("tail_too_short"));
    assert_eq!(cause(&name_bytes(1, 1, b"x")[..95]), Some("too_short"));
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..1024), kind in 0_u16..6) {
        let _ = (process_record(&bytes), file_record(&bytes), name_record(&bytes));
        // And the same with a kind that exists, so that the tails are reached.
        if let Some(start) = bytes.get_mut(..2) {
            start.copy_from_slice(&kind.to_ne_bytes());
        }
        let _ = (process_record(&bytes), file_record(&bytes), name_record(&bytes));
    }

    #[test]
    fn damage_does_not_panic(at in 0_usize..330, value in any::<u8>(), length in 0_usize..400) {
        let mut bytes = exec_bytes(0, PARTS);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        bytes.truncate(length);
        let _ = process_record(&bytes);
    }

    #[test]
    fn tails_survive(parts in prop::collection::vec(prop::collection::vec(1_u8..=255, 1..200), 5)) {
        let exe = [&parts[2][..], b"\0"].concat();
        let cwd = [&parts[3][..], b"\0"].concat();
        let args = [&parts[4][..], b"\0"].concat();
        prop_assume!(parts[2] != b"/" && parts[3] != b"/");
        let exec = exec_of(&exec_bytes(0, [&parts[0], &parts[1], &exe, &cwd, &args]));
        prop_assert_eq!(exec.filename.as_bytes(), &parts[0][..]);
        prop_assert_eq!(exec.interpreter.as_bytes(), &parts[1][..]);
        prop_assert_eq!(exec.executable.path.as_bytes(), [b"/", &parts[2][..]].concat());
        prop_assert_eq!(exec.cwd.as_bytes(), [b"/", &parts[3][..]].concat());
        prop_assert_eq!(exec.args, vec![Text::from(parts[4].clone())]);
    }
}

#[test]
fn a_blind_spot_is_read() {
    let mut record = records::Blind {
        header: Header {
            kind: records::KIND_BLIND,
            tgid: 7,
            at_ns: 99,
            start_ns: 42,
            ..Header::default()
        },
        what: records::BLIND_IO_URING,
        detail: 18,
        netns: 5,
        ..records::Blind::default()
    };
    let told = process_record(record.as_bytes()).expect("whole");
    let Event::Blind(using) = told.event else {
        panic!("{told:?}")
    };
    let process = ProcessKey {
        tgid: 7,
        start_ns: 42,
    };
    assert_eq!((told.at, using.process, using.netns), (99, process, 5));
    assert_eq!(using.operation, "IORING_OP_OPENAT");
    assert!(using.opens_file);
    record.what = 9;
    let error = process_record(record.as_bytes()).expect_err("nothing that is told");
    assert_eq!(error, DecodeError::UnknownUse { what: 9 });
    let short = record.as_bytes().split_last().expect("not empty").1;
    let error = process_record(short).expect_err("too short");
    assert_eq!(error.cause(), "too_short");
}
