//! moto as STS and IAM: the wire shape, SigV4 and unknown keys are real, policy semantics are not.
//! It ignores conditions, session policies, boundaries and expiry; judge those elsewhere.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::lifeline::Lifeline;
use super::{python, wait_until};

const START_SECONDS: u64 = 30;

/// A moto server of this test's own, on a loopback port that it chose itself.
pub struct Moto {
    process: Lifeline,
    port: u16,
}

impl Moto {
    /// Starts a server that accepts any AWS key, and waits until it answers as moto.
    pub fn start() -> Moto {
        Moto::start_with(&[])
    }

    /// Starts a server that, after `actions` requests, refuses unknown keys, wrong signatures and missing IAM permissions.
    pub fn start_checking_keys_after(actions: u32) -> Moto {
        Moto::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", &actions.to_string())])
    }

    /// Endpoint for every AWS service it plays, without a closing slash.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn start_with(environment: &[(&str, &str)]) -> Moto {
        let arguments = |_: &_| ["-H", "127.0.0.1", "-p", "0"].map(String::from).to_vec();
        let process = Lifeline::start(python::moto_server(), arguments, environment);
        let port = wait_until("moto to name its port", START_SECONDS, || announced_port(&process.log()));
        wait_until("moto to answer as itself", START_SECONDS, || answers_as_moto(port).then_some(()));
        Moto { process, port }
    }
}

fn announced_port(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("Running on http://127.0.0.1:")?;
    rest.lines().next()?.trim().parse().ok()
}

fn answers_as_moto(port: u16) -> bool {
    let mut answer = String::new();
    let mut ask = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /moto-api/ HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    };
    ask().is_ok()
        && answer.split_once(' ').is_some_and(|(_, rest)| rest.starts_with("200"))
        && answer.contains("Moto")
}
