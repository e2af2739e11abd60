//! What runs again and again.

use super::{World, exec, file, key};
use crate::config::Limits;
use crate::lineage::users::Users;
use crate::lineage::{Hashed, Lineage, ScriptReader};
use crate::model::{Exec, Identity, Job, Scheduler, Stdio, Text};

impl World {
    fn job(&mut self, tgid: u32) -> Job {
        (*self.lineage.job(key(tgid)).expect("known")).clone()
    }

    fn script(&mut self, tgid: u32) -> String {
        self.job(tgid)
            .script
            .map(|s| s.path.to_string())
            .unwrap_or_default()
    }
}

/// cron (2) forks 10, which forks 11, which becomes `sh -c ENTRY`, which starts a script (12), which runs curl (13).
fn cron(base: u32) -> World {
    let mut world = World::new();
    let cgroup = Text::from("/system.slice/cron.service");
    world.exec(exec(1, "/sbin/init", &["init"]));
    world.fork(1, 2);
    world.exec(Exec {
        parent: key(1),
        cgroup_path: cgroup,
        ..exec(2, "/usr/sbin/cron", &["cron", "-f"])
    });
    world.fork(2, base);
    world.run(
        base,
        base + 1,
        "/usr/bin/dash",
        &["/bin/sh", "-c", "/opt/x.sh daily"],
    );
    world.fork(base + 1, base + 2);
    world.exec(Exec {
        parent: key(base + 1),
        filename: Text::from("/opt/x.sh"),
        interpreter: Text::from("/bin/sh"),
        ..exec(
            base + 2,
            "/usr/bin/dash",
            &["/bin/sh", "/opt/x.sh", "daily"],
        )
    });
    world.run(base + 2, base + 3, "/usr/bin/curl", &["curl", "-T", "x"]);
    world
}

#[test]
fn a_cron_job_is_the_same_in_each_run() {
    let mut world = cron(10);
    let job = world.job(13);
    assert_eq!(job.executable, Text::from("/usr/bin/curl"));
    assert_eq!(job.script.as_ref().unwrap().path, Text::from("/opt/x.sh"));
    assert_eq!(
        job.scheduler,
        Scheduler::Cron(Some("/opt/x.sh daily".into()))
    );
    assert!(!job.interactive);
    assert_eq!(cron(500).job(503), job, "other pids, other times");
    assert_eq!(job.id.0.len(), 16);
    assert_ne!(world.job(12).id, job.id, "the script itself is another job");
    assert_eq!(
        world.job(2).scheduler,
        Scheduler::Systemd("cron.service".into()),
        "cron is not under cron"
    );
}

#[test]
fn the_id_is_pinned() {
    assert_eq!(
        &*cron(10).job(13).id.0,
        PINNED,
        "a change of the id loses everybody's baselines"
    );
}

const PINNED: &str = "2d8d699c1f0e17de";

#[test]
fn each_part_of_the_id_counts_and_no_argument_does() {
    let mut world = World::new();
    world.run(1, 2, "/bin/curl", &["curl", "a"]);
    world.run(1, 3, "/bin/curl", &["curl", "b", "c"]);
    world.run(1, 4, "/bin/wget", &["curl", "a"]);
    world.run(1, 5, "/bin/curl", &["curl", "a"]);
    world.exec(Exec {
        identity: Identity {
            uid: 1,
            ..Identity::default()
        },
        ..exec(5, "/bin/curl", &["curl", "a"])
    });
    world.run(1, 6, "/bin/sh", &["sh", "-c", "text"]);
    world.run(6, 7, "/bin/curl", &["curl", "a"]);
    world.run(1, 8, "/bin/sh", &["sh", "-c", "other"]);
    world.run(8, 9, "/bin/curl", &["curl", "a"]);
    let same = world.job(2).id;
    assert_eq!(world.job(3).id, same);
    let mut ids: Vec<_> = [2, 4, 5, 7, 9]
        .into_iter()
        .map(|tgid| world.job(tgid).id)
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[test]
fn a_shell_that_replaces_itself_leaves_its_script_and_its_scheduler() {
    let mut world = World::new();
    world.exec(exec(2, "/usr/sbin/crond", &["crond"]));
    world.fork(2, 3);
    world.exec(exec(3, "/usr/bin/dash", &["sh", "-c", "curl -T x h"]));
    world.exec(exec(3, "/usr/bin/curl", &["curl", "-T", "x", "h"]));
    let job = world.job(3);
    assert_eq!(job.scheduler, Scheduler::Cron(Some("curl -T x h".into())));
    let script = job.script.unwrap();
    assert!(script.path.is_empty() && script.sha256.is_some());
    // Also when cron itself is no longer remembered: the copy of it that the process was says so.
    for next in 0..20 {
        world.exec(exec(3, "/usr/bin/env", &[&next.to_string()]));
    }
    world.exec(exec(3, "/usr/bin/curl", &[]));
    assert!(matches!(world.job(3).scheduler, Scheduler::Cron(_)));
}

#[test]
fn scripts_are_what_the_kernel_ran_or_what_the_interpreter_was_given() {
    let mut world = World::new();
    world.exec(Exec {
        filename: Text::from("./../opt/x.py"),
        interpreter: Text::from("/usr/bin/env"),
        ..exec(2, "/usr/bin/env", &["python3", "./../opt/x.py"])
    });
    assert_eq!(world.script(2), "/opt/x.py");
    world.exec(exec(
        2,
        "/usr/bin/python3.11",
        &["python3", "./../opt/x.py"],
    ));
    assert_eq!(world.script(2), "/opt/x.py");
    world.exec(exec(
        3,
        "/usr/bin/python3.11",
        &["python3", "-m", "http.server"],
    ));
    assert_eq!(world.script(3), "-m http.server");
    world.exec(Exec {
        filename: Text::from("/dev/fd/3"),
        interpreter: Text::from("/bin/sh"),
        ..exec(4, "/bin/dash", &["/bin/sh", "/dev/fd/3"])
    });
    assert_eq!(world.script(4), "/dev/fd/3");
    world.read(5, file(50, "/tmp/in.sh"));
    world.exec(Exec {
        stdio: [Stdio::File(file(50, "").id), Stdio::None, Stdio::None],
        ..exec(5, "/bin/dash", &["sh"])
    });
    let script = world.job(5).script.unwrap();
    assert_eq!(
        (script.path.to_string().as_str(), script.file),
        ("/tmp/in.sh", Some(file(50, "").id))
    );
    world.exec(exec(6, "/usr/bin/curl", &["sh", "-c", "no shell"]));
    assert!(
        world.job(6).script.is_none(),
        "argv[0] is nobody's identity"
    );
}

#[test]
fn opening_a_script_tells_which_file_it_is() {
    let mut world = World::new();
    world.exec(exec(2, "/bin/dash", &["sh", "/opt/x.sh"]));
    let before = world.job(2);
    world.read(2, file(60, "/etc/other"));
    world.read(2, file(61, "/opt/x.sh"));
    let job = world.job(2);
    assert_eq!(job.script.unwrap().file, Some(file(61, "").id));
    assert_eq!(job.id, before.id);
}

#[test]
fn a_person_s_shell_ends_the_search_for_a_script() {
    let mut world = World::new();
    let terminal = Identity {
        tty: Some(0x8800),
        ..Identity::default()
    };
    world.exec(exec(2, "/bin/dash", &["sh", "/etc/xdg/session.sh"]));
    world.fork(2, 3);
    world.exec(Exec {
        identity: terminal,
        ..exec(3, "/bin/bash", &["-bash"])
    });
    world.fork(3, 4);
    world.exec(Exec {
        identity: terminal,
        ..exec(4, "/usr/bin/curl", &["curl"])
    });
    let job = world.job(4);
    assert_eq!(
        (job.script, job.scheduler, job.interactive),
        (None, Scheduler::Interactive, true)
    );
    // A script that the person starts is one.
    world.fork(3, 5);
    world.exec(Exec {
        identity: terminal,
        ..exec(5, "/bin/bash", &["bash", "up.sh"])
    });
    world.fork(5, 6);
    world.exec(Exec {
        identity: terminal,
        ..exec(6, "/usr/bin/curl", &["curl"])
    });
    assert_eq!(world.script(6), "/home/up.sh");
}

#[test]
fn a_terminal_does_not_hide_a_scheduler() {
    let terminal = Identity {
        tty: Some(0x8801),
        ..Identity::default()
    };
    let place = |cgroup: &str, identity| {
        let mut world = World::new();
        world.exec(Exec {
            cgroup_path: Text::from(cgroup),
            identity,
            ..exec(2, "/usr/bin/curl", &[])
        });
        world.job(2).scheduler
    };
    let container = format!("/docker/{}", "ab".repeat(32));
    let unit = |name: &str| Scheduler::Systemd(name.into());
    assert_eq!(
        place("/system.slice/evil.service", terminal),
        unit("evil.service")
    );
    assert_eq!(
        place(&container, terminal),
        Scheduler::Container("ab".repeat(32))
    );
    assert_eq!(
        place("/system.slice/ssh.service", terminal),
        Scheduler::Interactive
    );
    assert_eq!(
        place("/system.slice/ssh.service", Identity::default()),
        unit("ssh.service")
    );
    assert_eq!(
        place("/user.slice/user-0.slice/session-1.scope", terminal),
        Scheduler::Interactive
    );
    assert_eq!(
        place(
            "/user.slice/user-0.slice/session-1.scope",
            Identity::default()
        ),
        Scheduler::None
    );
    assert_eq!(place("", Identity::default()), Scheduler::None);
    // `script -c` under cron.
    let mut world = World::new();
    world.exec(exec(2, "/usr/sbin/cron", &[]));
    world.fork(2, 3);
    world.exec(Exec {
        identity: terminal,
        ..exec(3, "/bin/bash", &["bash", "-i"])
    });
    world.fork(3, 4);
    world.exec(Exec {
        identity: terminal,
        ..exec(4, "/usr/bin/curl", &[])
    });
    assert!(matches!(world.job(4).scheduler, Scheduler::Cron(None)));
}

#[test]
fn a_container_s_job_is_the_same_in_its_next_container() {
    let job = |id: &str| {
        let mut world = World::new();
        let path = format!("/docker/{}", id.repeat(32));
        world.exec(Exec {
            cgroup_path: Text::from(path.as_str()),
            ..exec(2, "/usr/bin/curl", &[])
        });
        world.job(2)
    };
    let (one, two) = (job("ab"), job("cd"));
    assert_ne!(one.scheduler, two.scheduler);
    assert_eq!(one.id, two.id);
}

#[test]
fn a_job_is_worked_out_once_for_each_image() {
    let mut world = cron(10);
    let one = world.lineage.job(key(13)).unwrap();
    let two = world.lineage.job(key(13)).unwrap();
    assert!(std::sync::Arc::ptr_eq(&one, &two));
    world.exec(exec(13, "/usr/bin/wget", &[]));
    assert_eq!(world.job(13).executable, Text::from("/usr/bin/wget"));
    assert!(world.lineage.job(key(99)).is_none());
}

/// Says that every script is inode 61.
struct Says61;

impl ScriptReader for Says61 {
    fn hash(&mut self, _path: &Text, _mntns: u32) -> Option<Hashed> {
        Some(Hashed {
            sha256: "cafe".into(),
            ino: 61,
        })
    }
}

#[test]
fn a_hash_of_another_file_than_the_one_that_was_opened_is_dropped() {
    let mut world = World::new();
    world.lineage = Lineage::with(&Limits::default(), Box::new(Says61), Users::none());
    for (tgid, ino, expected) in [(2, 61, Some("cafe")), (3, 62, None)] {
        world.exec(exec(tgid, "/bin/dash", &["sh", "/opt/x.sh"]));
        assert_eq!(
            world.job(tgid).script.unwrap().sha256.as_deref(),
            Some("cafe")
        );
        world.read(tgid, file(ino, "/opt/x.sh"));
        assert_eq!(world.job(tgid).script.unwrap().sha256.as_deref(), expected);
    }
    assert_eq!(world.job(2).id, world.job(3).id);
}
