//! Starters of the real components that tests talk to: `mod peers;` in an integration test brings them all.
//! A peer that is missing is a panic that says what to do, never a skipped test.
#![allow(dead_code, reason = "each integration test compiles this module and uses its own part of it")]

pub mod lifeline;
pub mod moto;
pub mod openssl;
pub mod python;
pub mod softhsm;
pub mod ssh_agent;
pub mod strace;

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

/// A loopback port that was free a moment ago; whoever takes it checks that it talks to the server it started.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a loopback port");
    listener.local_addr().expect("address of a bound socket").port()
}

/// Calls `probe` every 20 ms until it gives a value; panics, naming `what`, when `seconds` have passed.
pub fn wait_until<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up after {seconds} s waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
