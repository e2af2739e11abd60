//! Ways in which sockets, users, images and processes change while bytes are sent. Each tells who sent how much:
//! a line with `senders`, one for each (process, user, executable), by what the send calls returned.

use std::io::{IoSlice, IoSliceMut, PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{getppid, getuid, setsid};
use serde_json::{Value, json};

use crate::{print, raw};

/// What the first sender sends, bytes.
pub const FIRST: usize = 30_000;
/// What the second one sends, bytes.
pub const SECOND: usize = 7000;
/// How often two of them take turns.
const TURNS: usize = 50;

/// One way.
#[derive(Args)]
pub struct Process {
    /// Which.
    way: Way,
    /// Where to.
    #[arg(long)]
    to: SocketAddr,
    /// Another executable, for `exec`.
    #[arg(long)]
    exe: Option<PathBuf>,
    /// The socket, for `send-on`.
    #[arg(long)]
    fd: Option<RawFd>,
}

/// Which way.
#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// The parent connects, the child sends.
    Fork,
    /// Both send in turns.
    Turns,
    /// A process connects and hands the socket to another one over a UNIX socket.
    Pass,
    /// A thread sends over a socket that another one made.
    Thread,
    /// 64 threads, each with a socket of its own.
    Threads,
    /// Sends, executes another program, which sends on.
    Exec,
    /// What `exec` executes.
    SendOn,
    /// Sends as root, then as nobody.
    DropUser,
    /// The sender's parent is gone, and init has adopted it.
    Orphan,
    /// The same in a session of its own, as a daemon is.
    Daemon,
    /// A child that shares the descriptors makes the socket, both send.
    ShareFiles,
    /// A child that shares the memory, and for whose end the parent waits (as `posix_spawn` makes them), sends.
    ShareMemory,
    /// Two processes with the same id, one after the other.
    SamePid,
    /// Two processes that have the same id in a pid namespace of their own, one after the other.
    SamePidInside,
}

/// Does it.
pub fn process(process: &Process) -> Result<()> {
    let to = process.to;
    let senders = match process.way {
        Way::Fork => fork(to)?,
        Way::Turns => turns(to)?,
        Way::Pass => pass(to)?,
        Way::Thread => thread(to)?,
        Way::Threads => threads(to)?,
        Way::Exec => {
            let exe = process.exe.as_ref().context("--exe is missing")?;
            return exec(to, exe);
        }
        Way::SendOn => return send_on(process.fd.context("--fd is missing")?),
        Way::DropUser => drop_user(to)?,
        Way::Orphan => orphan(to, false)?,
        Way::Daemon => orphan(to, true)?,
        Way::ShareFiles => share_files(to)?,
        Way::ShareMemory => share_memory(to)?,
        Way::SamePid => same_pid(to)?,
        Way::SamePidInside => return same_pid_inside(to),
    };
    print(&json!({ "pid": own_pid()?, "senders": senders }));
    Ok(())
}

/// This process's id as the mount of `/proc` has it: that of the initial pid namespace.
fn own_pid() -> Result<u32> {
    let link = std::fs::read_link("/proc/self")?;
    Ok(link.to_str().context("/proc/self")?.parse()?)
}

/// This process as a sender.
fn sender(app_bytes: usize) -> Result<Value> {
    Ok(json!({
        "pid": own_pid()?, "app_bytes": app_bytes, "user": getuid().as_raw(),
        "executable": std::env::current_exe()?,
    }))
}

/// Sends all, and gives what the calls returned.
fn send(stream: &mut TcpStream, bytes: usize) -> Result<usize> {
    let data = vec![b'p'; bytes];
    let mut sent = 0;
    while sent < bytes {
        sent += stream.write(&data[sent..])?;
    }
    Ok(sent)
}

/// Waits until the sink, which has all, closes: so each packet has a full socket to the last.
fn end(mut stream: TcpStream) -> Result<()> {
    ensure!(stream.read(&mut [0])? == 0, "the sink answered");
    Ok(())
}

/// Forks; the child does `child` and ends. Gives its process id.
fn child(child: impl FnOnce() -> Result<()>) -> Result<i32> {
    raw::fork(0, || child().map_err(std::io::Error::other)).context("fork")
}

/// Tells a line to whoever holds the other end.
fn tell(pipe: &mut PipeWriter, line: &Value) -> Result<()> {
    Ok(writeln!(pipe, "{line}")?)
}

/// Everything told.
fn told(mut pipe: PipeReader) -> Result<Vec<Value>> {
    let mut text = String::new();
    pipe.read_to_string(&mut text)?;
    text.lines()
        .map(|line| serde_json::from_str(line).context("a line"))
        .collect()
}

fn fork(to: SocketAddr) -> Result<Vec<Value>> {
    let mut stream = TcpStream::connect(to)?;
    let (reader, mut writer) = pipe()?;
    let pid = child(|| {
        let sent = send(&mut stream, FIRST)?;
        tell(&mut writer, &sender(sent)?)
    })?;
    drop(writer);
    raw::wait(pid)?;
    end(stream)?;
    told(reader)
}

fn turns(to: SocketAddr) -> Result<Vec<Value>> {
    let mut stream = TcpStream::connect(to)?;
    let (reader, mut writer) = pipe()?;
    let (mut parents_turn, mut to_parent) = pipe()?;
    let (mut childs_turn, mut to_child) = pipe()?;
    let mut other = stream.try_clone()?;
    let pid = child(|| {
        let mut sent = 0;
        for _ in 0..TURNS {
            childs_turn.read_exact(&mut [0])?;
            sent += send(&mut other, SECOND / TURNS)?;
            to_parent.write_all(b".")?;
        }
        tell(&mut writer, &sender(sent)?)
    })?;
    drop(writer);
    let mut sent = 0;
    for _ in 0..TURNS {
        sent += send(&mut stream, FIRST / TURNS)?;
        to_child.write_all(b".")?;
        parents_turn.read_exact(&mut [0])?;
    }
    raw::wait(pid)?;
    end(stream)?;
    let mut senders = told(reader)?;
    senders.push(sender(sent)?);
    Ok(senders)
}

fn pass(to: SocketAddr) -> Result<Vec<Value>> {
    let (ours, theirs) = UnixStream::pair()?;
    let (reader, mut writer) = pipe()?;
    let pid = child(|| {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(
            &theirs,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::empty(),
        )?;
        let mut passed: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                passed.extend(fds);
            }
        }
        let mut stream = TcpStream::from(passed.pop().context("no socket came")?);
        let sent = send(&mut stream, FIRST)?;
        tell(&mut writer, &sender(sent)?)?;
        end(stream)
    })?;
    drop(writer);
    let stream = TcpStream::connect(to)?;
    let fds = [stream.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(
        control.push(SendAncillaryMessage::ScmRights(&fds)),
        "no room for a descriptor"
    );
    sendmsg(
        &ours,
        &[IoSlice::new(b".")],
        &mut control,
        SendFlags::empty(),
    )?;
    raw::wait(pid)?;
    told(reader)
}

fn thread(to: SocketAddr) -> Result<Vec<Value>> {
    let mut stream = TcpStream::connect(to)?;
    let sent = std::thread::scope(|scope| scope.spawn(|| send(&mut stream, FIRST)).join());
    let sent = sent.ok().context("the thread panicked")??;
    end(stream)?;
    Ok(vec![sender(sent)?])
}

fn threads(to: SocketAddr) -> Result<Vec<Value>> {
    /// How many.
    const THREADS: usize = 64;
    /// Datagrams of each, few at a time: the wire's queue has 1,000 packets.
    const DATAGRAMS: usize = 100;
    let sent = std::thread::scope(|scope| {
        let work = || -> Result<usize> {
            let socket = UdpSocket::bind((super::send::any(to), 0))?;
            let mut sent = 0;
            for number in 0..DATAGRAMS {
                sent += socket.send_to(&[b't'; 100], to)?;
                if number % 8 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Ok(sent)
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_fold(0, |sum, thread| {
            Ok::<_, anyhow::Error>(sum + thread.join().ok().context("a thread panicked")??)
        })
    })?;
    Ok(vec![sender(sent)?])
}

fn exec(to: SocketAddr, exe: &PathBuf) -> Result<()> {
    let mut stream = TcpStream::connect(to)?;
    let sent = send(&mut stream, FIRST)?;
    print(&json!({ "senders": [sender(sent)?] }));
    fcntl_setfd(&stream, FdFlags::empty())?;
    let fd = stream.as_raw_fd().to_string();
    let mut next = Command::new(exe);
    next.args(["process", "send-on", "--to", &to.to_string(), "--fd", &fd]);
    bail!("exec {}: {}", exe.display(), next.exec())
}

fn send_on(fd: RawFd) -> Result<()> {
    let mut stream = TcpStream::from(raw::inherited(fd));
    let sent = send(&mut stream, SECOND)?;
    print(&json!({ "senders": [sender(sent)?] }));
    end(stream)
}

fn drop_user(to: SocketAddr) -> Result<Vec<Value>> {
    /// `nobody`.
    const NOBODY: u32 = 65_534;
    let mut stream = TcpStream::connect(to)?;
    let first = sender(send(&mut stream, FIRST)?)?;
    raw::set_user(NOBODY)?;
    let sent = send(&mut stream, SECOND)?;
    // `/proc/self/exe` of a process that changed its user is root's to read.
    let mut second = first.clone();
    second["app_bytes"] = sent.into();
    second["user"] = getuid().as_raw().into();
    end(stream)?;
    Ok(vec![first, second])
}

fn orphan(to: SocketAddr, session: bool) -> Result<Vec<Value>> {
    let (reader, mut writer) = pipe()?;
    let middle = child(|| {
        if session {
            setsid()?;
        }
        let made_by = own_pid()?;
        child(|| {
            let until = Instant::now() + Duration::from_secs(5);
            let parent = |pid: Option<rustix::process::Pid>| {
                pid.map(|pid| pid.as_raw_nonzero().get().cast_unsigned())
            };
            while parent(getppid()) == Some(made_by) {
                ensure!(Instant::now() < until, "nobody adopts us");
                std::thread::sleep(Duration::from_millis(1));
            }
            let mut stream = TcpStream::connect(to)?;
            let sent = send(&mut stream, FIRST)?;
            let mut line = sender(sent)?;
            line["parent"] = made_by.into();
            end(stream)?;
            tell(&mut writer, &line)
        })?;
        Ok(())
    })?;
    drop(writer);
    raw::wait(middle)?;
    told(reader)
}

fn share_files(to: SocketAddr) -> Result<Vec<Value>> {
    let (mut reader, mut writer) = pipe()?;
    let pid = raw::fork(raw::SHARE_FILES, || {
        let mut work = || -> Result<()> {
            let mut stream = TcpStream::connect(to)?;
            let sent = send(&mut stream, FIRST)?;
            let mut line = sender(sent)?;
            // Open on, in the parent's table as well.
            line["fd"] = stream.into_raw_fd().into();
            tell(&mut writer, &line)
        };
        work().map_err(std::io::Error::other)
    })?;
    raw::wait(pid)?;
    let mut line = vec![0; 4096];
    let size = reader.read(&mut line)?;
    let first: Value = serde_json::from_slice(&line[..size])?;
    let fd = first["fd"].as_i64().context("a descriptor")?;
    let mut stream = TcpStream::from(raw::inherited(fd.try_into()?));
    let second = sender(send(&mut stream, SECOND)?)?;
    end(stream)?;
    Ok(vec![first, second])
}

fn share_memory(to: SocketAddr) -> Result<Vec<Value>> {
    let mut stream = TcpStream::connect(to)?;
    let mut sent = Err(std::io::ErrorKind::NotConnected.into());
    // Made before: the child shares this memory, and does nothing but the call.
    let data = vec![b'v'; FIRST];
    let pid = raw::vfork(|| sent = stream.write(&data))?;
    let child = sent.context("the child's send")?;
    let second = sender(send(&mut stream, SECOND)?)?;
    let mut first = second.clone();
    (first["pid"], first["app_bytes"]) = (pid.into(), child.into());
    end(stream)?;
    Ok(vec![first, second])
}

/// A process that sends `size` bytes in one datagram, and is gone.
fn short(to: SocketAddr, size: usize, pid: impl Fn() -> Result<bool>) -> Result<(i32, Vec<Value>)> {
    let (reader, mut writer) = pipe()?;
    let number = child(|| {
        if pid()? {
            let socket = UdpSocket::bind((super::send::any(to), 0))?;
            let sent = socket.send_to(&vec![b'x'; size], to)?;
            tell(&mut writer, &sender(sent)?)?;
        }
        Ok(())
    })?;
    drop(writer);
    raw::wait(number)?;
    Ok((number, told(reader)?))
}

/// The next process id is the one after this (Linux `kernel/pid_namespace.c`, `pid_ns_ctl_handler`). Ids in use are
/// skipped, so that nobody is disturbed.
fn last_pid(pid: i32) -> Result<()> {
    std::fs::write("/proc/sys/kernel/ns_last_pid", pid.to_string()).context("ns_last_pid")
}

fn same_pid(to: SocketAddr) -> Result<Vec<Value>> {
    // Others start processes as well and may take the number: then again.
    for _ in 0..200 {
        let (first, mut senders) = short(to, 1000, || Ok(true))?;
        last_pid(first - 1)?;
        let wanted = first.cast_unsigned();
        let (_, second) = short(to, 200, || Ok(own_pid()? == wanted))?;
        if !second.is_empty() {
            senders.extend(second);
            return Ok(senders);
        }
        // Nothing was sent by the second, but the first has sent: it is told, too.
        print(&json!({ "senders": senders }));
    }
    bail!("no process id came twice in 200 attempts")
}

fn same_pid_inside(to: SocketAddr) -> Result<()> {
    raw::new_pid_namespace()?;
    let init = child(|| {
        let mut senders = Vec::new();
        for size in [1000, 200, 30] {
            last_pid(99)?;
            let (inside, told) = short(to, size, || Ok(true))?;
            ensure!(inside == 100, "the process has id {inside} inside");
            senders.extend(told);
        }
        print(&json!({ "senders": senders }));
        Ok(())
    })?;
    Ok(raw::wait(init)?)
}
