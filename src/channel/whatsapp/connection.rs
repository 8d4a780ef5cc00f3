//! One connection, from the attempt to the reason for its end, and the network that it goes over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wacore::runtime::AbortHandle;

use super::state::End;
use super::transport;

/// A connection, from the attempt to its end.
pub(super) struct Run {
    pub(super) number: u64,
    /// Dropped, it ends the library's part.
    pub(super) handle: Option<AbortHandle>,
    pub(super) is_over: Arc<AtomicBool>,
    pub(super) over_since: Option<Duration>,
    /// The best reason for its end so far.
    pub(super) end: Option<End>,
    pub(super) line_end: Option<transport::End>,
    /// Words of the server's until the last look, and when it found new ones.
    pub(super) words: u64,
    pub(super) heard_at: Duration,
    pub(super) address: Option<IpAddr>,
}

/// Says that the library's part of a connection is over, however it came to its end.
pub(super) struct Over {
    pub(super) is_over: Arc<AtomicBool>,
    pub(super) bell: crate::doorbell::Waker,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.bell.wake();
    }
}

/// What the end of the socket means where nothing else was told.
pub(super) fn judged(end: Option<transport::End>, is_greeted: bool) -> End {
    use wacore::net::DisconnectReason;
    match end {
        Some(transport::End::NotConnected { why }) => End::Lost(why),
        Some(transport::End::Closed { reason }) => match reason {
            DisconnectReason::ServerClose { code: Some(code), .. } => End::Code(code),
            DisconnectReason::ReadError(why) => End::Lost(why),
            // We hung up before the first word: the handshake was not to our liking.
            DisconnectReason::Unknown if !is_greeted => End::Certificate,
            _ => End::Lost("the server has ended the connection".to_owned()),
        },
        None => End::Lost("the connection is over".to_owned()),
    }
}

/// The address with which this machine would reach the world; nothing is sent to find out.
pub(super) fn own_address() -> Option<IpAddr> {
    let towards = |from: IpAddr, to: IpAddr| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 443)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let v4 = || towards(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(1, 1, 1, 1).into());
    let v6 = Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111);
    v4().or_else(|| towards(Ipv6Addr::UNSPECIFIED.into(), v6.into()))
}
