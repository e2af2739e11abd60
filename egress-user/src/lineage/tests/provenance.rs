//! Which files bytes come from.

use std::time::Duration;

use super::{SECOND, World, cut, exec, file, key, pipe};
use crate::config::Limits;
use crate::model::{Access, Exec, Origin, Stdio, Text};

impl World {
    fn sources(&self, tgid: u32, since: u64) -> (Vec<String>, bool) {
        let sources = self.lineage.sources(key(tgid), since);
        (
            sources
                .files
                .iter()
                .map(|f| f.file.path.to_string())
                .collect(),
            sources.complete,
        )
    }

    fn has(&self, tgid: u32, since: u64, path: &str) -> bool {
        self.sources(tgid, since).0.iter().any(|p| p == path)
    }
}

/// A person's shell (2) under init (1).
fn shell() -> World {
    let mut world = World::new();
    world.exec(exec(1, "/sbin/init", &["init"]));
    world.run(1, 2, "/bin/bash", &["-bash"]);
    world
}

/// A script (3) below that.
fn script() -> World {
    let mut world = shell();
    world.run(2, 3, "/bin/bash", &["bash", "/opt/x.sh"]);
    world
}

#[test]
fn own_reads_since_a_time() {
    let mut world = shell();
    world.fork(2, 3);
    let early = world.read(3, file(10, "/srv/early"));
    world.exec(Exec {
        parent: key(2),
        ..exec(3, "/bin/cp", &["cp"])
    });
    let late = world.read(3, file(11, "/srv/late"));
    world.write(3, file(12, "/tmp/out"));
    assert_eq!(
        world.sources(3, 0),
        (vec!["/srv/late".into(), "/srv/early".into()], true)
    );
    assert_eq!(world.sources(3, early + 1).0, ["/srv/late"]);
    assert_eq!(world.sources(3, late + 1), (vec![], true));
    let sources = world.lineage.sources(key(3), 0);
    assert_eq!((sources.files[0].by, sources.files[0].at), (key(3), late));
    world.read(3, file(10, "/srv/early"));
    assert_eq!(world.sources(3, late + 1).0, ["/srv/early"], "told again");
}

#[test]
fn an_unknown_process_is_incomplete() {
    assert_eq!(shell().sources(99, 0), (vec![], false));
}

#[test]
fn standard_input_that_is_a_file_is_read() {
    let mut world = shell();
    world.read(2, file(10, "/srv/in"));
    world.piped(
        2,
        3,
        "/usr/bin/curl",
        [Stdio::File(file(10, "").id), Stdio::None],
    );
    assert_eq!(world.sources(3, 0).0, ["/srv/in"]);
    world.run(3, 4, "/usr/bin/curl", &[]);
    assert!(
        world.sources(4, 0).0.is_empty(),
        "executed without that input"
    );
}

#[test]
fn a_pipeline_is_followed_to_its_head() {
    let mut world = shell();
    world.piped(2, 3, "/bin/tar", [Stdio::Device, pipe(1)]);
    world.piped(2, 4, "/usr/bin/gpg", [pipe(1), pipe(2)]);
    let since = world.piped(2, 5, "/usr/bin/curl", [pipe(2), Stdio::Device]);
    world.piped(2, 6, "/bin/unrelated", [Stdio::Device, pipe(3)]);
    world.read(3, file(10, "/srv/data"));
    world.read(4, file(11, "/root/key"));
    world.read(6, file(12, "/srv/other"));
    assert_eq!(
        world.sources(5, since),
        (vec!["/root/key".into(), "/srv/data".into()], true)
    );
    assert_eq!(world.lineage.sources(key(5), since).files[1].by, key(3));
    // tar may end before curl sends.
    world.exit(3);
    assert!(world.has(5, since, "/srv/data"));
}

#[test]
fn a_pipe_that_a_shell_writes_to_by_itself_leads_to_the_shell() {
    let mut world = shell();
    world.read(2, file(10, "/srv/read-by-builtin"));
    world.piped(2, 5, "/usr/bin/curl", [pipe(2), Stdio::Device]);
    assert!(world.has(5, 0, "/srv/read-by-builtin"));
}

#[test]
fn what_a_script_gathers_for_an_argument() {
    // curl -d "$(cat /srv/secret)"
    let mut world = script();
    world.piped(3, 4, "/bin/cat", [Stdio::Device, pipe(7)]);
    world.read(4, file(10, "/srv/secret"));
    world.exit(4);
    let since = world.run(3, 5, "/usr/bin/curl", &["curl", "-d", "s3cret"]);
    world.read(5, file(11, "/etc/resolv.conf"));
    assert_eq!(
        world.sources(5, since).0,
        ["/etc/resolv.conf", "/srv/secret"],
        "the nearest first"
    );
    // In a subshell, which is a copy of the script.
    world.fork(3, 6);
    world.run(6, 7, "/usr/bin/curl", &["curl", "-d", "s3cret"]);
    assert!(world.has(7, since, "/srv/secret"));
    // A person's own commands are not one script.
    world.run(2, 8, "/usr/bin/curl", &["curl"]);
    assert!(!world.has(8, 0, "/srv/secret"));
    // More than an hour later it is another transfer.
    world.wait(299);
    assert!(world.has(5, since + 3599 * SECOND, "/srv/secret"));
    assert!(!world.has(5, since + 3601 * SECOND, "/srv/secret"));
}

#[test]
fn a_staged_file_leads_to_what_went_into_it_after_everybody_is_forgotten() {
    // tar c /srv | gpg > /tmp/.x, at two; curl -T /tmp/.x, at three.
    let mut world = shell();
    world.piped(2, 3, "/bin/tar", [Stdio::Device, pipe(1)]);
    world.fork(2, 4);
    world.open(
        4,
        file(20, "/tmp/.x"),
        Access {
            write: true,
            create: true,
            read: false,
        },
    );
    world.exec(Exec {
        parent: key(2),
        stdio: [pipe(1), Stdio::File(file(20, "").id), Stdio::None],
        ..exec(4, "/usr/bin/gpg", &["gpg"])
    });
    world.read(3, file(10, "/srv/data"));
    world.exit(3);
    world.exit(4);
    world.wait(301);
    assert!(world.process(3).is_none() && world.process(4).is_none());
    let since = world.run(2, 5, "/usr/bin/curl", &["curl"]);
    // Renamed meanwhile: it is the same file.
    world.read(5, file(20, "/tmp/.y"));
    let (files, complete) = world.sources(5, since);
    assert_eq!(
        (files, complete),
        (vec!["/tmp/.y".into(), "/srv/data".into()], true)
    );
    let sources = world.lineage.sources(key(5), since);
    assert_eq!(
        sources.files[1].by,
        key(3),
        "the reader is named although it is gone"
    );
    world.wait(25 * 3600);
    world.run(2, 6, "/usr/bin/curl", &["curl"]);
    world.read(6, file(20, "/tmp/.y"));
    assert!(!world.has(6, 0, "/srv/data"), "a day later");
}

#[test]
fn staging_goes_on_over_several_files_but_not_backwards_in_time() {
    let mut world = shell();
    world.run(2, 3, "/bin/cp", &[]);
    world.read(3, file(10, "/srv/a"));
    world.write(3, file(20, "/tmp/1"));
    world.run(2, 4, "/bin/cp", &[]);
    world.read(4, file(20, "/tmp/1"));
    world.write(4, file(21, "/tmp/2"));
    world.run(2, 5, "/usr/bin/curl", &[]);
    world.read(5, file(21, "/tmp/2"));
    world.write(3, file(22, "/tmp/unrelated"));
    world.read(3, file(11, "/srv/after"));
    assert_eq!(
        world.sources(5, 0),
        (
            vec!["/tmp/2".into(), "/tmp/1".into(), "/srv/a".into()],
            true
        )
    );
    world.exit(3);
    world.exit(4);
    assert_eq!(
        world.sources(5, 0).0,
        ["/tmp/2", "/tmp/1", "/srv/a"],
        "the same when they have ended"
    );
    // Written after it was read: not in what was read.
    world.run(2, 6, "/usr/bin/curl", &[]);
    world.read(6, file(30, "/tmp/3"));
    world.run(2, 7, "/bin/cp", &[]);
    world.read(7, file(12, "/srv/later"));
    world.write(7, file(30, "/tmp/3"));
    assert!(!world.has(6, 0, "/srv/later"));
}

#[test]
fn a_script_that_writes_by_itself_stages_what_its_commands_read() {
    // x=$(cat /srv/secret); echo "$x" > /tmp/x
    let mut world = script();
    world.piped(3, 4, "/bin/cat", [Stdio::Device, pipe(7)]);
    world.read(4, file(10, "/srv/secret"));
    world.exit(4);
    world.write(3, file(20, "/tmp/x"));
    world.exit(3);
    world.wait(301);
    world.run(2, 5, "/usr/bin/curl", &[]);
    world.read(5, file(20, "/tmp/x"));
    assert!(world.has(5, 0, "/srv/secret"));
}

#[test]
fn a_process_that_sends_later_what_it_staged_itself() {
    let mut world = shell();
    world.run(2, 3, "/bin/agent", &[]);
    world.read(3, file(10, "/srv/a"));
    world.write(3, file(20, "/tmp/1"));
    world.wait(10);
    let since = world.read(3, file(20, "/tmp/1"));
    assert!(
        world.has(3, since, "/srv/a"),
        "its own read before `since` is in the file"
    );
}

#[test]
fn libraries_come_last() {
    let mut world = shell();
    world.run(2, 3, "/bin/cp", &[]);
    world.read(3, file(10, "/srv/a"));
    world.read(3, file(11, "/etc/ld.so.cache"));
    world.read(3, file(12, "/usr/lib/x86_64-linux-gnu/libc.so.6"));
    world.read(3, file(13, "/srv/b"));
    assert_eq!(
        world.sources(3, 0).0,
        [
            "/srv/b",
            "/srv/a",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/etc/ld.so.cache"
        ]
    );
}

#[test]
fn bounds_cut_and_say_so() {
    let mut world = shell();
    world.run(2, 3, "/bin/cp", &[]);
    for ino in 0..256 {
        world.read(3, file(1000 + ino, &format!("/srv/{ino}")));
    }
    let (files, complete) = world.sources(3, 0);
    assert_eq!((files.len(), complete), (256, true));
    world.read(3, file(5000, "/srv/one-more"));
    let (files, complete) = world.sources(3, 0);
    assert_eq!((files.len(), complete), (256, false));
    assert_eq!(files[0], "/srv/one-more", "the latest stay");
    for ino in 0..600 {
        world.read(3, file(10_000 + ino, "/srv/x"));
    }
    assert_eq!(world.lineage.stats().reads_capped, 600 + 257 - 512);
    assert_eq!(
        world.sources(3, world.now),
        (vec![], false),
        "one that was not remembered may be in it"
    );
}

#[test]
fn a_long_chain_of_pipes_is_cut_and_says_so() {
    let mut world = shell();
    for n in 0..20_u32 {
        world.piped(
            2,
            10 + n,
            "/bin/cat",
            [pipe(u64::from(n)), pipe(u64::from(n) + 1)],
        );
        world.read(10 + n, file(100 + u64::from(n), &format!("/srv/{n}")));
    }
    let (files, complete) = world.sources(29, 0);
    assert!(!complete);
    assert_eq!(files.len(), 9);
    assert!(!world.sources(11, 0).0.is_empty());
}

#[test]
fn reads_are_bounded_in_all_by_forgetting_those_who_ended() {
    let mut world = World::with(&Limits {
        files: 16,
        ..Limits::default()
    });
    world.exec(exec(1, "/sbin/init", &[]));
    for tgid in 2..100 {
        world.run(1, tgid, "/bin/cp", &[]);
        for ino in 0..8 {
            world.read(tgid, file(ino, "/srv/x"));
        }
        world.exit(tgid);
        assert!(world.lineage.stats().reads <= 256);
    }
    let stats = world.lineage.stats();
    assert!(stats.evicted_exited > 0 && stats.reads_refused == 0);
    for tgid in 200..300 {
        world.run(1, tgid, "/bin/cp", &[]);
        for ino in 0..8 {
            world.read(tgid, file(ino, "/srv/x"));
        }
    }
    let stats = world.lineage.stats();
    assert_eq!(stats.reads, 256);
    assert!(stats.reads_refused > 0);
    assert!(!world.sources(299, 0).1, "what was refused is missing");
}

#[test]
fn a_forgotten_file_makes_it_incomplete() {
    let mut world = World::with(&Limits {
        files: 16,
        ..Limits::default()
    });
    world.exec(exec(1, "/sbin/init", &[]));
    world.run(1, 2, "/bin/a", &[]);
    world.read(2, file(1, "/srv/secret"));
    world.run(1, 3, "/bin/b", &[]);
    for ino in 100..200 {
        world.read(3, file(ino, "/junk"));
    }
    assert_eq!(world.sources(2, 0), (vec![], false));
    assert!(world.lineage.stats().evicted_files > 80);
}

#[test]
fn a_process_from_before_our_time_is_incomplete_for_that_time() {
    let mut world = World::new();
    world.exec(Exec {
        process: cut(key(2)),
        origin: Origin::Proc,
        exec_id: None,
        filename: Text::default(),
        interpreter: Text::default(),
        ..exec(2, "/bin/agent", &[])
    });
    let at = world.read(2, file(1, "/srv/a"));
    assert_eq!(world.sources(2, 0), (vec!["/srv/a".into()], false));
    assert_eq!(world.sources(2, at), (vec!["/srv/a".into()], true));
}

#[test]
fn forgotten_commands_of_a_script_make_it_incomplete() {
    let mut world = World::with(&Limits {
        exited: Duration::from_secs(10),
        ..Limits::default()
    });
    world.exec(exec(1, "/sbin/init", &[]));
    world.run(1, 3, "/bin/bash", &["bash", "/opt/x.sh"]);
    world.run(3, 4, "/bin/cat", &[]);
    world.read(4, file(10, "/srv/secret"));
    world.exit(4);
    let since = world.run(3, 5, "/usr/bin/curl", &[]);
    assert_eq!(world.sources(5, since), (vec!["/srv/secret".into()], true));
    world.wait(20);
    assert_eq!(world.sources(5, since), (vec![], false));
}
