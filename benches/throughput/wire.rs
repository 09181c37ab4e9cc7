//! One kept-alive HTTP/1.1 connection, as lean as a client can be: what it costs is taken from the broker's share.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// GET; the answer must be a success.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<()> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: broker\r\n\r\n")).await.map(drop)
    }

    /// POST with headers; the JSON of a success.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        media_type: &str,
        body: &str,
    ) -> anyhow::Result<Value> {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: broker\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request.extend(["\r\n", body]);
        let body = self.exchange(&request).await.with_context(|| format!("POST {path}"))?;
        Ok(serde_json::from_slice(body)?)
    }

    async fn exchange(&mut self, request: &str) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let (head, length) = loop {
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the broker hung up");
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end])?;
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
                });
                break (end + 4, length.unwrap_or(0));
            }
        };
        while self.buffer.len() < head + length {
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the broker hung up");
        }
        let (status, body) = (&self.buffer[9..12], &self.buffer[head..]);
        anyhow::ensure!(
            status.starts_with(b"2"),
            "{}: {}",
            String::from_utf8_lossy(status),
            String::from_utf8_lossy(body)
        );
        Ok(body)
    }
}
