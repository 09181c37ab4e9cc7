//! Syslog (RFC 5424) with an OCSF object as its message: over UDP (RFC 5426), over TCP with octet counting (RFC 6587),
//! or to a local datagram socket. Syslog acknowledges nothing: what was handed to the socket counts as delivered.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};
use tokio::sync::Mutex;

use super::ocsf;
use crate::broker::ports::{Delivered, LoggedEvent, Sink, SinkError};

/// For a connection to be made, or one batch to be handed over.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that goes into one datagram; a longer message is sent shortened.
const MAX_DATAGRAM_BYTES: usize = 60_000;
/// Facility 13, `log audit` (RFC 5424 section 6.2.1).
const FACILITY: u8 = 13;

/// Where a syslog listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `udp://host:port`.
    Udp(String),
    /// `tcp://host:port`.
    Tcp(String),
    /// `unix:///path`.
    Unix(PathBuf),
}

/// A syslog.
pub struct Syslog {
    name: String,
    address: Address,
    host: String,
    connection: Mutex<Option<TcpStream>>,
}

impl Syslog {
    /// Sends to `address` as `host`.
    pub fn new(name: String, address: Address, host: &str) -> Self {
        let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
        let host = if host.is_empty() { "-".to_owned() } else { host };
        Self { name, address, host, connection: Mutex::default() }
    }

    /// RFC 5424 section 6: the header, no structured data, and the object, which is UTF-8 without a mark before it.
    fn message(&self, event: &LoggedEvent, object: &str) -> String {
        let severity = match ocsf::severity(event) {
            0 | 1 => 6,
            2 => 5,
            3 => 4,
            4 => 3,
            _ => 2,
        };
        let (at, kind) = (event.at.rfc3339(), event.kind.name());
        format!("<{}>1 {at} {} phasebroker - {kind} - {object}", FACILITY * 8 + severity, self.host)
    }

    /// A message that fits a datagram.
    fn datagram(&self, event: &LoggedEvent) -> String {
        let whole = ocsf::line(event);
        match whole.len() > MAX_DATAGRAM_BYTES {
            true => self.message(event, &ocsf::shortened(event, whole.len())),
            false => self.message(event, &whole),
        }
    }

    async fn send(&self, events: &[LoggedEvent]) -> Result<(), (usize, io::Error)> {
        match &self.address {
            Address::Udp(to) => {
                let socket = udp(to).await.map_err(|error| (0, error))?;
                for (taken, event) in events.iter().enumerate() {
                    let sent = socket.send(self.datagram(event).as_bytes()).await;
                    sent.map_err(|error| (taken, error))?;
                }
                Ok(())
            }
            Address::Unix(path) => {
                let connected =
                    UnixDatagram::unbound().and_then(|socket| socket.connect(path).map(|()| socket));
                let socket = connected.map_err(|error| (0, error))?;
                for (taken, event) in events.iter().enumerate() {
                    let sent = socket.send(self.datagram(event).as_bytes()).await;
                    sent.map_err(|error| (taken, error))?;
                }
                Ok(())
            }
            Address::Tcp(to) => self.stream(to, events).await.map_err(|error| (0, error)),
        }
    }

    /// Over the connection that is there, unless its other end has closed it; one that fails is not used again.
    async fn stream(&self, to: &str, events: &[LoggedEvent]) -> io::Result<()> {
        let mut kept = self.connection.lock().await;
        let mut stream = match kept.take().filter(is_open) {
            Some(stream) => stream,
            None => TcpStream::connect(to).await?,
        };
        let mut all = Vec::new();
        for event in events {
            let message = self.message(event, &ocsf::line(event));
            // RFC 6587 section 3.4.1: MSG-LEN SP SYSLOG-MSG.
            all.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
        }
        stream.write_all(&all).await?;
        stream.flush().await?;
        *kept = Some(stream);
        Ok(())
    }
}

#[async_trait]
impl Sink for Syslog {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, events: &[LoggedEvent]) -> Result<Delivered, SinkError> {
        match tokio::time::timeout(PATIENCE, self.send(events)).await {
            Ok(Ok(())) => Ok(Delivered::all(events.len())),
            Ok(Err((taken, error))) => Err(SinkError { taken, refused: 0, why: error.to_string() }),
            Err(_) => Err(SinkError::nothing(format!("no progress within {} s", PATIENCE.as_secs()))),
        }
    }
}

/// A collector never speaks: something to read is its end. Asks the socket itself, for the runtime hears of an end later.
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    matches!(recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT), Err(Errno::AGAIN))
}

async fn udp(to: &str) -> io::Result<UdpSocket> {
    let there = tokio::net::lookup_host(to).await?.next();
    let there = there.ok_or_else(|| io::Error::other(format!("`{to}` has no address")))?;
    let here: SocketAddr = match there {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(here).await?;
    socket.connect(there).await?;
    Ok(socket)
}
