//! How many connections each peer has. SECURITY: one peer cannot take every slot of the listener.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections by peer.
pub(super) struct Peers {
    most: usize,
    seats: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One counted connection; gives its place back when dropped.
pub(super) struct Seat {
    peer: IpAddr,
    seats: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Peers {
    /// At most `most` of one peer.
    pub(super) fn new(most: usize) -> Self {
        Self { most, seats: Arc::default() }
    }

    /// A place for one more connection of the peer at `address`; `None` when it has its share.
    pub(super) fn seat(&self, address: IpAddr) -> Option<Seat> {
        let peer = network(address);
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seats.entry(peer).or_default();
        if *taken >= self.most && !peer.is_loopback() {
            return None;
        }
        *taken += 1;
        Some(Seat { peer, seats: self.seats.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.get_mut(&self.peer) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                seats.remove(&self.peer);
            }
        }
    }
}

/// SECURITY: whoever has one IPv6 address has its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_takes_its_share_and_no_more() {
        let peers = Peers::new(2);
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let first = peers.seat(address).unwrap();
        let second = peers.seat(neighbour).unwrap();
        assert!(peers.seat(address).is_none(), "a /64 is one peer");
        assert!(peers.seat("2001:db8:0:1::1".parse().unwrap()).is_some());
        drop(first);
        assert!(peers.seat(address).is_some());
        drop(second);
        assert!(peers.seats.lock().unwrap().is_empty());
    }

    #[test]
    fn loopback_is_not_counted_out() {
        let peers = Peers::new(1);
        let seats: Vec<_> = (0..3).map(|_| peers.seat("127.0.0.1".parse().unwrap()).unwrap()).collect();
        assert_eq!(seats.len(), 3);
    }
}
