use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};

use super::*;

/// A cgroup that is removed at the end, whatever happens.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(root: &CgroupRoot, name: &str) -> Self {
        let path = root
            .path()
            .join(format!("egress-test-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("root may make a cgroup");
        Self(path)
    }

    fn id(&self) -> u64 {
        std::fs::metadata(&self.0).expect("it is there").ino()
    }

    fn below(&self, root: &CgroupRoot) -> String {
        format!(
            "/{}",
            self.0.strip_prefix(root.path()).expect("below").display()
        )
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A process that is ended at the end.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn the_root_is_found() {
    let root = CgroupRoot::find().expect("this host has cgroup2");
    assert!(root.path().join("cgroup.controllers").exists());
    assert!(root.covers_host());
    assert_eq!(root.id_of(b"/"), Some(1));
    assert_eq!(root.id_of(b"/no/such"), None);
    assert_eq!(root.id_of(b"/../.."), None);
    let read = std::fs::File::from(root.as_fd().try_clone_to_owned().expect("open"));
    assert!(read.metadata().expect("open").is_dir());
}

#[test]
fn a_new_cgroup_is_found_by_the_walk() {
    let root = CgroupRoot::find().expect("this host has cgroup2");
    let mut paths = CgroupPaths::new(1_000);
    assert_eq!(paths.path(&root, 1, None, 0).to_string(), "/");
    let parent = Cgroup::make(&root, "walk");
    let child = Cgroup(parent.0.join("a b\\n"));
    std::fs::create_dir(&child.0).expect("root may make a cgroup");
    let (id, below) = (child.id(), child.below(&root));
    assert_eq!(root.id_of(below.as_bytes()), Some(id));
    // The tree was walked at 0: not again before 50 ms.
    assert!(paths.path(&root, id, None, WALK_INTERVAL_NS - 1).is_empty());
    assert_eq!(
        paths.path(&root, id, None, WALK_INTERVAL_NS).as_bytes(),
        below.as_bytes()
    );
    assert_eq!(
        paths
            .path(&root, parent.id(), None, WALK_INTERVAL_NS)
            .as_bytes(),
        parent.below(&root).as_bytes()
    );
    assert_eq!(paths.unknown(), 1);
    drop(child);
    assert_eq!(
        paths.path(&root, id, None, u64::MAX).as_bytes(),
        below.as_bytes(),
        "removed, but still known"
    );
}

#[test]
fn a_removed_cgroup_is_not_looked_for_again() {
    let root = CgroupRoot::find().expect("this host has cgroup2");
    let mut paths = CgroupPaths::new(1_000);
    let id = Cgroup::make(&root, "gone").id();
    assert!(paths.path(&root, id, None, 0).is_empty());
    assert_eq!(paths.walked_at, Some(0));
    assert!(paths.path(&root, id, None, u64::MAX).is_empty());
    assert_eq!((paths.walked_at, paths.unknown()), (Some(0), 2));
}

#[test]
fn a_member_tells_its_cgroup_without_a_walk() {
    let root = CgroupRoot::find().expect("this host has cgroup2");
    let mut paths = CgroupPaths::new(1_000);
    let cgroup = Cgroup::make(&root, "member");
    let sleeper = Sleeper(
        Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .expect("starts"),
    );
    let tgid = sleeper.0.id();
    std::fs::write(cgroup.0.join("cgroup.procs"), tgid.to_string()).expect("moves");
    assert_eq!(
        paths.path(&root, cgroup.id(), Some(tgid), 0).as_bytes(),
        cgroup.below(&root).as_bytes()
    );
    assert_eq!(paths.walked_at, None);
    // Somewhere else: what the process says is not what was asked, so the tree decides.
    let other = Cgroup::make(&root, "other");
    assert_eq!(
        paths.path(&root, other.id(), Some(tgid), 0).as_bytes(),
        other.below(&root).as_bytes()
    );
    assert_eq!(paths.walked_at, Some(0));
    drop(sleeper);
}

#[test]
fn mounts_are_read_as_proc_writes_them() {
    let mountinfo = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        41 31 0:38 /../.. /host/c\\040g rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw\n\
        42 31 0:38 / /b\\134x rw - cgroup2 none rw\ngarbage\n\n43 - cgroup2";
    let mounts = cgroup2_mounts(mountinfo);
    assert_eq!(mounts.len(), 2);
    assert_eq!(mounts[0], (&b"/../.."[..], PathBuf::from("/host/c g")));
    assert_eq!(mounts[1], (&b"/"[..], PathBuf::from("/b\\x")));
    assert_eq!(unescape(b"a\\"), b"a\\");
    assert_eq!(unescape(b"\\777"), b"\\777");
}

#[test]
fn without_a_mount_the_error_says_what_to_do() {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    let error = CgroupRoot::from_mountinfo(file.path()).expect_err("empty");
    assert!(error.to_string().contains("mount -t cgroup2"), "{error}");
}
