//! The accept loop: HTTP/1.1 only, every wait bounded, every size bounded, one task per connection.
//! A request reaches the router only when its whole body is here, so that no handler ever waits for a peer.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tower::ServiceExt;

use super::patience::{Patience, Watched};
use super::peers::Peers;
use super::problem::Problem;
use super::room::Room;
use super::tls::ReloadableTls;

/// What a peer may cost us.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For the TLS handshake and for each request's headers.
    pub header_timeout: Duration,
    /// For each request's whole body.
    pub body_timeout: Duration,
    /// From an answer to the first byte of the next request.
    pub idle_timeout: Duration,
    /// How long shutdown waits for requests in flight.
    pub drain_timeout: Duration,
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// Of `connections`, kept free by closing idle ones (at most a quarter): a new one, which may be a stop, gets in.
    pub connections_reserved: usize,
    /// Connections at a time of one peer (IPv6: one /64) that is not loopback.
    pub connections_per_peer: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a request line with its headers.
    pub header_bytes: usize,
    /// Counts requests that were refused before anyone looked at who sent them.
    pub rubbish: Counter<u64, AtomicU64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(20),
            connections: 1024,
            connections_reserved: 32,
            connections_per_peer: 256,
            body_bytes: 64 * 1024,
            headers: 64,
            header_bytes: 32 * 1024,
            rubbish: Counter::default(),
        }
    }
}

/// Serves `app` until `shutdown` resolves, then stops accepting and lets requests in flight finish.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ReloadableTls>>,
    app: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut shutdown = pin!(shutdown);
    let room = Arc::new(Room::new(limits.connections, limits.connections_reserved));
    let peers = Peers::new(limits.connections_per_peer);
    let limits = Arc::new(limits);
    let graceful = GracefulShutdown::new();
    let (busy, mut idle) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    loop {
        let (stream, peer, slot) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => continue,
            accepted = accept(&listener, &room) => accepted?,
        };
        // SECURITY: one peer cannot take every slot. Loopback is where a proxy or the only host's agents come from.
        let Some(seat) = peers.seat(peer.ip()) else {
            tracing::debug!(peer.address = %peer.ip(), "too many connections of one peer");
            continue;
        };
        let patience = Arc::new(Patience::new(limits.header_timeout, limits.idle_timeout));
        room.admit(&patience);
        let connection = Connection {
            peer,
            patience,
            room: room.clone(),
            limits: limits.clone(),
            app: app.clone(),
            watcher: graceful.watcher(),
            busy: Busy(busy.clone()),
        };
        let tls = tls.clone();
        tasks.spawn(async move {
            connection.run(stream, tls).await;
            drop((seat, slot));
        });
    }
    drop((listener, busy));
    // Connections first, then what their callers left running.
    let drained = async {
        graceful.shutdown().await;
        while tasks.join_next().await.is_some() {}
        let _ = idle.recv().await;
    };
    if timeout(limits.drain_timeout, drained).await.is_err() {
        tracing::warn!(connections = tasks.len(), "requests were cut off at the end of the drain time");
    }
    tasks.shutdown().await;
    Ok(())
}

/// Waits for a slot first, so that the kernel's queue holds back what we cannot serve.
async fn accept(
    listener: &TcpListener,
    room: &Room,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = room.slot().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Ok((stream, peer, slot)),
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: others may give some back; spinning would not.
                tracing::error!(%error, "cannot accept connections; trying again in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Held by whatever must end before the server has; nothing is ever sent over it.
#[derive(Clone)]
struct Busy(#[expect(dead_code, reason = "held, not read")] mpsc::Sender<Infallible>);

struct Connection {
    peer: SocketAddr,
    patience: Arc<Patience>,
    room: Arc<Room>,
    limits: Arc<Limits>,
    app: Router,
    watcher: Watcher,
    busy: Busy,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Arc<ReloadableTls>>) {
        // An answer is one small write; waiting to fill a packet only delays it.
        let _ = stream.set_nodelay(true);
        match tls {
            None => self.speak(stream).await,
            Some(tls) => {
                let patience = self.patience.clone();
                tokio::select! {
                    shaken = tls.acceptor().accept(stream) => match shaken {
                        Ok(stream) => {
                            patience.shook_hands();
                            self.speak(stream).await;
                        }
                        Err(error) => tracing::debug!(peer.address = %self.peer, %error, "no TLS"),
                    },
                    () = patience.ends() => tracing::debug!("the TLS handshake took too long"),
                }
            }
        }
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self { peer, patience, room, limits, app, watcher, busy } = self;
        let io = TokioIo::new(Watched::new(stream, patience.clone()));
        let service = {
            let (limits, patience) = (limits.clone(), patience.clone());
            service_fn(move |request| {
                let (app, limits, patience) = (app.clone(), limits.clone(), patience.clone());
                let (busy, room) = (busy.clone(), room.clone());
                async move {
                    let _asked = patience.asked();
                    let mut response = answer(request, peer, app, &limits, busy).await;
                    if room.is_scarce() {
                        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok::<_, Infallible>(response)
                }
            })
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Ours, in `Patience`: hyper's own cannot tell an idle connection from a stalled header.
            .header_read_timeout(None)
            .max_headers(limits.headers)
            .max_header_size(limits.header_bytes)
            .max_buf_size(limits.header_bytes.max(16 * 1024))
            .half_close(false)
            .serve_connection(io, service);
        tokio::select! {
            ended = watcher.watch(connection) => if let Err(error) = ended {
                tracing::debug!(peer.address = %peer, %error, "connection ended");
            },
            () = patience.ends() => tracing::debug!(peer.address = %peer, "connection was too slow"),
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    app: Router,
    limits: &Limits,
    busy: Busy,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = match whole_body(&parts.headers, body, limits).await {
        Ok(bytes) => Body::from(bytes),
        Err(problem) => {
            limits.rubbish.inc();
            return closing(problem);
        }
    };
    parts.extensions.insert(ConnectInfo(peer));
    let changes = !parts.method.is_safe();
    let work = app.oneshot(Request::from_parts(parts, body));
    let answered = if changes {
        // What changes something runs to its end even when its caller hangs up: a stop is never half a stop.
        let running = tokio::spawn(async move {
            let answered = work.await;
            drop(busy);
            answered
        });
        running.await.map_err(drop)
    } else {
        AssertUnwindSafe(work).catch_unwind().await.map_err(drop)
    };
    match answered {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(()) => {
            tracing::error!("a request handler panicked");
            closing(Problem::of_transport(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the broker failed on this request; whether it took effect is in the ledger",
            ))
        }
    }
}

/// Reads a body to its end, within its size and time.
async fn whole_body(
    headers: &hyper::HeaderMap,
    mut body: Incoming,
    limits: &Limits,
) -> Result<bytes::Bytes, Problem> {
    // SECURITY: `Content-Length` beside `Transfer-Encoding` is request smuggling (RFC 9112 section 6.1). hyper hides
    // the former when both are there, so every coded body is refused; ours are small and of known length.
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Problem::of_transport(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "`Transfer-Encoding` is not taken here; send the body with `Content-Length`",
        ));
    }
    let deadline = Instant::now() + limits.body_timeout;
    // A peer that has begun to send too much still gets its answer, if it stops soon.
    let patience_bytes = limits.body_bytes.saturating_mul(8);
    let (mut whole, mut seen) = (BytesMut::new(), 0_usize);
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => {
                return Err(Problem::of_transport(
                    StatusCode::REQUEST_TIMEOUT,
                    "request_timeout",
                    format!("the body did not arrive within {} s", limits.body_timeout.as_secs_f32()),
                ));
            }
            Ok(Some(Err(_))) => {
                return Err(Problem::of_transport(
                    StatusCode::BAD_REQUEST,
                    "bad_request",
                    "the body ended before its length",
                ));
            }
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                seen = seen.saturating_add(data.len());
                if seen <= limits.body_bytes {
                    whole.extend_from_slice(&data);
                } else if seen > patience_bytes {
                    break;
                }
            }
            Ok(None) => break,
        }
    }
    if seen > limits.body_bytes {
        return Err(Problem::of_transport(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("a body may have {} bytes", limits.body_bytes),
        ));
    }
    Ok(whole.freeze())
}

fn closing(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
