//! The guest's root file system: one archive for all kernels, and one with the modules of each.
//!
//! In: programs of this host, with the libraries that they name, and what was built here. Out: cpio archives that the
//! kernel unpacks into memory. Not compressed: emulated, unpacking would take longer than all that it saves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Programs of this host that the tests call; those that are missing here are missing there.
const TOOLS: &[&str] = &[
    "bpftool", "curl", "ethtool", "ip", "nft", "nsenter", "setpriv", "setsid", "ss", "sysctl",
    "tc", "unshare",
];

/// Modules that the tests need where a kernel has them as modules.
const MODULES: &[&str] = &[
    "veth",
    "dummy",
    "overlay",
    "sch_ingress",
    "cls_bpf",
    "sch_netem",
    "sch_tbf",
    "nf_tables",
    "nft_counter",
    "nft_numgen",
    "nft_limit",
    "sctp",
    "tls",
    "vsock",
    "vsock_loopback",
    "tun",
    "bridge",
    "udp_diag",
    "tcp_diag",
    "inet_diag",
    "raw_diag",
];

/// The first program. Results go over a serial port of their own, so that the kernel's messages cannot tear their lines.
const INIT: &str = r#"#!/busybox/sh
export PATH=/usr/sbin:/usr/bin:/busybox HOME=/root LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
exec >/dev/ttyS1 2>&1 </dev/null
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
chmod 1777 /tmp
case " $(cat /proc/cmdline) " in
*" cgroups=hybrid "*)
    mount -t tmpfs cgroup /sys/fs/cgroup
    mkdir /sys/fs/cgroup/unified /sys/fs/cgroup/pids
    mount -t cgroup -o pids cgroup /sys/fs/cgroup/pids
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified ;;
*) mount -t cgroup2 cgroup2 /sys/fs/cgroup ;;
esac
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs security /sys/kernel/security
mount -t debugfs debug /sys/kernel/debug
ip link set lo up
while read -r module; do
    insmod "/modules/$module" || echo "@ module $module was refused"
done </modules/order
echo "@ kernel $(uname -r)"
echo "@ lsm $(cat /sys/kernel/security/lsm)"
sh /guest.sh
echo "@ memory $(grep MemAvailable /proc/meminfo)"
dmesg | grep -E 'BUG:|WARNING:|Oops|general protection|Call Trace|Out of memory' | sed 's/^/@ splat /'
echo "@ end"
sync
sleep 0.2
poweroff -f
"#;

/// Builds the archive that all kernels share. `files`: what was built here, by its path in the guest.
///
/// # Errors
/// When a file cannot be copied, or a program's libraries cannot be found.
pub fn base(dir: &Path, files: &BTreeMap<PathBuf, PathBuf>, script: &str) -> Result<PathBuf> {
    let root = dir.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for directory in [
        "busybox",
        "dev",
        "etc",
        "modules",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "usr/sbin",
        "var/lib",
    ] {
        fs::create_dir_all(root.join(directory))?;
    }
    for merged in ["bin", "lib", "lib64", "sbin"] {
        symlink(format!("usr/{merged}"), root.join(merged))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/busybox/sh\nnobody:x:65534:65534::/:/busybox/sh\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    // By which nft names transports.
    fs::write(
        root.join("etc/protocols"),
        "icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\nudplite 136 UDPLite\n",
    )?;
    fs::copy("/bin/busybox", root.join("busybox/busybox"))?;
    let applets = Command::new("/bin/busybox").arg("--list").output()?.stdout;
    for applet in String::from_utf8_lossy(&applets).lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("busybox").join(applet))?;
        }
    }
    let mut libraries = BTreeSet::new();
    for tool in TOOLS {
        let Some(path) = find(tool) else { continue };
        libraries.extend(needs(&path)?);
        let name = path.file_name().context("a name")?;
        fs::copy(&path, root.join("usr/bin").join(name))?;
    }
    for (inside, built) in files {
        libraries.extend(needs(built)?);
        let to = root.join(inside.strip_prefix("/").unwrap_or(inside));
        fs::create_dir_all(to.parent().context("a folder")?)?;
        // Without debug information, which would be most of the archive.
        let stripped = Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(&to)
            .arg(built)
            .status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(built, &to)?;
        }
    }
    for library in libraries {
        let to = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(to.parent().context("a folder")?)?;
        fs::copy(&library, &to).with_context(|| library.display().to_string())?;
    }
    fs::write(root.join("guest.sh"), script)?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let archive = dir.join("base.cpio");
    pack(&root, &archive)?;
    Ok(archive)
}

/// Builds the archive with a kernel's modules, in the order in which they can be inserted.
///
/// # Errors
/// When `modules.dep` does not make sense, or a module cannot be unpacked.
pub fn modules(modules: &Path, dir: &Path) -> Result<PathBuf> {
    let table = fs::read_to_string(modules.join("modules.dep"))?;
    let name = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split(".ko").next().unwrap_or(file).to_owned()
    };
    let needs: BTreeMap<String, (String, Vec<String>)> = table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, rest)| {
            (
                name(path),
                (path.to_owned(), rest.split_whitespace().map(name).collect()),
            )
        })
        .collect();
    let mut order = Vec::new();
    for module in MODULES {
        insert_order(module, &needs, &mut order, 0);
    }
    let root = dir.join("modules-root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(root.join("modules"))?;
    let mut listed = String::new();
    for module in &order {
        let Some((path, _)) = needs.get(module) else {
            continue;
        };
        let source = modules.join(path);
        let file = format!("{module}.ko");
        let to = root.join("modules").join(&file);
        let unpack = match source.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => Some("xz"),
            Some("zst") => Some("zstd"),
            _ => None,
        };
        match unpack {
            Some(tool) => {
                let done = Command::new(tool)
                    .args(["-q", "-d", "-c"])
                    .arg(&source)
                    .stdout(fs::File::create(&to)?)
                    .status()?;
                ensure!(done.success(), "{tool} {}", source.display());
            }
            None => {
                fs::copy(&source, &to)?;
            }
        }
        listed.push_str(&file);
        listed.push('\n');
    }
    fs::write(root.join("modules/order"), listed)?;
    let archive = dir.join("modules.cpio");
    pack(&root, &archive)?;
    Ok(archive)
}

/// A module's needs before itself. A kernel that has it built in has no such module.
fn insert_order(
    module: &str,
    needs: &BTreeMap<String, (String, Vec<String>)>,
    order: &mut Vec<String>,
    depth: u32,
) {
    let Some((_, before)) = needs.get(module) else {
        return;
    };
    if depth > 16 || order.iter().any(|known| known == module) {
        return;
    }
    for other in before {
        insert_order(other, needs, order, depth + 1);
    }
    order.push(module.to_owned());
}

/// A program of this host.
fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let places = std::env::split_paths(&path).chain(usual);
    places
        .map(|dir| dir.join(tool))
        .find_map(|path| path.canonicalize().ok().filter(|path| path.is_file()))
}

/// The libraries that a program is linked with, and its loader.
fn needs(program: &Path) -> Result<Vec<PathBuf>> {
    let listing = Command::new("ldd")
        .arg(program)
        .output()
        .context("ldd")?
        .stdout;
    let listing = String::from_utf8_lossy(&listing);
    Ok(listing
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect())
}

/// A folder as a cpio archive.
fn pack(root: &Path, archive: &Path) -> Result<()> {
    let names = Command::new("find")
        .arg(".")
        .current_dir(root)
        .output()?
        .stdout;
    let mut cpio = Command::new("cpio")
        .args(["--create", "--format=newc", "--quiet", "--owner=0:0"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(fs::File::create(archive)?)
        .spawn()
        .context("cpio")?;
    cpio.stdin.take().context("piped")?.write_all(&names)?;
    let done = cpio.wait()?;
    ensure!(done.success(), "cpio: {done}");
    Ok(())
}
