//! Distribution kernels, from Debian's archive.
//!
//! In: the archive's signed indexes, through an apt state of our own (the host's is not touched). Out: for each line of
//! kernels its newest build: image, modules, version. A line is pinned, a build is not: old builds vanish from the
//! archive, so the newest is looked up each time, and printed. Everything is cached outside the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::step::{quietly, say};

/// A line of kernels.
pub struct Line {
    /// What it is called here.
    pub name: &'static str,
    /// The suite that has it.
    suite: &'static str,
    /// The package: a metapackage follows its line's newest build; a `*` takes the highest that fits.
    package: &'static str,
}

/// The lines that servers run, oldest first. Debian's cloud kernels: the same sources and settings, fewer drivers.
pub const LINES: &[Line] = &[
    line("5.10", "bullseye-security", "linux-image-cloud-amd64"),
    line("6.1", "bookworm-security", "linux-image-cloud-amd64"),
    line("6.12", "trixie-security", "linux-image-cloud-amd64"),
    line("6.18", "trixie-backports", "linux-image-6.18.*-cloud-amd64"),
    line("newest", "trixie-backports", "linux-image-cloud-amd64"),
];

const fn line(name: &'static str, suite: &'static str, package: &'static str) -> Line {
    Line {
        name,
        suite,
        package,
    }
}

/// A kernel on disk.
pub struct Kernel {
    /// The line.
    pub line: &'static str,
    /// The release (`uname -r`).
    pub release: String,
    /// The image.
    pub image: PathBuf,
    /// What is below `/lib/modules/RELEASE`, with `modules.dep`.
    pub modules: PathBuf,
}

/// Where kernels are kept: outside the tree, so that a clean checkout does not fetch them again.
///
/// # Errors
/// When the environment names no home.
pub fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    Ok(base
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("egress/vm"))
}

/// Debian's archive, with an apt state of our own.
pub struct Archive {
    cache: PathBuf,
    config: PathBuf,
}

impl Archive {
    /// Brings the indexes up to date, unless they are younger than half a day.
    ///
    /// # Errors
    /// When the archive cannot be reached or its signature does not hold.
    pub fn open() -> Result<Self> {
        let cache = cache()?;
        let apt = cache.join("apt");
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.join(directory))?;
        }
        let (main, security) = (mirror("/debian")?, mirror("/debian-security")?);
        let sources: String = ["bullseye", "bookworm", "trixie"]
            .map(|suite| format!("deb [signed-by={KEYRING}] {security} {suite}-security main\n"))
            .concat()
            + &format!("deb [signed-by={KEYRING}] {main} trixie-backports main\n");
        fs::write(apt.join("sources.list"), &sources)?;
        let config = apt.join("apt.conf");
        let dir = apt.display();
        fs::write(
            &config,
            format!(
                "Dir::State::Lists \"{dir}/lists\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{dir}/cache\";\n\
                 Dir::Etc::SourceList \"{dir}/sources.list\";\nDir::Etc::SourceParts \"/dev/null\";\n\
                 APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\nAPT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n\
                 Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
                 Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n"
            ),
        )?;
        let archive = Self { cache, config };
        let stamp = apt.join("updated");
        let current = fs::read_to_string(&stamp).is_ok_and(|text| text == sources)
            && fs::metadata(&stamp)?
                .modified()?
                .elapsed()
                .is_ok_and(|age| age < INDEX_AGE);
        if !current {
            quietly(
                "reading the indexes of Debian's kernels",
                archive.apt("apt-get").args(["-qq", "update"]),
            )?;
            fs::write(&stamp, &sources)?;
        }
        Ok(archive)
    }

    /// The newest build of a line.
    ///
    /// # Errors
    /// When the archive has none, or it cannot be fetched.
    pub fn fetch(&self, line: &Line) -> Result<Kernel> {
        let packages = self
            .resolve(line)
            .with_context(|| format!("kernel {}", line.name))?;
        let build = packages.join(" ");
        let dir = self.cache.join("kernels").join(line.name);
        let stamp = dir.join("build");
        if fs::read_to_string(&stamp).is_ok_and(|have| have == build) {
            say(&format!("kernel {}: {build}, as fetched before", line.name));
            return kernel(line, &dir);
        }
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        let (debs, tree) = (dir.join("debs"), dir.join("tree"));
        fs::create_dir_all(&debs)?;
        fs::create_dir_all(&tree)?;
        quietly(
            &format!("fetching kernel {}: {build}", line.name),
            self.apt("apt-get")
                .args(["-qq", "download"])
                .args(&packages)
                .current_dir(&debs),
        )?;
        for deb in fs::read_dir(&debs)? {
            quietly(
                "unpacking",
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(deb?.path())
                    .arg(&tree),
            )?;
        }
        // Debian merges /usr since trixie; depmod looks in lib/modules below its base.
        if tree.join("usr/lib/modules").is_dir() && !tree.join("lib").exists() {
            std::os::unix::fs::symlink("usr/lib", tree.join("lib"))?;
        }
        let release = release(&tree)?;
        quietly(
            "resolving the dependencies of its modules",
            Command::new("depmod").arg("-b").arg(&tree).arg(&release),
        )?;
        fs::remove_dir_all(&debs)?;
        fs::write(&stamp, &build)?;
        kernel(line, &dir)
    }

    /// `package=version` of everything that makes up a kernel: from the metapackage to the image, and since 6.19 from
    /// the image to its binary and modules.
    fn resolve(&self, line: &Line) -> Result<Vec<String>> {
        let mut todo = vec![self.newest_name(line.package)?];
        let mut seen = todo.clone();
        let mut done = Vec::new();
        while let Some(package) = todo.pop() {
            let version = self.version(&package, line.suite)?;
            let shown = output(
                self.apt("apt-cache")
                    .args(["show", &format!("{package}={version}")]),
            )?;
            let is_image = package
                .split('-')
                .any(|part| part.starts_with(|c: char| c.is_ascii_digit()) && part.contains('.'));
            if is_image {
                done.push(format!("{package}={version}"));
            }
            let depends = shown
                .lines()
                .filter(|line| line.starts_with("Depends:") || line.starts_with("Pre-Depends:"));
            for name in depends.flat_map(|line| line.split([' ', ',', '(', '|', ':'])) {
                let part = ["linux-image-", "linux-binary-", "linux-modules-"]
                    .iter()
                    .find_map(|prefix| name.strip_prefix(prefix));
                if part.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                    && !seen.iter().any(|known| known == name)
                {
                    seen.push(name.to_owned());
                    todo.push(name.to_owned());
                }
            }
        }
        ensure!(
            !done.is_empty(),
            "{}: nothing but metapackages",
            line.package
        );
        done.sort();
        Ok(done)
    }

    fn newest_name(&self, package: &str) -> Result<String> {
        let Some((before, after)) = package.split_once('*') else {
            return Ok(package.to_owned());
        };
        let names = output(self.apt("apt-cache").args(["pkgnames", before]))?;
        let newest = names
            .lines()
            .filter(|name| name.ends_with(after) && !name.contains("-rt-"))
            .max_by_key(|name| numbers(name));
        Ok(newest
            .with_context(|| format!("no package {package}"))?
            .to_owned())
    }

    fn version(&self, package: &str, suite: &str) -> Result<String> {
        let listing = output(self.apt("apt-cache").args(["madison", package]))?;
        let in_suite = format!(" {suite}/main");
        let version = listing
            .lines()
            .filter(|line| line.contains(&in_suite))
            .find_map(|line| line.split('|').nth(1));
        Ok(version
            .with_context(|| format!("{suite} has no {package}"))?
            .trim()
            .to_owned())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C.UTF-8");
        command
    }
}

/// Who signs the archive.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const INDEX_AGE: std::time::Duration = std::time::Duration::from_hours(12);

/// The address of an archive: this machine's own mirror of it, else the public one.
///
/// # Errors
/// When there is no apt here.
pub fn mirror(archive: &str) -> Result<String> {
    let listing =
        output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))?;
    let own = listing
        .lines()
        .map(|uri| uri.trim_end_matches('/'))
        .find(|uri| uri.ends_with(archive));
    Ok(own.map_or_else(
        || format!("http://deb.debian.org{archive}"),
        ToOwned::to_owned,
    ))
}

fn kernel(line: &Line, dir: &Path) -> Result<Kernel> {
    let tree = dir.join("tree");
    let release = release(&tree)?;
    // Since 6.19 the image lies beside its modules.
    let places = [
        tree.join(format!("boot/vmlinuz-{release}")),
        tree.join(format!("lib/modules/{release}/vmlinuz")),
    ];
    let Some(image) = places.into_iter().find(|path| path.is_file()) else {
        bail!("no image of {release} in {}", tree.display());
    };
    Ok(Kernel {
        line: line.name,
        image,
        modules: tree.join("lib/modules").join(&release),
        release,
    })
}

/// The release whose modules are in an unpacked tree.
fn release(tree: &Path) -> Result<String> {
    let modules = tree.join("lib/modules");
    let mut names = fs::read_dir(&modules)
        .with_context(|| modules.display().to_string())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        names.len() == 1,
        "{}: one kernel was expected, there is {names:?}",
        modules.display()
    );
    names.pop().context("a kernel")
}

/// The numbers in a name, in order: how versions compare.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn output(command: &mut Command) -> Result<String> {
    let done = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        done.status.success(),
        "{command:?}: {}: {}",
        done.status,
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
