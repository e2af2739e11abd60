use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{HEADER_TIMEOUT, MAX_CONNECTIONS, State, bind, serve};
use crate::outlet::metrics::Metrics;
use crate::outlet::{Outlet as _, samples};

struct Server {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(stall_after: Duration) -> Self {
        let metrics = Arc::new(Metrics::new(5));
        metrics.outlet().record(&samples::health()).unwrap();
        let state = Arc::new(State::with_stall(metrics, stall_after));
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let shutdown = async { drop(stopped.await) };
            runtime.block_on(serve(listener, shared, shutdown)).unwrap();
        });
        Self {
            address,
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn send(&self, request: &str) -> String {
        let mut stream = self.connect();
        // The server may answer, and close, before it has read everything.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn answers() {
    let server = Server::start(Duration::from_mins(1));
    let metrics = server.get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK"), "{metrics}");
    for part in [
        "content-type: text/plain; version=0.0.4",
        "cache-control: no-store",
        "egress_live_flows 5\n",
    ] {
        assert!(metrics.contains(part), "{part} in {metrics}");
    }
    let open = server
        .send("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n");
    assert!(
        open.contains("application/openmetrics-text") && open.ends_with("# EOF\n"),
        "{open}"
    );
    assert!(server.get("/").starts_with("HTTP/1.1 404"));
    assert!(server.get("/metrics/x").starts_with("HTTP/1.1 404"));
    let posted = server.send("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(
        posted.starts_with("HTTP/1.1 405") && posted.contains("allow: GET, HEAD"),
        "{posted}"
    );
    assert!(
        server
            .send("\u{0}\u{1}garbage\r\n\r\n")
            .starts_with("HTTP/1.1 400")
    );
    let huge = format!(
        "GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    assert!(!server.send(&huge).starts_with("HTTP/1.1 200"));
}

#[test]
fn ready_and_healthy_are_what_the_pipeline_says() {
    let server = Server::start(Duration::from_millis(300));
    let not_yet = server.get("/readyz");
    assert!(
        not_yet.starts_with("HTTP/1.1 503") && not_yet.ends_with("not ready: starting\n"),
        "{not_yet}"
    );
    server.state.ready();
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200"));
    server.state.not_ready("shutting down");
    assert!(
        server
            .get("/readyz")
            .ends_with("not ready: shutting down\n")
    );
    std::thread::sleep(Duration::from_millis(400));
    assert!(server.get("/healthz").starts_with("HTTP/1.1 503"));
    server.state.tick();
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let server = Server::start(Duration::from_mins(1));
    let error = bind(server.address).unwrap_err();
    assert!(error.in_use());
    let message = error.to_string();
    assert!(
        message.contains(&server.address.to_string()) && message.contains("--listen"),
        "{message}"
    );
}

#[test]
fn slow_clients_lose_their_places() {
    let server = Server::start(Duration::from_mins(1));
    let mut slow: Vec<_> = (0..MAX_CONNECTIONS).map(|_| server.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
    }
    let began = Instant::now();
    assert!(
        server.get("/healthz").starts_with("HTTP/1.1 200"),
        "served when the slow have been cut"
    );
    let waited = began.elapsed();
    assert!(
        waited < HEADER_TIMEOUT + Duration::from_secs(5),
        "{waited:?}"
    );
}
