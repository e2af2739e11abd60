//! What starts a job, told by executables and systemd units.
//!
//! Programs are known by the file name of the *executable file*, never by `comm`. The names only label: to be under a
//! scheduler makes a transfer more suspicious, never less, so a program that takes such a name gains nothing.

use crate::model::{Process, Scheduler, Text};

/// Whether an image is a scheduler; a cron daemon comes without its entry.
pub(super) fn of(image: &Process) -> Option<Scheduler> {
    let executable = image.executable.path.file_name();
    let name = if executable == b"busybox" {
        // The applet is in argv: `busybox crond`, or a link called `crond`.
        let mut names = image.args.iter().map(Text::file_name);
        match names.next() {
            Some(b"busybox") => names.next().unwrap_or_default(),
            first => first.unwrap_or_default(),
        }
    } else {
        executable
    };
    if let Some(ci) = ci(name) {
        return Some(Scheduler::Ci(ci.to_owned()));
    }
    match name {
        b"cron" | b"crond" | b"anacron" | b"fcron" | b"cronie" | b"supercronic" => {
            Some(Scheduler::Cron(None))
        }
        b"atd" => Some(Scheduler::At),
        b"java" if is_jenkins(&image.args) => Some(Scheduler::Ci("jenkins".to_owned())),
        _ => None,
    }
}

fn ci(name: &[u8]) -> Option<&'static str> {
    Some(match name {
        b"gitlab-runner" => "gitlab-runner",
        b"Runner.Listener" | b"Runner.Worker" => "github-actions",
        b"Agent.Listener" | b"Agent.Worker" => "azure-pipelines",
        b"buildkite-agent" => "buildkite-agent",
        b"woodpecker-agent" => "woodpecker",
        b"act_runner" | b"gitea-runner" => "gitea-actions",
        b"forgejo-runner" => "forgejo-runner",
        b"circleci-runner" | b"circleci-agent" => "circleci",
        b"drone" | b"drone-agent" | b"drone-runner-docker" | b"drone-runner-exec" => "drone",
        _ => return None,
    })
}

/// Jenkins' agents are Java archives: `java -jar agent.jar` (`remoting.jar` and `slave.jar` before).
fn is_jenkins(args: &[Text]) -> bool {
    args.windows(2).any(|pair| {
        pair[0].as_bytes() == b"-jar"
            && matches!(
                pair[1].file_name(),
                b"agent.jar" | b"remoting.jar" | b"slave.jar" | b"jenkins.war"
            )
    })
}

/// Whether people log in through a unit: where no login session has a cgroup of its own, their processes stay in it.
pub(super) fn is_login(unit: &str) -> bool {
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    let name = name.split('@').next().unwrap_or(name);
    matches!(
        name,
        "getty"
            | "serial-getty"
            | "container-getty"
            | "console-getty"
            | "ssh"
            | "sshd"
            | "rescue"
            | "emergency"
            | "debug-shell"
            | "telnet"
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::{is_login, of};
    use crate::lineage::tests::process;
    use crate::model::{Scheduler, Text};

    fn image(path: &str, args: &[&str]) -> Option<Scheduler> {
        let mut image = process(1, path);
        image.args = args.iter().map(|a| Text::from(*a)).collect();
        image.name = Text::from("cron");
        of(&image)
    }

    #[test]
    fn schedulers_are_known_by_their_executables() {
        let ci = |name: &str| Some(Scheduler::Ci(name.into()));
        let rows: &[(&str, &[&str], Option<Scheduler>)] = &[
            ("/usr/sbin/cron", &[], Some(Scheduler::Cron(None))),
            ("/usr/sbin/crond", &["-n"], Some(Scheduler::Cron(None))),
            ("/bin/busybox", &["crond"], Some(Scheduler::Cron(None))),
            (
                "/bin/busybox",
                &["/bin/busybox", "crond"],
                Some(Scheduler::Cron(None)),
            ),
            ("/bin/busybox", &["wget"], None),
            ("/bin/busybox", &[], None),
            ("/usr/sbin/atd", &[], Some(Scheduler::At)),
            ("/opt/runner/bin/Runner.Worker", &[], ci("github-actions")),
            ("/usr/bin/gitlab-runner", &["run"], ci("gitlab-runner")),
            (
                "/usr/bin/java",
                &["java", "-jar", "/x/agent.jar"],
                ci("jenkins"),
            ),
            ("/usr/bin/java", &["java", "-jar", "/x/app.jar"], None),
            ("/usr/bin/java", &["java", "-jar"], None),
            ("/tmp/notcron", &[], None),
            ("", &[], None),
        ];
        for (path, args, expected) in rows {
            assert_eq!(image(path, args), *expected, "{path} {args:?}");
        }
    }

    #[test]
    fn units_through_which_people_log_in() {
        assert!(is_login("getty@tty1.service"));
        assert!(is_login("ssh.service"));
        assert!(!is_login("nginx.service"));
        assert!(!is_login("sshfs.service"));
    }
}
