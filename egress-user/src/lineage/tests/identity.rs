//! Who is who: keys, images, memory.

use std::time::Duration;

use proptest::prelude::*;

use super::{SECOND, World, cut, exec, file, key};
use crate::config::Limits;
use crate::lineage::Glimpse;
use crate::model::{Access, Event, Exec, FileAccess, Origin, ProcessKey, Text};

fn seed(tgid: u32, parent: u32, executable: &str) -> Exec {
    Exec {
        process: cut(key(tgid)),
        parent: if parent == 0 {
            ProcessKey::default()
        } else {
            cut(key(parent))
        },
        origin: Origin::Proc,
        exec_id: None,
        filename: Text::default(),
        interpreter: Text::default(),
        cgroup_path: Text::from("/system.slice/seeded.service"),
        ..exec(tgid, executable, &[executable])
    }
}

#[test]
fn a_fork_is_a_copy_until_it_executes() {
    let mut world = World::new();
    world.exec(exec(1, "/sbin/init", &["init"]));
    world.run(1, 2, "/bin/bash", &["bash"]);
    world.fork(2, 3);
    assert_eq!(world.path(3), "/bin/bash");
    let copy = world.process(3).unwrap();
    assert_eq!(
        (copy.parent, copy.start_ns, copy.exec_ns),
        (Some(key(2)), key(3).start_ns, key(3).start_ns)
    );
    let before = world.lineage.process(key(3)).unwrap().clone();
    let at = world.exec(Exec {
        parent: key(2),
        ..exec(3, "/usr/bin/curl", &["curl"])
    });
    assert_eq!(world.path(3), "/usr/bin/curl");
    assert_eq!(world.process(3).unwrap().exec_ns, at);
    assert_eq!(
        before.executable.path,
        Text::from("/bin/bash"),
        "what was handed out does not change"
    );
    assert_eq!(world.ancestors(3), [2, 1]);
}

#[test]
fn an_exec_whose_fork_was_lost_makes_the_process_and_names_its_parent() {
    let mut world = World::new();
    world.exec(Exec {
        parent: key(9),
        ..exec(3, "/usr/bin/curl", &["curl"])
    });
    assert_eq!(world.path(3), "/usr/bin/curl");
    assert_eq!(world.ancestors(3), [9]);
    assert_eq!(world.lineage.stats().implied, 1);
}

#[test]
fn the_kernel_s_key_takes_the_place_of_the_one_from_proc() {
    let mut world = World::new();
    world.exec(seed(1, 0, "/sbin/init"));
    world.exec(seed(2, 1, "/usr/sbin/nginx"));
    let exact = key(2);
    assert_eq!(
        world.lineage.resolve(exact),
        cut(exact),
        "found although only known by /proc"
    );
    world.fork(2, 3);
    assert_eq!(world.lineage.resolve(cut(exact)), exact);
    for key in [exact, cut(exact)] {
        let process = world.lineage.process(key).unwrap();
        assert_eq!((process.key, process.seeded), (exact, true));
        assert_eq!(process.executable.path, Text::from("/usr/sbin/nginx"));
    }
    assert_eq!(world.ancestors(3), [2, 1]);
    assert_eq!(world.lineage.stats().live, 3, "nobody is there twice");
    // Another process with the same pid is not the same process.
    let later = ProcessKey {
        start_ns: exact.start_ns + 3 * SECOND,
        ..exact
    };
    assert!(world.lineage.process(later).is_none());
    world.exec(Exec {
        process: later,
        ..exec(2, "/bin/other", &[])
    });
    assert_eq!(
        world.lineage.resolve(cut(exact)),
        exact,
        "the old key is still known by its alias"
    );
    assert!(
        world.process(2).unwrap().exit_ns.is_some(),
        "it must have ended"
    );
    assert_eq!(world.lineage.stats().ends_missed, 1);
}

#[test]
fn what_the_kernel_told_is_not_overwritten_from_proc() {
    let mut world = World::new();
    let at = world.exec(exec(2, "/usr/bin/new", &["new"]));
    world.exec(seed(2, 1, "/usr/bin/stale"));
    let process = world.process(2).unwrap();
    assert_eq!(process.executable.path, Text::from("/usr/bin/new"));
    assert_eq!(
        (process.exec_ns, process.seeded, process.key),
        (at, false, key(2))
    );
    assert_eq!(
        process.unit.as_deref(),
        Some("seeded.service"),
        "what was not known is filled in"
    );
    assert_eq!(world.ancestors(2), [1]);
    assert_eq!(world.lineage.resolve(cut(key(2))), key(2));
}

#[test]
fn proc_fills_in_a_parent_and_its_copies() {
    let mut world = World::new();
    // The hooks are attached before /proc is read.
    world.fork(2, 3);
    world.fork(3, 4);
    world.exit(4);
    let job = world.lineage.job(key(3)).unwrap();
    assert!(job.executable.is_empty());
    world.exec(seed(2, 1, "/usr/sbin/nginx"));
    assert_eq!(world.path(3), "/usr/sbin/nginx");
    assert_eq!(world.path(4), "/usr/sbin/nginx");
    assert!(world.process(4).unwrap().exit_ns.is_some());
    assert_eq!(
        world.lineage.job(key(3)).unwrap().executable,
        Text::from("/usr/sbin/nginx")
    );
    world.exec(seed(1, 0, "/sbin/init"));
    assert_eq!(world.ancestors(4), [3, 2, 1]);
    world.exec(seed(3, 2, "/usr/sbin/nginx"));
    assert_eq!(world.lineage.stats().live, 3);
}

#[test]
fn children_of_proc_may_come_before_their_parents() {
    let mut world = World::new();
    world.exec(seed(3, 2, "/bin/c"));
    world.exec(seed(2, 1, "/bin/b"));
    world.exec(seed(1, 0, "/bin/a"));
    assert_eq!(world.ancestors(3), [2, 1]);
    // The parent is then named exactly.
    world.run(2, 4, "/bin/d", &[]);
    assert_eq!(world.ancestors(3), [2, 1]);
    assert_eq!(world.lineage.ancestors(cut(key(3)))[0].key, key(2));
}

#[test]
fn an_ended_process_is_kept_for_its_flows_and_for_its_children() {
    let mut world = World::new();
    world.exec(exec(1, "/sbin/init", &[]));
    world.run(1, 2, "/bin/sh", &["sh", "/opt/x.sh"]);
    world.run(2, 3, "/bin/daemon", &[]);
    world.run(1, 4, "/bin/true", &[]);
    world.exit(2);
    world.exit(4);
    world.wait(299);
    assert!(world.process(4).unwrap().exit_ns.is_some());
    assert_eq!(
        (world.lineage.stats().live, world.lineage.stats().exited),
        (2, 2)
    );
    world.wait(2);
    assert!(world.process(4).is_none());
    // Init adopts the daemon: that does not change where it comes from.
    world.exec(Exec {
        parent: key(1),
        ..exec(3, "/bin/daemon2", &[])
    });
    assert_eq!(world.ancestors(3), [2, 1]);
    world.exit(3);
    world.wait(301);
    assert!(world.process(2).is_none() && world.process(3).is_none());
    let stats = world.lineage.stats();
    assert_eq!((stats.live, stats.exited, stats.aged), (1, 0, 3));
    assert_eq!((stats.evicted_exited, stats.evicted_live), (0, 0));
}

#[test]
fn a_full_table_forgets_the_longest_ended_then_the_oldest_leaf() {
    let mut world = World::with(&Limits {
        processes: 16,
        ..Limits::default()
    });
    world.exec(exec(1, "/sbin/init", &[]));
    for child in 2..=16 {
        world.run(1, child, "/bin/x", &[]);
    }
    world.exit(9);
    world.exit(5);
    world.fork(1, 17);
    assert!(world.process(9).is_none() && world.process(5).is_some());
    world.fork(1, 18);
    assert!(world.process(5).is_none());
    assert_eq!(world.lineage.stats().evicted_exited, 2);
    world.fork(2, 19);
    assert!(world.process(2).is_some(), "not the one that is forking");
    assert!(world.process(3).is_none());
    assert!(world.process(1).is_some(), "not a parent");
    let stats = world.lineage.stats();
    assert_eq!((stats.evicted_live, stats.live + stats.exited), (1, 16));
}

#[test]
fn circles_are_not_followed() {
    let mut world = World::new();
    world.fork(5, 5);
    world.exec(Exec {
        parent: key(6),
        ..exec(5, "/a", &[])
    });
    world.exec(Exec {
        parent: key(5),
        ..exec(6, "/b", &[])
    });
    world.fork(6, 5);
    assert_eq!(world.ancestors(5), [6]);
    assert_eq!(world.ancestors(6), [0; 0]);
    world.lineage.job(key(5)).unwrap();
}

#[test]
fn the_line_of_ancestors_is_bounded() {
    let mut world = World::new();
    for tgid in 1..200 {
        world.fork(tgid, tgid + 1);
    }
    assert_eq!(world.ancestors(200).len(), 63);
}

/// One hostile or torn record.
fn any_event() -> impl Strategy<Value = (u8, u32, u32, u64, u64)> {
    (0..7_u8, 0..12_u32, 0..12_u32, 0..4_u64, 0..6_u64)
}

proptest! {
    #[test]
    fn any_order_of_any_records_is_taken_within_bounds(events in prop::collection::vec(any_event(), 0..400)) {
        let limits = Limits { processes: 16, files: 16, exited: Duration::from_secs(3), ..Limits::default() };
        let mut world = World::with(&limits);
        for (kind, a, b, start, ino) in events {
            let key = |tgid| ProcessKey { tgid, start_ns: start * 5_000_000 };
            let from = |origin| Exec {
                process: key(a),
                parent: key(b),
                origin,
                stdio: [super::pipe(ino), super::pipe(ino + 1), crate::model::Stdio::File(file(ino, "").id)],
                ..exec(a, "/bin/sh", &["sh", "-c", "x"])
            };
            match kind {
                0 => world.tell(Event::Fork { parent: key(a), child: key(b) }),
                1 => world.tell(Event::Exec(Box::new(from(Origin::Kernel)))),
                2 => world.tell(Event::Exec(Box::new(from(Origin::Proc)))),
                3 => world.tell(Event::Exit { process: key(a), code: 0 }),
                4 => world.tell(Event::File(FileAccess {
                    process: key(a),
                    file: file(ino, "/x"),
                    access: Access { read: b % 2 == 0, write: b % 3 == 0, create: b % 5 == 0 },
                    truncated: false,
                })),
                5 => { world.wait(1); 0 }
                _ => {
                    world.lineage.process_or(Glimpse { key: key(a), ..Glimpse::default() }, world.now);
                    0
                }
            };
            let stats = world.lineage.stats();
            prop_assert!(stats.live + stats.exited <= 16);
            prop_assert!(stats.files <= 16);
            prop_assert!(world.lineage.ancestors(key(a)).len() < 64);
            world.lineage.job(key(a));
            prop_assert!(world.lineage.sources(key(b), 0).files.len() <= 256);
            let known = world.lineage.process(key(a)).map(|p| p.key);
            prop_assert!(known.is_none_or(|known| known == world.lineage.resolve(key(a))));
        }
        // Everybody ends: nothing is left behind in any table.
        for tgid in 0..12 {
            for start in 0..4 {
                let process = ProcessKey { tgid, start_ns: start * 5_000_000 };
                world.tell(Event::Exit { process, code: 0 });
            }
        }
        world.wait(25 * 3600);
        world.wait(2);
        let stats = world.lineage.stats();
        prop_assert_eq!((stats.live, stats.exited, stats.reads, stats.pipes, stats.files), (0, 0, 0, 0, 0));
    }
}
