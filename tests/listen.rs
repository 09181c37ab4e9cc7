//! The accept loop against peers that stall, drip, send too much, smuggle, or vanish. Limits are parameters, so
//! that nothing here takes long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod peers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use peers::openssl::certificate;
use phasebroker::http::listen::{Limits, serve};
use phasebroker::http::tls::ReloadableTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: Arc<AtomicUsize>,
    task: JoinHandle<std::io::Result<()>>,
}

fn quick() -> Limits {
    Limits {
        header_timeout: Duration::from_millis(400),
        body_timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(1200),
        drain_timeout: Duration::from_secs(5),
        ..Limits::default()
    }
}

async fn boom() -> &'static str {
    panic!("a handler that panics")
}

fn app(ended: Arc<AtomicUsize>) -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/echo", post(|body: String| async move { body }))
        .route("/panic", get(boom).post(boom))
        .route(
            "/stop",
            post(|State(ended): State<Arc<AtomicUsize>>| async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                ended.fetch_add(1, Ordering::SeqCst);
            }),
        )
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(700)).await;
                "finished"
            }),
        )
        .with_state(ended)
}

async fn start(limits: Limits, tls: Option<Arc<ReloadableTls>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = Arc::<AtomicUsize>::default();
    let task = tokio::spawn(serve(listener, tls, app(ended.clone()), limits, async {
        let _ = stopped.await;
    }));
    Server { address, stop: Some(stop), ended, task }
}

async fn talk(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut answer))
        .await
        .expect("the server should have closed the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn three_hundred_stalled_connections_are_closed_in_time() {
    let server = start(quick(), None).await;
    let begun = Instant::now();
    let mut stalled = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // A third sends nothing, a third half a request line, a third a header that never ends.
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET / HT").await.unwrap(),
            _ => stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ").await.unwrap(),
        }
        stalled.push(stream);
    }
    for stream in &mut stalled {
        assert!(!rest(stream).await.contains("200"));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    assert!(talk(server.address, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.ends_with("hello"));
}

#[tokio::test]
async fn a_header_that_drips_is_cut_off_although_bytes_arrive() {
    let server = start(quick(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let begun = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nX-A: ").await.unwrap();
    while begun.elapsed() < Duration::from_secs(4) && stream.write_all(b"a").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_slow_body_is_answered_408() {
    let server = start(quick(), None).await;
    let answer = talk(server.address, "POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("urn:phasebroker:error:request_timeout"), "{answer}");
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_passes_and_one_byte_more_is_413() {
    let limits = Limits { body_bytes: 1000, ..quick() };
    let server = start(limits, None).await;
    for (length, status) in [(1000, "200"), (1001, "413"), (20_000, "413")] {
        let body = "x".repeat(length);
        let request =
            format!("POST /echo HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        let answer = talk(server.address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{length}: {answer}");
        assert_eq!(answer.contains("urn:phasebroker:error:body_too_large"), status == "413");
    }
}

#[tokio::test]
async fn too_many_or_too_long_headers_are_431() {
    let server = start(quick(), None).await;
    let many: String = (0..80).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = format!("X-A: {}\r\n", "a".repeat(40_000));
    for headers in [many, long] {
        let answer = talk(server.address, &format!("GET / HTTP/1.1\r\n{headers}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn two_lengths_are_refused_in_either_order() {
    let server = start(quick(), None).await;
    for headers in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
    ] {
        let answer =
            talk(server.address, &format!("POST /echo HTTP/1.1\r\n{headers}\r\n3\r\nabc\r\n0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{headers}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "what follows is not read as a request: {answer}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_the_idle_time_and_then_closed() {
    let server = start(quick(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut answer = [0; 512];
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let read = stream.read(&mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer[..read]).ends_with("hello"));
        // Longer than the header time: an idle connection is not a stalled one.
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    let begun = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert!(begun.elapsed() < Duration::from_secs(3), "took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_new_connection_is_taken_when_all_others_are_idle_or_silent() {
    // Nothing here is closed for its time.
    let long = Duration::from_secs(600);
    let limits = Limits {
        header_timeout: long,
        idle_timeout: long,
        connections: 16,
        connections_reserved: 4,
        ..Limits::default()
    };
    let server = start(limits, None).await;
    let mut kept = Vec::new();
    for number in 0..50 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let read = tokio::time::timeout(Duration::from_secs(8), stream.read(&mut [0; 512])).await;
            assert!(read.expect("each new connection is answered").unwrap() > 0);
        }
        kept.push(stream);
    }
    assert_eq!(rest(&mut kept[0]).await, "", "the oldest idle one went");
    assert!(
        talk(server.address, "POST /stop HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn a_connection_with_room_beside_it_is_kept() {
    let limits = Limits { connections: 16, connections_reserved: 4, ..quick() };
    let server = start(limits, None).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(TcpStream::connect(server.address).await.unwrap());
    }
    for stream in &mut streams {
        let mut answer = [0; 512];
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let read = stream.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..read]).to_lowercase();
        assert!(text.ends_with("hello") && !text.contains("connection: close"), "{text}");
    }
}

#[tokio::test]
async fn a_panic_is_one_500_and_harms_no_other_connection() {
    let server = start(quick(), None).await;
    for method in ["GET", "POST"] {
        let answer = talk(server.address, &format!("{method} /panic HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
        assert!(!answer.contains("a handler that panics"), "internal text never leaves");
    }
    assert!(talk(server.address, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.ends_with("hello"));
}

#[tokio::test]
async fn shutdown_stops_accepting_and_finishes_what_is_in_flight() {
    let mut server = start(quick(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\n\r\n").await.unwrap();
    let idle = TcpStream::connect(server.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _ = server.stop.take().unwrap().send(());
    assert!(rest(&mut stream).await.ends_with("finished"));
    server.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn what_changes_something_ends_although_its_caller_hung_up_and_shutdown_waits_for_it() {
    let mut server = start(quick(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"POST /stop HTTP/1.1\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = server.stop.take().unwrap().send(());
    server.task.await.unwrap().unwrap();
    assert_eq!(server.ended.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let limits = Limits { drain_timeout: Duration::from_millis(100), ..quick() };
    let mut server = start(limits, None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    let _ = server.stop.take().unwrap().send(());
    server.task.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_millis(500), "took {:?}", begun.elapsed());
}

async fn fetch(server: &Server, dir: &std::path::Path) -> reqwest::Result<String> {
    let pem = std::fs::read(dir.join("cert.pem")).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
        .resolve("localhost", server.address)
        .no_proxy()
        .build()?;
    let url = format!("https://localhost:{}/", server.address.port());
    client.get(url).send().await?.text().await
}

#[tokio::test]
async fn a_new_certificate_is_used_after_a_reload_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let tls = Arc::new(ReloadableTls::load(dir.path().join("cert.pem"), dir.path().join("key.pem")).unwrap());
    let server = start(quick(), Some(tls.clone())).await;
    assert_eq!(fetch(&server, dir.path()).await.unwrap(), "hello");

    certificate(dir.path());
    assert!(fetch(&server, dir.path()).await.is_err(), "the old certificate is in force until the reload");
    tls.reload().unwrap();
    assert_eq!(fetch(&server, dir.path()).await.unwrap(), "hello");

    std::fs::copy(dir.path().join("key.pem"), dir.path().join("old-key.pem")).unwrap();
    let good = std::fs::read(dir.path().join("cert.pem")).unwrap();
    certificate(dir.path());
    std::fs::copy(dir.path().join("old-key.pem"), dir.path().join("key.pem")).unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("cannot be used together"), "{error}");
    std::fs::write(dir.path().join("cert.pem"), "").unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("holds no certificate"));
    std::fs::write(dir.path().join("cert.pem"), good).unwrap();
    assert_eq!(fetch(&server, dir.path()).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_stalled_handshake_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let tls = ReloadableTls::load(dir.path().join("cert.pem"), dir.path().join("key.pem")).unwrap();
    let server = start(quick(), Some(Arc::new(tls))).await;
    let begun = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    rest(&mut stream).await;
    assert!(begun.elapsed() < Duration::from_secs(3));
}
