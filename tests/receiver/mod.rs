//! A receiver on a port of its own: it keeps what is posted, and answers as the test says.
#![allow(dead_code, reason = "each integration test compiles this module and uses its own part of it")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Clone)]
pub struct Posted {
    pub headers: HeaderMap,
    pub body: String,
    /// What it was answered.
    pub status: u16,
}

/// Status, media type, body.
pub type Answer = (u16, &'static str, String);

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    posted: Arc<Mutex<Vec<Posted>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Receiver {
    /// One that answers `status`.
    pub async fn start(status: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let receiver = Self {
            url: format!("http://{address}"),
            posted: Arc::default(),
            answers: Arc::new(Mutex::new([(status, TEXT, String::new())].into())),
        };
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    pub fn answer(&self, status: u16, body: &str) {
        self.answer_in_turn([(status, TEXT, body.to_owned())]);
    }

    /// Gives these answers, and the last of them from then on.
    pub fn answer_in_turn(&self, answers: impl IntoIterator<Item = Answer>) {
        *self.answers.lock().unwrap() = answers.into_iter().collect();
    }

    /// Everything posted so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    /// Bodies that were taken (2xx).
    pub fn taken(&self) -> Vec<String> {
        let good = |posted: &Posted| (200..300).contains(&posted.status);
        self.posted().into_iter().filter(good).map(|posted| posted.body).collect()
    }

    /// Objects of the JSON lines that were taken.
    pub fn objects(&self) -> Vec<Value> {
        let bodies = self.taken();
        let lines = bodies.iter().flat_map(|body| body.lines());
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    let (status, media, answer) = {
        let mut answers = receiver.answers.lock().unwrap();
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.unwrap()
    };
    let body = String::from_utf8(body.to_vec()).unwrap();
    receiver.posted.lock().unwrap().push(Posted { headers, body, status });
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, media)], answer).into_response()
}

/// Calls `probe` until it gives a value; panics, naming `what`, when it takes too long.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < give_up, "gave up waiting for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
