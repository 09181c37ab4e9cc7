//! What a probe looks at: a small HTTP server on loopback that says what the test wants, or nothing at all.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How it answers.
#[derive(Debug, Clone)]
pub enum Mood {
    /// With this status and this text.
    Says(u16, String),
    /// Never: it takes the request and keeps the connection.
    Hangs,
}

/// A server that is up until it is dropped or closed.
pub struct Health {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<String>>>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Health {
    /// Starts one that says `value`.
    pub async fn start(value: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(Mutex::new(Mood::Says(200, value.to_string())));
        let health = Self { address, mood, asked: Arc::default(), server: Mutex::new(None) };
        health.serve(listener);
        health
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it says `value`.
    pub fn says(&self, value: Value) {
        self.is(Mood::Says(200, value.to_string()));
    }

    /// From now on it is like this.
    pub fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// The paths that were asked for, oldest first.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Nobody listens there any more.
    pub async fn close(&self) {
        let server = self.server.lock().unwrap().take();
        if let Some(server) = server {
            server.abort();
            drop(server.await);
        }
    }

    /// It is up again, at the same port.
    pub async fn reopen(&self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    fn serve(&self, listener: TcpListener) {
        let (mood, asked) = (self.mood.clone(), self.asked.clone());
        let server = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let path = path_of(&mut stream).await;
                asked.lock().unwrap().push(path);
                let now = mood.lock().unwrap().clone();
                match now {
                    Mood::Hangs => kept.push(stream),
                    Mood::Says(status, text) => {
                        let length = text.len();
                        let answer = format!(
                            "HTTP/1.1 {status} So\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
                        );
                        drop(stream.write_all(answer.as_bytes()).await);
                    }
                }
            }
        });
        *self.server.lock().unwrap() = Some(server);
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().unwrap().take() {
            server.abort();
        }
    }
}

/// Reads the head of a request.
async fn path_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut some = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut some).await {
            Ok(0) | Err(_) => break,
            Ok(read) => head.extend_from_slice(&some[..read]),
        }
    }
    String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned()
}
