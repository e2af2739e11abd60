//! A container of runc's with a file system, users and processes of its own; its network is the lab's source, and its cgroup
//! has the name that Docker gives.
//!
//! In: what to run. Out: what it told, with the process id and the container that the host knows.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::command;
use crate::lab::Lab;

/// The container's. Two at a time there are not: a run has the host for itself.
const ID: &str = "e6e5e4e3e2e1e0efeeedecebeae9e8e7e6e5e4e3e2e1e0efeeedecebeae9e8e7";
/// Where the generator is inside.
const SENDER: &str = "/sender";

/// Runs the generator inside, to its end.
pub(super) fn run(lab: &Lab, generator: &Path, arguments: &[String], user: u32) -> Result<Value> {
    let bundle = lab.path("bundle");
    fs::create_dir_all(bundle.join("rootfs"))?;
    command::run(Command::new("runc").arg("spec").current_dir(&bundle))?;
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    let process = &mut config["process"];
    process["terminal"] = false.into();
    process["user"] = json!({ "uid": user, "gid": user });
    process["args"] = json!([SENDER]);
    let words = process["args"].as_array_mut().context("args")?;
    words.extend(arguments.iter().map(|argument| argument.as_str().into()));
    let mounts = config["mounts"].as_array_mut().context("mounts")?;
    let generator = generator.to_str().context("a path in UTF-8")?;
    let shared = [
        ("/usr", "/usr"),
        ("/lib", "/lib"),
        ("/lib64", "/lib64"),
        (generator, SENDER),
    ];
    for (from, at) in shared {
        if fs::exists(from)? {
            mounts.push(json!({ "destination": at, "type": "bind", "source": from, "options": ["rbind", "ro"] }));
        }
    }
    config["linux"]["cgroupsPath"] = format!("/docker/{ID}").into();
    let namespaces = config["linux"]["namespaces"].as_array_mut();
    for namespace in namespaces.context("namespaces")? {
        if namespace["type"] == "network" {
            namespace["path"] = lab.source.path().display().to_string().into();
        }
    }
    fs::write(&file, config.to_string())?;
    let pid_file = lab.path("container.pid");
    let mut runc = Command::new("runc");
    runc.arg("--root").arg(lab.path("runc"));
    runc.args(["run", "--pid-file"]).arg(&pid_file);
    let told = command::json(runc.arg("--bundle").arg(&bundle).arg(ID));
    // The folder above the container's is runc's to make, and nobody's to remove.
    remove_empty_cgroups("docker");
    let mut told = told?;
    let pid: u64 = fs::read_to_string(&pid_file)?.trim().parse()?;
    (told["pid"], told["executable"], told["container"]) = (pid.into(), SENDER.into(), ID.into());
    Ok(told)
}

/// Removes a cgroup in each hierarchy, where it is empty.
fn remove_empty_cgroups(name: &str) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mount in mounts.lines().filter(|line| line.contains(" cgroup")) {
        let Some(root) = mount.split(' ').nth(1) else {
            continue;
        };
        let paths = own.lines().filter_map(|line| line.rsplit(':').next());
        for path in paths.chain(["/"]) {
            // Refused for one that is in use, and for one that is not there.
            let _ = fs::remove_dir(format!("{root}{path}/{name}"));
        }
    }
}
