//! `/metrics`, `/healthz` and `/readyz` over HTTP/1.1.
//!
//! In: requests, which can come from anybody who reaches the port. Out: short answers; bounded connections, headers and
//! time, so that a slow or greedy client costs the others nothing but its own place.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::metrics::{Format, Metrics};

/// Connections served at once; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take altogether.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request head, bytes.
const MAX_HEAD: usize = 16 << 10;
/// `/healthz` is well while the pipeline's last tick is not older than this.
pub const STALL_AFTER: Duration = Duration::from_secs(10);

/// The port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}; choose another address with --listen ADDR:PORT, or `listen` in [metrics]", if self.in_use() { " (another egress, or another service, has it)" } else { "" })]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

impl BindError {
    /// Whether somebody else listens there.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// Takes the port. Done before privileges are dropped, and before anything is attached.
///
/// # Errors
/// [`BindError`], which names the address and the way out.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let failed = |source| BindError { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// What the probes tell, shared with the pipeline.
#[derive(Debug)]
pub struct State {
    metrics: Arc<Metrics>,
    /// Why not ready; `None` when ready.
    not_ready: Mutex<Option<String>>,
    began: Instant,
    /// Of the last tick, since `began`, ms.
    ticked_ms: AtomicU64,
    stall_after: Duration,
}

impl State {
    /// Not ready yet; as if it had just ticked.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self::with_stall(metrics, STALL_AFTER)
    }

    fn with_stall(metrics: Arc<Metrics>, stall_after: Duration) -> Self {
        Self {
            metrics,
            not_ready: Mutex::new(Some("starting".to_owned())),
            began: Instant::now(),
            ticked_ms: AtomicU64::new(0),
            stall_after,
        }
    }

    /// Hooks are attached, and what was there before us is known.
    pub fn ready(&self) {
        *self
            .not_ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Not, or no longer, and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        *self
            .not_ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
    }

    /// The pipeline has finished one more round.
    pub fn tick(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ticked_ms.store(ms, Relaxed);
    }

    /// Since the last tick.
    fn silence(&self) -> Duration {
        self.began
            .elapsed()
            .saturating_sub(Duration::from_millis(self.ticked_ms.load(Relaxed)))
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
            return respond(
                StatusCode::NOT_FOUND,
                TEXT,
                "not found; there are /metrics, /healthz, /readyz\n",
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => {
                let accept = request.headers().get_all(ACCEPT).iter();
                let accept: Vec<_> = accept.filter_map(|value| value.to_str().ok()).collect();
                let format = Format::accepted_by(&accept.join(","));
                let mut response = respond(
                    StatusCode::OK,
                    format.content_type(),
                    self.metrics.encode(format),
                );
                response
                    .headers_mut()
                    .insert(VARY, HeaderValue::from_static("Accept"));
                response
            }
            "/healthz" => {
                let silence = self.silence();
                if silence <= self.stall_after {
                    return respond(StatusCode::OK, TEXT, "ok\n");
                }
                let text = format!("the pipeline has not moved for {} s\n", silence.as_secs());
                respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
            }
            _ => match &*self
                .not_ready
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
            {
                None => respond(StatusCode::OK, TEXT, "ready\n"),
                Some(reason) => respond(
                    StatusCode::SERVICE_UNAVAILABLE,
                    TEXT,
                    format!("not ready: {reason}\n"),
                ),
            },
        }
    }
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Serves until `shutdown` is done; then connections are cut.
///
/// # Errors
/// When the listener cannot be used by the runtime (which needs its I/O and time drivers).
pub async fn serve(
    listener: TcpListener,
    state: Arc<State>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = &mut shutdown => return Ok(()),
            next = next => next,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    connection(stream, state).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, or the client has gone: neither is a reason to stop, nor to spin.
                log::debug!("http: accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| {
        let response = state.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        // One request a connection: an idle client keeps nobody's place.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("http: {error}"),
        Err(_) => log::debug!("http: a connection took too long"),
    }
}

#[cfg(test)]
mod tests;
