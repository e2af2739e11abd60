//! A real container, made by runc, in the lab's source.

use std::process::Command;

use anyhow::{Context as _, Result};
use egress_tests::command::run;
use serde_json::json;

use super::{Bench, absent, want};

/// Two container ids of the usual kind.
const IDS: [&str; 2] = [
    "e9e55000000000000000000000000000000000000000000000000000000000a1",
    "e9e55000000000000000000000000000000000000000000000000000000000a2",
];

/// A container that outlives a look at it, with a child that does not; and one that is a child of its first process.
pub fn send(bench: &mut Bench) -> Result<()> {
    let steps: [(&[&str], Vec<u64>); 2] = [
        (
            &[
                "sleep=400",
                "send=1000",
                "send=500",
                "exec=/gen/second",
                "send=700",
            ],
            vec![1000, 500, 700],
        ),
        (
            &[
                "sleep=400",
                "fork",
                "sleep=10",
                "exec=/gen/second",
                "send=300",
            ],
            vec![300],
        ),
    ];
    for (id, (steps, sent)) in IDS.into_iter().zip(steps) {
        let bundle = bench.lab.path(id);
        let rootfs = bundle.join("rootfs");
        for place in ["bin", "gen", "lib", "lib64", "proc", "usr"] {
            std::fs::create_dir_all(rootfs.join(place))?;
        }
        let to = bench.next()?.to_string();
        let arguments = [&["/gen/first", "who", "--to", &to, "--"], steps].concat();
        let bind = |place: &str, source: &str| json!({ "destination": place, "type": "bind", "source": source, "options": ["rbind", "ro"] });
        let programs = bench.programs.path().to_str().context("a path")?;
        let netns = bench.lab.source.path();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 1234, "gid": 2345 },
                "args": arguments,
                "env": ["PATH=/usr/bin:/bin"],
                "cwd": "/",
                "noNewPrivileges": true,
            },
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                bind("/usr", "/usr"),
                bind("/lib", "/lib"),
                bind("/lib64", "/lib64"),
                bind("/bin", "/bin"),
                bind("/gen", programs),
            ],
            "linux": {
                "cgroupsPath": format!("/{id}"),
                "namespaces": [
                    { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" },
                    { "type": "network", "path": netns },
                ],
            },
        });
        std::fs::write(bundle.join("config.json"), config.to_string())?;
        let state = bench.lab.path("runc");
        let runc = |arguments: &[&str]| {
            let mut command = Command::new("runc");
            command.arg("--root").arg(&state).args(arguments);
            command
        };
        let mut command = runc(&["run", "--bundle"]);
        command.arg(&bundle).arg(id);
        let wants = |program: &str| {
            vec![
                want("process.executable", program),
                want("container.id", id),
                want("user.id", "1234"),
                want("group.id", "2345"),
                absent("egress.unit"),
                want("egress.job.scheduler.kind", "container"),
            ]
        };
        let last = sent.len() - 1;
        let sent = sent.into_iter().enumerate().map(|(place, bytes)| {
            let program = if place == last {
                "/gen/second"
            } else {
                "/gen/first"
            };
            (bytes, wants(program))
        });
        let sent = sent.collect();
        let done = bench.send(&format!("runc, {steps:?}"), &mut command, sent);
        // Gone already, unless something went wrong.
        let _ = run(&mut runc(&["delete", "--force", id]));
        done?;
    }
    Ok(())
}
