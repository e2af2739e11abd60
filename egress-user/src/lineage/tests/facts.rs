//! What is known of a process: from its flow, its images, its user, its cgroup.

use std::sync::Arc;

use super::{World, exec, file, key};
use crate::lineage::Glimpse;
use crate::model::{Exec, Login, Text};

#[test]
fn a_process_without_records_is_made_from_its_flow() {
    let mut world = World::new();
    let glimpse = Glimpse {
        key: key(7),
        name: Text::from("evil\n"),
        uid: Some(0),
        cgroup_id: 5,
        netns: 4,
        ..Glimpse::default()
    };
    let process = world.lineage.process_or(glimpse.clone(), 10);
    assert_eq!(
        (process.key, process.cgroup_id, process.netns),
        (key(7), 5, 4)
    );
    assert!(process.executable.path.is_empty());
    assert!(Arc::ptr_eq(
        &process,
        &world.lineage.process_or(glimpse.clone(), 11)
    ));
    world.lineage.job(key(7)).unwrap();
    world.exec(exec(7, "/bin/known", &[]));
    let process = world.lineage.process_or(glimpse, 12);
    assert_eq!(
        process.executable.path,
        Text::from("/bin/known"),
        "records are better"
    );
}

#[test]
fn bytes_belong_to_the_image_and_the_user_that_sent_them() {
    let mut world = World::new();
    let mut image = |path: &str, exec_id| {
        let mut exec = exec(7, path, &[]);
        exec.exec_id = Some(exec_id);
        world.exec(exec);
    };
    image("/bin/first", 4);
    image("/bin/second", 5);
    let mut seen = |exec_id, uid| {
        let glimpse = Glimpse {
            key: key(7),
            uid: Some(uid),
            exec_id: Some(exec_id),
            ..Glimpse::default()
        };
        world.lineage.process_or(glimpse, 10)
    };
    let first = seen(4, 1000);
    assert_eq!(first.executable.path, Text::from("/bin/first"));
    let dropped = seen(5, 33);
    assert_eq!(dropped.executable.path, Text::from("/bin/second"));
    assert_eq!((dropped.identity.uid, dropped.identity.euid), (33, 33));
    assert!(Arc::ptr_eq(&dropped, &seen(5, 33)), "made once");
    assert_eq!(seen(5, 1000).identity.uid, 1000);
}

#[test]
fn a_login_and_a_move_after_the_exec_are_told_as_seen() {
    let mut world = World::new();
    world.exec(Exec {
        cgroup_path: Text::from("/system.slice/ssh.service"),
        ..exec(7, "/usr/sbin/sshd", &[])
    });
    let scope = Text::from("/user.slice/user-1000.slice/session-3.scope");
    let mut seen = |uid, gid, login, (cgroup_id, path): (u64, &Text)| {
        let glimpse = Glimpse {
            key: key(7),
            uid: Some(uid),
            gid: Some(gid),
            login: Some(Login {
                uid: login,
                session_id: login.map(|_| 3),
            }),
            cgroup_id,
            cgroup_path: path.clone(),
            ..Glimpse::default()
        };
        world.lineage.process_or(glimpse, 10)
    };
    let unit = Text::from("/system.slice/ssh.service");
    let before = seen(0, 0, None, (1, &unit));
    assert_eq!(before.unit.as_deref(), Some("ssh.service"));
    let later = seen(1000, 1001, Some(1000), (2, &scope));
    let identity = later.identity;
    assert_eq!((identity.uid, identity.gid), (1000, 1001));
    assert_eq!(
        (identity.loginuid, identity.session_id),
        (Some(1000), Some(3))
    );
    assert_eq!((later.unit.as_deref(), &later.cgroup_path), (None, &scope));
    assert!(Arc::ptr_eq(
        &later,
        &seen(1000, 1001, Some(1000), (2, &scope))
    ));
    assert_eq!(seen(0, 0, None, (1, &unit)).identity.loginuid, None);
}

#[test]
fn a_container_that_cgroup2_does_not_know() {
    let mut world = World::new();
    let docker = Text::from(format!("/docker/{}", "cd".repeat(32)).as_str());
    let root = || Text::from("/");
    world.exec(Exec {
        cgroup_path: root(),
        cgroup_v1: Some(vec![docker]),
        ..exec(1, "/bin/sh", &[])
    });
    let inside = |world: &World, tgid| {
        let process = world.process(tgid).unwrap();
        process.container.as_ref().map(|c| c.runtime.clone())
    };
    assert_eq!(inside(&world, 1).as_deref(), Some("docker"));
    // Gone before anybody could ask: as its parent.
    world.fork(1, 2);
    world.exec(Exec {
        parent: key(1),
        cgroup_path: root(),
        ..exec(2, "/bin/curl", &[])
    });
    assert_eq!(inside(&world, 2).as_deref(), Some("docker"));
    // Asked, and in none.
    world.exec(Exec {
        cgroup_path: root(),
        cgroup_v1: Some(Vec::new()),
        ..exec(1, "/bin/nsenter", &[])
    });
    assert_eq!(inside(&world, 1), None);
    // Moved within cgroup2 alone: the other hierarchies still hold.
    let glimpse = Glimpse {
        key: key(2),
        cgroup_id: 9,
        cgroup_path: Text::from("/system.slice/x.service"),
        ..Glimpse::default()
    };
    let moved = world.lineage.process_or(glimpse, 10);
    assert!(moved.container.is_some());
}

#[test]
fn a_glimpse_names_a_process_that_a_file_made_known() {
    let mut world = World::new();
    world.read(7, file(1, "/x"));
    let glimpse = Glimpse {
        key: key(7),
        name: Text::from("curl"),
        uid: Some(33),
        ..Glimpse::default()
    };
    let process = world.lineage.process_or(glimpse, 10);
    assert_eq!(
        (process.name.to_string().as_str(), process.identity.uid),
        ("curl", 33)
    );
    assert_eq!(world.lineage.job(key(7)).unwrap().uid, 33);
}

#[test]
fn the_cgroup_of_an_exec_that_does_not_tell_it_is_that_of_before() {
    let mut world = World::new();
    let container = format!("/docker/{}", "ab".repeat(32));
    world.exec(Exec {
        cgroup_path: Text::from(container.as_str()),
        ..exec(1, "/bin/sh", &[])
    });
    world.run(1, 2, "/bin/curl", &[]);
    assert_eq!(
        world
            .process(2)
            .unwrap()
            .container
            .as_ref()
            .unwrap()
            .runtime,
        "docker"
    );
    world.exec(Exec {
        cgroup_id: 77,
        ..exec(2, "/bin/curl", &[])
    });
    assert!(world.process(2).unwrap().container.is_none(), "it moved");
}
