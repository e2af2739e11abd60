use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::net::sockopt::socket_cookie;

use super::*;

/// Name of the test that plays the process in another namespace.
const CHILD: &str = "sensor::sockets::tests::child_in_another_namespace";

/// A process that is ended at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn owners() -> Vec<SocketOwner> {
    let seed = sockets(Path::new("/proc"));
    assert!(
        seed.gaps
            .iter()
            .all(|(what, _)| what == "netns" || what == "fd"),
        "{}",
        seed.gaps
    );
    let owners = seed
        .observations
        .into_iter()
        .map(|observation| match observation.event {
            Event::SocketOwner(owner) => owner,
            other => panic!("not an owner: {other:?}"),
        });
    owners.collect()
}

fn find(owners: &[SocketOwner], cookie: u64) -> SocketOwner {
    let found: Vec<_> = owners
        .iter()
        .filter(|owner| owner.cookie == cookie)
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    *found[0]
}

fn cookie(socket: impl AsFd) -> u64 {
    socket_cookie(socket).expect("has one")
}

fn own_key() -> ProcessKey {
    PidDir::open(Path::new("/proc"), std::process::id())
        .and_then(|own| own.key())
        .expect("reads")
}

fn own_netns() -> u32 {
    PidDir::open(Path::new("/proc"), std::process::id())
        .and_then(|own| own.namespace("net"))
        .expect("reads")
}

#[test]
fn sockets_of_this_process_are_found() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(host).expect("binds");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (server, _) = listener.accept().expect("accepts");
        let udp = UdpSocket::bind(host).expect("binds");
        let connected = UdpSocket::bind(host).expect("binds");
        connected
            .connect(udp.local_addr().expect("bound"))
            .expect("connects");

        let before = own_netns();
        let owners = owners();
        assert_eq!(own_netns(), before, "this thread has not moved");
        for owner in [
            cookie(&listener),
            cookie(&client),
            cookie(&server),
            cookie(&udp),
            cookie(&connected),
        ] {
            let owner = find(&owners, owner);
            assert_eq!((owner.process, owner.netns), (own_key(), before));
            assert!(owner.holders >= 1);
        }
        let found = find(&owners, cookie(&listener));
        assert_eq!(
            (found.local, found.protocol, found.listening),
            (listener.local_addr().expect("bound"), 6, true)
        );
        assert!(found.remote.ip().is_unspecified() && found.remote.port() == 0);
        let found = find(&owners, cookie(&client));
        assert_eq!(
            (found.local, found.remote),
            (
                client.local_addr().expect("bound"),
                client.peer_addr().expect("connected")
            )
        );
        assert!(!found.listening && found.protocol == 6);
        let found = find(&owners, cookie(&server));
        assert_eq!(
            (found.local, found.remote),
            (
                server.local_addr().expect("bound"),
                server.peer_addr().expect("connected")
            )
        );
        let found = find(&owners, cookie(&udp));
        assert_eq!(
            (found.local, found.protocol, found.listening),
            (udp.local_addr().expect("bound"), 17, false)
        );
        assert!(found.remote.ip().is_unspecified() && found.remote.port() == 0);
        let found = find(&owners, cookie(&connected));
        assert_eq!(found.remote, udp.local_addr().expect("bound"));
    }
}

#[test]
fn a_dual_stack_connection_is_told_as_ipv4() {
    let listener = TcpListener::bind("[::]:0").expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connects");
    let (server, _) = listener.accept().expect("accepts");
    let found = find(&owners(), cookie(&server));
    assert_eq!(found.local, (Ipv4Addr::LOCALHOST, port).into());
    assert_eq!(found.remote, client.local_addr().expect("bound"));
}

#[test]
fn an_inherited_socket_has_two_holders_and_the_elder_owns_it() {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let inherited = OwnedFd::from(udp.try_clone().expect("duplicates"));
    let child = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::from(inherited))
        .spawn();
    let _child = Running(child.expect("starts"));
    let found = find(&owners(), cookie(&udp));
    assert_eq!(found.process, own_key());
    assert!(found.holders >= 2, "{found:?}");
}

#[test]
fn a_socket_without_a_holder_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("bound");
    let client = TcpStream::connect(address).expect("connects");
    // In the accept queue: nobody holds the server's end yet.
    let seed = sockets(Path::new("/proc"));
    assert!(seed.unheld >= 1);
    let ends = |local, remote| {
        seed.observations.iter().any(|observation| {
            matches!(observation.event, Event::SocketOwner(owner) if owner.local == local && owner.remote == remote)
        })
    };
    let local = client.local_addr().expect("bound");
    assert!(ends(local, address) && !ends(address, local));
}

#[test]
fn a_socket_in_another_namespace_is_found() {
    let executable = std::env::current_exe().expect("has one");
    let mut command = Command::new("unshare");
    command
        .arg("--net")
        .arg(executable)
        .args(["--exact", CHILD, "--ignored", "--nocapture"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = Running(child.expect("util-linux and root"));
    let lines = BufReader::new(child.0.stdout.take().expect("piped"))
        .lines()
        .map_while(Result::ok);
    // The test harness writes before it, on the same line when it runs one test.
    let told: Vec<u64> = lines
        .filter_map(|line| {
            line.split_once("sockets: ")
                .map(|(_, told)| told.to_owned())
        })
        .take(1)
        .flat_map(|told| {
            told.split(' ')
                .map(|word| word.parse().expect("a number"))
                .collect::<Vec<_>>()
        })
        .collect();
    let [tcp, udp, netns] = told[..] else {
        panic!("{told:?}")
    };
    assert_ne!(netns, u64::from(own_netns()));
    let owners = owners();
    for cookie in [tcp, udp] {
        let found = find(&owners, cookie);
        assert_eq!(
            (found.process.tgid, u64::from(found.netns)),
            (child.0.id(), netns)
        );
        assert!(found.local.ip().is_unspecified() && found.local.port() > 0);
    }
    assert!(find(&owners, tcp).listening);
}

/// Not a test of its own: what [`a_socket_in_another_namespace_is_found`] starts. Ends when its standard input does.
#[test]
#[ignore = "a helper process of another test"]
fn child_in_another_namespace() {
    let tcp = TcpListener::bind("0.0.0.0:0").expect("binds");
    let udp = UdpSocket::bind("0.0.0.0:0").expect("binds");
    println!("sockets: {} {} {}", cookie(&tcp), cookie(&udp), own_netns());
    let _ = io::stdin().read_line(&mut String::new());
}
