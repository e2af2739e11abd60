//! Floods: as much of one kind as the machine can do, counted by what the system calls returned.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::{print, raw, sink};

/// Kinds of flood.
#[derive(Subcommand)]
pub enum Flood {
    /// Files that nobody has opened yet.
    Files {
        /// Where to.
        #[arg(long)]
        dir: PathBuf,
        /// How many.
        #[arg(long)]
        count: u32,
    },
    /// Opens: half of them go round all files, half come back to the same few.
    Opens {
        /// Where `files` has made them.
        #[arg(long)]
        dir: PathBuf,
        /// How many files there are.
        #[arg(long)]
        files: u32,
        /// How many opens.
        #[arg(long)]
        count: u64,
        /// By how many threads.
        #[arg(long, default_value_t = 2)]
        threads: u64,
    },
    /// TCP connections, one after the other in each thread: connect, send, wait until the peer closes, close.
    Connects {
        /// Where to; the first port.
        #[arg(long)]
        to: SocketAddr,
        /// How many ports, by turns.
        #[arg(long)]
        ports: u16,
        /// How many connections.
        #[arg(long)]
        count: u64,
        /// Bytes sent over each.
        #[arg(long, default_value_t = 100)]
        bytes: usize,
        /// By how many threads.
        #[arg(long, default_value_t = 4)]
        threads: u64,
    },
    /// Their other end: receives `bytes` of each connection and closes it first.
    Sink {
        /// Where; the first port.
        #[arg(long)]
        listen: SocketAddr,
        /// How many ports.
        #[arg(long)]
        ports: u16,
        /// See there.
        #[arg(long, default_value_t = 100)]
        bytes: usize,
    },
    /// Processes that end at once: every other one executes a program first.
    Processes {
        /// How many.
        #[arg(long)]
        count: u64,
    },
    /// Does nothing: what `processes` executes.
    Nothing,
    /// Processes that execute a program with arguments of their own and then stay.
    Stay {
        /// How many.
        #[arg(long)]
        count: u32,
    },
    /// Waits for the end of its standard input: what `stay` executes.
    Wait {
        /// To be told apart by.
        #[arg(long)]
        number: u32,
    },
    /// Datagrams from one socket to many ports.
    Fan {
        /// Where to; the first port.
        #[arg(long)]
        to: SocketAddr,
        /// How many ports.
        #[arg(long)]
        ports: u16,
        /// Each how often, by turns.
        #[arg(long, default_value_t = 1)]
        rounds: u32,
        /// Payload, bytes.
        #[arg(long, default_value_t = 100)]
        size: usize,
    },
    /// Datagrams to an address that is refused, and then, over the same socket, connected, to another.
    Denied {
        /// Refused.
        #[arg(long)]
        denied: SocketAddr,
        /// Where the rest goes.
        #[arg(long)]
        to: SocketAddr,
    },
    /// Many connected UDP sockets, each of which sends a datagram in each round; they stay open until standard input ends.
    Sockets {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// How many.
        #[arg(long)]
        count: u32,
        /// From how many addresses of 127.0.0.0/8, by turns.
        #[arg(long, default_value_t = 8)]
        addresses: u8,
        /// Datagrams from each.
        #[arg(long, default_value_t = 1)]
        rounds: u32,
    },
}

/// Does it.
pub fn flood(flood: Flood) -> Result<()> {
    match flood {
        Flood::Files { dir, count } => print(&files(&dir, count)?),
        Flood::Opens {
            dir,
            files,
            count,
            threads,
        } => print(&opens(&dir, files, count, threads)?),
        Flood::Connects {
            to,
            ports,
            count,
            bytes,
            threads,
        } => print(&connects(to, ports, count, bytes, threads)?),
        Flood::Sink {
            listen,
            ports,
            bytes,
        } => receive(listen, ports, bytes)?,
        Flood::Processes { count } => print(&processes(count)?),
        Flood::Nothing => {}
        Flood::Stay { count } => stay(count)?,
        Flood::Wait { .. } => sink::end_with_stdin()?,
        Flood::Fan {
            to,
            ports,
            rounds,
            size,
        } => print(&fan(to, ports, rounds, size)?),
        Flood::Denied { denied, to } => print(&refused(denied, to)?),
        Flood::Sockets {
            to,
            count,
            addresses,
            rounds,
        } => sockets(to, count, addresses, rounds)?,
    }
    Ok(())
}

/// Runs `work` in `threads` threads, each with its number, and adds up what they count.
fn in_threads(threads: u64, work: impl Fn(u64) -> Result<u64> + Sync) -> Result<u64> {
    thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        started.into_iter().try_fold(0, |sum, thread| {
            let counted = thread.join().ok().context("a thread panicked")??;
            Ok(sum + counted)
        })
    })
}

/// How many of `count` are a thread's.
fn share(count: u64, threads: u64, number: u64) -> u64 {
    count / threads + u64::from(number < count % threads)
}

/// mknod(2) makes a regular file without opening it.
fn files(dir: &Path, count: u32) -> Result<Value> {
    for number in 0..count {
        let path = dir.join(format!("{number:07}"));
        mknodat(CWD, &path, FileType::RegularFile, Mode::RUSR, 0)
            .with_context(|| format!("mknod {}", path.display()))?;
    }
    Ok(json!({ "pid": std::process::id(), "files": count }))
}

fn opens(dir: &Path, files: u32, count: u64, threads: u64) -> Result<Value> {
    /// Those that are opened again and again.
    const FEW: u64 = 100;
    let folder = openat(
        CWD,
        dir,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let begun = Instant::now();
    let opened = in_threads(threads, |thread| {
        let mut opened = 0;
        for round in 0..share(count, threads, thread) {
            let number = if round % 2 == 0 {
                (round / 2 * threads + thread) % u64::from(files)
            } else {
                round / 2 % FEW
            };
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            openat(&folder, format!("{number:07}"), flags, Mode::empty())
                .with_context(|| format!("file {number}"))?;
            opened += 1;
        }
        Ok(opened)
    })?;
    Ok(json!({
        "pid": std::process::id(), "opens": opened, "files": files,
        "dev": std::fs::metadata(dir)?.dev(), "ms": millis(begun),
    }))
}

fn connects(to: SocketAddr, ports: u16, count: u64, bytes: usize, threads: u64) -> Result<Value> {
    let sent = AtomicU64::new(0);
    let begun = Instant::now();
    let made = in_threads(threads, |thread| {
        let (mut made, mut buffer) = (0, [0]);
        let data = vec![b'c'; bytes];
        for round in 0..share(count, threads, thread) {
            let port = u16::try_from((round * threads + thread) % u64::from(ports))?;
            let port = to.port().checked_add(port).context("no such port")?;
            let mut stream = TcpStream::connect((to.ip(), port))
                .with_context(|| format!("connection {round} of thread {thread}"))?;
            made += 1;
            sent.fetch_add(stream.write(&data)? as u64, Relaxed);
            ensure!(stream.read(&mut buffer)? == 0, "the sink answered");
        }
        Ok(made)
    })?;
    Ok(json!({
        "pid": std::process::id(), "connections": made, "app_bytes": sent.into_inner(), "ms": millis(begun),
    }))
}

fn receive(listen: SocketAddr, ports: u16, bytes: usize) -> Result<()> {
    for port in 0..ports {
        let port = listen.port().checked_add(port).context("no such port")?;
        let listener = TcpListener::bind((listen.ip(), port))?;
        thread::spawn(move || {
            let mut buffer = vec![0; bytes];
            for mut stream in listener.incoming().flatten() {
                // A client that has gone does not matter to the others.
                let _ = stream.read_exact(&mut buffer);
            }
        });
    }
    print(&json!({ "listening": listen.to_string() }));
    sink::end_with_stdin()
}

fn processes(count: u64) -> Result<Value> {
    let exe = std::env::current_exe()?;
    let begun = Instant::now();
    let (mut forks, mut execs) = (0, 0);
    for number in 0..count {
        if number % 2 == 0 {
            raw::fork_and_exit()?;
        } else {
            let status = Command::new(&exe)
                .args(["flood", "nothing"])
                .stdin(Stdio::null())
                .status()?;
            ensure!(status.success(), "{status}");
            execs += 1;
        }
        forks += 1;
    }
    Ok(json!({ "pid": std::process::id(), "forks": forks, "execs": execs, "ms": millis(begun) }))
}

fn stay(count: u32) -> Result<()> {
    let exe = std::env::current_exe()?;
    let mut waiting = Vec::new();
    for number in 0..count {
        let mut wait = Command::new(&exe);
        wait.args(["flood", "wait", "--number", &number.to_string()]);
        waiting.push(wait.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?);
    }
    print(&json!({ "pid": std::process::id(), "processes": count }));
    sink::end_with_stdin()?;
    for mut process in waiting {
        drop(process.stdin.take());
        process.wait()?;
    }
    Ok(())
}

fn fan(to: SocketAddr, ports: u16, rounds: u32, size: usize) -> Result<Value> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let (data, mut sent, mut calls) = (vec![b'f'; size], 0, 0);
    for _ in 0..rounds {
        for port in 0..ports {
            let port = to.port().checked_add(port).context("no such port")?;
            sent += socket.send_to(&data, (to.ip(), port))? as u64;
            calls += 1;
        }
    }
    let from = socket.local_addr()?.port();
    Ok(json!({ "pid": std::process::id(), "source_port": from, "app_bytes": sent, "calls": calls }))
}

fn refused(denied: SocketAddr, to: SocketAddr) -> Result<Value> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let (mut failed, mut sent) = (0, 0);
    for _ in 0..10 {
        failed += u32::from(socket.send_to(&[b'd'; 50], denied).is_err());
    }
    socket.connect(to)?;
    for _ in 0..10 {
        sent += socket.send(&[b'd'; 50])?;
    }
    Ok(json!({ "pid": std::process::id(), "failed": failed, "app_bytes": sent }))
}

fn sockets(to: SocketAddr, count: u32, addresses: u8, rounds: u32) -> Result<()> {
    let limit = Rlimit {
        current: getrlimit(Resource::Nofile).maximum,
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).context("as many files as may be")?;
    let mut all = Vec::new();
    for number in 0..count {
        let address = u8::try_from(number % u32::from(addresses))? + 1;
        let socket = UdpSocket::bind((IpAddr::from([127, 0, 0, address]), 0))
            .with_context(|| format!("socket {number}"))?;
        socket.connect(to)?;
        all.push(socket);
    }
    let mut sent = 0;
    for round in 0..rounds {
        for socket in &all {
            sent += socket.send(&[b's'; 10])? as u64;
        }
        print(
            &json!({ "pid": std::process::id(), "round": round, "sockets": count, "app_bytes": sent }),
        );
    }
    sink::end_with_stdin()
}

fn millis(since: Instant) -> u128 {
    since.elapsed().max(Duration::from_millis(1)).as_millis()
}
