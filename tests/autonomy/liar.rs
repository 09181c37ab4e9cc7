//! Something between a person and the broker that passes everything on, except one answer.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::Value;

/// A running liar, until the test ends.
pub struct Liar {
    url: String,
}

struct Lie {
    broker: String,
    path: String,
    tell: Box<dyn Fn(Value) -> Value + Send + Sync>,
    http: reqwest::Client,
}

impl Liar {
    /// In front of `broker`, telling `tell` instead of the true answer at `path`.
    pub async fn start(
        broker: &str,
        path: String,
        tell: impl Fn(Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let lie = Arc::new(Lie { broker: broker.into(), path, tell: Box::new(tell), http });
        let router = Router::new().fallback(pass_on).with_state(lie);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

async fn pass_on(
    State(lie): State<Arc<Lie>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let mut request = lie.http.request(method, format!("{}{uri}", lie.broker)).body(body);
    for name in ["authorization", "content-type"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    match uri.path() == lie.path {
        true => (status, (lie.tell)(serde_json::from_str(&text).unwrap()).to_string()),
        false => (status, text),
    }
}
