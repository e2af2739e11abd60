use std::io::Write as _;

use super::*;

fn vmlinux() -> Vec<u8> {
    std::fs::read(VMLINUX).expect("this kernel has BTF")
}

#[test]
fn this_kernel_has_every_field() {
    let start = std::time::Instant::now();
    let offsets = from_host(Path::new(VMLINUX)).expect("resolves");
    println!("resolved in {:?}: {offsets:?}", start.elapsed());
    assert_eq!(offsets.missing().collect::<Vec<_>>(), Vec::<&str>::new());
}

/// Relations that the C sources fix on every kernel that does not shuffle its structures (`CONFIG_RANDSTRUCT`).
#[test]
fn offsets_are_those_of_the_sources() {
    let o = from_host(Path::new(VMLINUX)).expect("resolves");
    // include/net/sock.h: sock_common is first, skc_daddr is first in it, skc_rcv_saddr follows.
    assert_eq!((o.sock_daddr, o.sock_rcv_saddr), (0, 4));
    // struct { skc_dport; skc_num; } and then the family: 8 bytes of addresses, 4 of hash, 2 + 2 of ports.
    assert_eq!((o.sock_dport, o.sock_num, o.sock_family), (12, 14, 16));
    // skc_v6_rcv_saddr follows skc_v6_daddr, both struct in6_addr.
    assert_eq!(o.sock_v6_rcv_saddr, o.sock_v6_daddr + 16);
    // include/linux/path.h: two pointers.
    assert_eq!((o.path_mnt, o.path_dentry), (0, 8));
    // fs/mount.h: hlist_node (2 pointers), mnt_parent, mnt_mountpoint, mnt.
    assert_eq!(
        (o.mount_mnt_parent, o.mount_mnt_mountpoint, o.mount_mnt),
        (16, 24, 32)
    );
    assert_eq!(o.vfsmount_mnt_root, 0);
    // include/linux/dcache.h: qstr is { hash_len: u64, name: pointer }.
    assert_eq!(o.dentry_d_name_name, o.dentry_d_name_hash_len + 8);
    // include/linux/sched.h: pid, tgid. include/linux/cred.h: uid, gid, suid, sgid, euid.
    assert_eq!(o.task_tgid, o.task_pid + 4);
    assert_eq!((o.cred_gid, o.cred_euid), (o.cred_uid + 4, o.cred_uid + 16));
    // include/linux/mm_types.h: arg_start, arg_end. fs.h: i_mode is first in struct inode.
    assert_eq!(o.mm_arg_end, o.mm_arg_start + 8);
    assert_eq!(o.inode_i_mode, 0);
    // include/linux/sched.h, CONFIG_AUDIT: kuid_t loginuid, unsigned int sessionid.
    assert_eq!(o.task_sessionid, o.task_loginuid + 4);
    // include/linux/fdtable.h: max_fds, then (aligned) fd.
    assert_eq!((o.fdtable_max_fds, o.fdtable_fd), (0, 8));
}

#[test]
fn what_is_not_there_is_missing() {
    let bytes = vmlinux();
    let names = ["task_struct", "path", "sock", "sock_common"];
    let btf = Btf::parse(&bytes, &names).expect("parses");
    let offset = |structure, paths| {
        field_offset(
            &btf,
            &Field {
                name: "test",
                structure,
                paths,
            },
        )
    };
    assert_eq!(offset("task_struct", &["no_such_member"]), None);
    assert_eq!(offset("no_such_structure", &["pid"]), None);
    assert_eq!(offset("path", &["mnt.mnt_root"]), None, "behind a pointer");
    assert_eq!(offset("task_struct", &["in_execve"]), None, "a bitfield");
    assert_eq!(
        offset("path", &["gone", "dentry"]),
        Some(8),
        "the second name counts"
    );
    assert_eq!(
        offset("sock", &["__sk_common.skc_net.net"]),
        offset("sock_common", &["skc_net"])
    );
}

#[test]
fn errors_say_what_to_do() {
    let missing = from_host(Path::new("/nonexistent/vmlinux")).expect_err("not there");
    assert!(matches!(missing, FieldsError::NoBtf { .. }));
    assert!(
        missing.to_string().contains("CONFIG_DEBUG_INFO_BTF"),
        "{missing}"
    );
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    file.write_all(b"not BTF").expect("writes");
    let garbage = from_host(file.path()).expect_err("garbage");
    assert!(
        matches!(garbage, FieldsError::Malformed { .. }),
        "{garbage}"
    );
}

/// Damaged copies of a real BTF: an error or missing fields, never a panic or a hang.
#[test]
fn damaged_btf_is_survived() {
    let whole = small_btf();
    assert!(resolve(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(resolve(&whole[..length]).is_err(), "{length}");
    }
    damage(whole, 10_000);
}

#[test]
fn damaged_btf_of_this_kernel_is_survived() {
    let whole = vmlinux();
    for length in (0..whole.len()).step_by(whole.len() / 300) {
        assert!(resolve(&whole[..length]).is_err(), "{length}");
    }
    damage(whole, 30);
}

/// Resolves `rounds` copies with three bytes changed in each.
fn damage(mut bytes: Vec<u8>, rounds: u32) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..rounds {
        let changes = [(); 3].map(|()| {
            // xorshift64 (Marsaglia 2003): the same damage in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = usize::try_from(state % bytes.len() as u64).expect("fits");
            let mask = state.to_le_bytes()[5] | 1;
            bytes[at] ^= mask;
            (at, mask)
        });
        let _ = resolve(&bytes);
        for (at, mask) in changes {
            bytes[at] ^= mask;
        }
    }
}

/// Every kind has the length that `btf.rst` gives it: the structure behind it is found. One that is not known is named.
#[test]
fn every_kind_is_stepped_over() {
    // Words after the three of `struct btf_type`, with two entries where it has entries; INT is kind 1, ENUM64 19.
    let words = [1, 0, 3, 6, 6, 4, 0, 0, 0, 0, 0, 0, 4, 1, 6, 0, 1, 0, 6];
    for (kind, words) in (1..).zip(words) {
        let mut types = vec![0, (kind << 24) | 2, 4];
        types.resize(3 + words, 0);
        types.extend([1, (4 << 24) | 1, 8, 6, 0, 0]); // struct path { void mnt; }
        let offsets = resolve(&btf_bytes(&types, b"\0path\0mnt\0")).expect("well-formed");
        assert_eq!(offsets.path_mnt, 0, "kind {kind}");
    }
    for info in [0, 20 << 24, (4 << 24) | (1 << 16)] {
        let error = resolve(&btf_bytes(&[0, info, 0], b"\0")).expect_err("unknown");
        assert!(error.to_string().contains("unknown kind"), "{error}");
    }
}

/// `kind_flag` puts the size of a bitfield into the upper byte of the offset; without it, the integer says so.
#[test]
fn bitfields_of_both_encodings() {
    let mnt = |flag: u32, offset: u32, int: u32| {
        let types = [
            vec![0, 1 << 24, 4, int],
            vec![1, (flag << 31) | (4 << 24) | 1, 8, 6, 1, offset],
        ]
        .concat();
        let bytes = btf_bytes(&types, b"\0path\0mnt\0");
        resolve(&bytes).expect("well-formed").path_mnt
    };
    assert_eq!(mnt(0, 32, 32), 4);
    assert_eq!(mnt(1, 32, 32), 4);
    assert_eq!(mnt(1, (3 << 24) | 32, 32), MISSING);
    assert_eq!(mnt(0, 32, 3), MISSING);
    assert_eq!(mnt(0, 32, (8 << 16) | 32), MISSING);
    assert_eq!(mnt(0, 3, 32), MISSING, "not on a byte");
}

#[test]
fn the_other_byte_order_is_named() {
    let mut bytes = small_btf();
    bytes.swap(0, 1);
    let error = resolve(&bytes).expect_err("swapped");
    assert!(error.to_string().contains("byte order"), "{error}");
}

/// `struct path { struct path; const struct path; }`, without names: nests without end, two ways each time.
#[test]
fn endless_nesting_ends() {
    let member = |kind_id: u32| [0_u32, kind_id, 0];
    let types: Vec<u32> = [
        vec![1, (4 << 24) | 2, 16], // 1: struct "path", 2 members
        member(1).to_vec(),
        member(2).to_vec(),
        vec![0, 10 << 24, 1], // 2: const of 1
    ]
    .concat();
    let offsets = resolve(&btf_bytes(&types, b"\0path\0")).expect("well-formed");
    assert_eq!(offsets, Offsets::UNKNOWN);
}

fn btf_bytes(types: &[u32], strings: &[u8]) -> Vec<u8> {
    let type_len = u32::try_from(types.len() * 4).expect("small");
    let str_len = u32::try_from(strings.len()).expect("small");
    let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    for word in [24, 0, type_len, type_len, str_len].iter().chain(types) {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(strings);
    bytes
}

/// `struct sock { struct { const typedef_u32 skc_daddr; } __sk_common; }` and the like: every kind that is walked,
/// small enough to damage thousands of times.
fn small_btf() -> Vec<u8> {
    let strings = b"\0u32\0t\0sock\0__sk_common\0skc_daddr\0path\0mnt\0dentry\0";
    let at = |name: &str| {
        let offset = strings
            .windows(name.len())
            .position(|window| window == name.as_bytes());
        u32::try_from(offset.expect("listed")).expect("small")
    };
    let types: Vec<u32> = [
        vec![at("u32"), 1 << 24, 4, 32],                             // 1: int
        vec![at("t"), 8 << 24, 1],                                   // 2: typedef of 1
        vec![0, 10 << 24, 2],                                        // 3: const of 2
        vec![0, (5 << 24) | 1, 4, at("skc_daddr"), 3, 0],            // 4: union { 3 skc_daddr; }
        vec![0, (4 << 24) | 1, 4, 0, 4, 0],                          // 5: struct { 4; }
        vec![at("sock"), (4 << 24) | 1, 4, at("__sk_common"), 5, 0], // 6: struct sock { 5 __sk_common; }
        vec![0, 2 << 24, 6],                                         // 7: pointer to 6
        vec![
            at("path"),
            (4 << 24) | 2,
            16,
            at("mnt"),
            7,
            0,
            at("dentry"),
            7,
            64,
        ], // 8: struct path
    ]
    .concat();
    let bytes = btf_bytes(&types, strings);
    let offsets = resolve(&bytes).expect("well-formed");
    assert_eq!(
        (offsets.sock_daddr, offsets.path_mnt, offsets.path_dentry),
        (0, 0, 8)
    );
    bytes
}
