//! A sender that changes who it is, what it runs and where it stands, between datagrams over one socket.
#![expect(
    unsafe_code,
    reason = "fork without exec has no safe wrapper; this program has one thread"
)]

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Gid, Uid, WaitOptions};
use serde_json::json;

use crate::print;

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// `send=BYTES`: one datagram.
    Send(usize),
    /// `login=UID`: sets the login uid, as `pam_loginuid` does.
    Login(u32),
    /// `uid=UID`: drops privileges for good.
    Uid(u32),
    /// `gid=GID`.
    Gid(u32),
    /// `cgroup=DIRECTORY`: moves there.
    Cgroup(PathBuf),
    /// `sleep=MILLISECONDS`.
    Sleep(u64),
    /// `fork`: the child goes on, the parent waits for it.
    Fork,
    /// `exec=PROGRAM`: goes on as that program, a copy of this one, over the same socket.
    Exec(PathBuf),
}

impl FromStr for Step {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok(match name {
            "send" => Self::Send(value.parse()?),
            "login" => Self::Login(value.parse()?),
            "uid" => Self::Uid(value.parse()?),
            "gid" => Self::Gid(value.parse()?),
            "cgroup" => Self::Cgroup(value.into()),
            "sleep" => Self::Sleep(value.parse()?),
            "fork" => Self::Fork,
            "exec" => Self::Exec(value.into()),
            _ => bail!("no such step"),
        })
    }
}

/// Takes the steps, in order, and tells each datagram. `inherited`: the socket is standard input.
pub fn who(to: SocketAddr, steps: &[String], inherited: bool) -> Result<()> {
    let socket = if inherited {
        UdpSocket::from(std::io::stdin().as_fd().try_clone_to_owned()?)
    } else {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket
    };
    for (place, text) in steps.iter().enumerate() {
        let step: Step = text.parse()?;
        let rest = steps.get(place + 1..).unwrap_or_default();
        match &step {
            Step::Send(bytes) => {
                let sent = socket.send(&vec![b'w'; *bytes])?;
                print(&json!({ "pid": std::process::id(), "app_bytes": sent }));
            }
            Step::Login(uid) => fs::write("/proc/self/loginuid", uid.to_string())?,
            Step::Uid(uid) => {
                let uid = Uid::from_raw(*uid);
                rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            }
            Step::Gid(gid) => {
                let gid = Gid::from_raw(*gid);
                rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            }
            Step::Cgroup(directory) => fs::write(directory.join("cgroup.procs"), "0")?,
            Step::Sleep(milliseconds) => std::thread::sleep(Duration::from_millis(*milliseconds)),
            Step::Fork => {
                // SAFETY: there is one thread, so no lock is held by another, and nothing is buffered.
                let child = unsafe { libc::fork() };
                ensure!(child >= 0, std::io::Error::last_os_error());
                if let Some(child) = rustix::process::Pid::from_raw(child) {
                    let status = rustix::process::waitpid(Some(child), WaitOptions::empty())?;
                    let status = status.context("it has ended")?.1.exit_status();
                    ensure!(status == Some(0), "the child ended with {status:?}");
                    return Ok(());
                }
            }
            Step::Exec(program) => {
                let mut next = Command::new(program);
                next.args(["who", "--inherited", "--to", &to.to_string(), "--"]);
                let error = next.args(rest).stdin(OwnedFd::from(socket)).exec();
                return Err(error).with_context(|| program.display().to_string());
            }
        }
    }
    Ok(())
}
