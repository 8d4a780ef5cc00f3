//! A server that means harm, or has lost its mind: what no client may be ended by.

use std::io::{self, Write as _};
use std::net::TcpStream;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use wacore_binary::{Jid, Node, marshal};

use crate::fault::Faults;
use crate::link::{LinkId, Outgoing};
use crate::state::State;
use crate::wire::{Reader, Writer};
use crate::xml::el;

/// What it says instead of the protocol, or beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hostile {
    /// Noise in place of the answer to the upgrade request.
    Upgrade,
    /// An answer to it that does not end.
    Header,
    /// Noise in place of the server's part in the handshake.
    Hello,
    /// A WebSocket message that is said to be longer than memory.
    Length,
    /// A frame that is said to have 16 MiB, and its first half.
    Frame,
    /// Frames of noise to a device that is logged in.
    Frames,
    /// Noise in frames that are well encrypted.
    Sealed,
    /// Stanzas that are well formed and make no sense.
    Stanzas,
}

impl Hostile {
    /// All of them.
    pub const ALL: [Hostile; 8] = [
        Hostile::Upgrade,
        Hostile::Header,
        Hostile::Hello,
        Hostile::Length,
        Hostile::Frame,
        Hostile::Frames,
        Hostile::Sealed,
        Hostile::Stanzas,
    ];

    /// Whether it meets connections before their handshake is over.
    pub fn is_early(self) -> bool {
        !matches!(self, Hostile::Frames | Hostile::Sealed | Hostile::Stanzas)
    }

    /// Harms a connection that has just been accepted.
    ///
    /// # Errors
    /// Always: it is of no more use, unless the client has ended it before.
    pub(crate) fn accept(self, stream: &TcpStream) -> io::Result<()> {
        let mut to = stream;
        match self {
            Hostile::Upgrade => to.write_all(&noise(1, BLOCK))?,
            Hostile::Header => {
                to.write_all(b"HTTP/1.1 101 Switching Protocols\r\n")?;
                // Until the client has had enough.
                for _ in 0..64 * BLOCK / 1024 {
                    to.write_all(format!("X-More: {}\r\n", "a".repeat(1000)).as_bytes())?;
                }
            }
            _ => return Ok(()),
        }
        Err(harmed())
    }

    /// Harms a connection after its upgrade.
    ///
    /// # Errors
    /// As [`Hostile::accept`].
    pub(crate) fn greet(
        self,
        stream: &TcpStream,
        reader: &mut Reader,
        writer: &mut Writer,
    ) -> io::Result<()> {
        if self == Hostile::Upgrade || !self.is_early() {
            return Ok(());
        }
        reader.frame()?;
        let mut to = stream;
        match self {
            Hostile::Hello => writer.frame(&noise(2, 300))?,
            // A whole binary message; the length follows in eight bytes.
            Hostile::Length => {
                to.write_all(&[&[0x82, 127, 0x3f], [0xff; 7].as_slice()].concat())?;
                to.write_all(&noise(3, BLOCK))?;
            }
            _ => writer.raw(&[&[0xff; 3], noise(4, 8 * 1024 * 1024).as_slice()].concat())?,
        }
        // The client's turn: it is not us who end it.
        while reader.frame().is_ok() {}
        Err(harmed())
    }
}

/// Bytes that are written at once.
const BLOCK: usize = 64 * 1024;
/// Frames or stanzas to one connection.
const COUNT: u64 = 5000;

fn harmed() -> io::Error {
    io::Error::other("harmed")
}

fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random()).collect()
}

impl Faults {
    pub(crate) fn early_harm(&self) -> Option<Hostile> {
        self.hostile.filter(|hostile| hostile.is_early())
    }
}

impl State {
    /// Harms a connection that is logged in, where that is the fault.
    pub(crate) fn harm(&mut self, link: LinkId) {
        let Some(hostile) = self.faults.hostile.filter(|hostile| !hostile.is_early()) else {
            return;
        };
        self.journal.harmed += 1;
        let Some(open) = self.links.get(&link) else { return };
        for seed in 0..COUNT {
            let mut random = StdRng::seed_from_u64(seed);
            let count = random.random_range(0..200);
            open.push(match hostile {
                Hostile::Frames => Outgoing::Frame(noise(seed, count)),
                // The first byte says that nothing is compressed.
                Hostile::Sealed => Outgoing::Sealed([&[0], noise(seed, count).as_slice()].concat()),
                _ => Outgoing::Sealed(stanza(&mut random)),
            });
        }
    }
}

/// Something without sense that can be written as a stanza, as not all can.
fn stanza(random: &mut StdRng) -> Vec<u8> {
    loop {
        if let Ok(bytes) = marshal(&nonsense(random, 0)) {
            return bytes;
        }
    }
}

const TAGS: [&str; 24] = [
    "message",
    "receipt",
    "notification",
    "iq",
    "ib",
    "ack",
    "call",
    "chatstate",
    "presence",
    "enc",
    "participants",
    "to",
    "user",
    "device",
    "devices",
    "add",
    "remove",
    "key-index-list",
    "device-identity",
    "offline",
    "offline_preview",
    "pair-device",
    "pair-success",
    "link_code_companion_reg",
];
const KEYS: [&str; 16] = [
    "id",
    "from",
    "to",
    "type",
    "participant",
    "recipient",
    "t",
    "count",
    "v",
    "offline",
    "xmlns",
    "jid",
    "lid",
    "stage",
    "notify",
    "class",
];
const VALUES: [&str; 24] = [
    "",
    "0",
    "1",
    "-1",
    "18446744073709551616",
    "1e999",
    "\0",
    "\u{202e}\u{10ffff}",
    "set",
    "get",
    "result",
    "error",
    "text",
    "retry",
    "read",
    "pkmsg",
    "msg",
    "skmsg",
    "devices",
    "w:gp2",
    "encrypt",
    "account_sync",
    "server_sync",
    "@:.@g.us",
];

/// A stanza of words that the protocol has, in no order that it knows.
fn nonsense(random: &mut StdRng, depth: u32) -> Node {
    let mut node = el(TAGS[random.random_range(0..TAGS.len())]);
    for _ in 0..random.random_range(0..8) {
        let key = KEYS[random.random_range(0..KEYS.len())];
        node = match random.random_range(0..4) {
            0 => node.attr(key, Jid::pn("4915550000002")),
            1 => node.attr(key, Jid::pn_device("4915550000001", random.random())),
            2 => node.attr(key, "x".repeat(random.random_range(0..300))),
            _ => node.attr(key, VALUES[random.random_range(0..VALUES.len())]),
        };
    }
    let count = random.random_range(0..4);
    if depth < 4 && random.random() {
        return node.children((0..count).map(|_| nonsense(random, depth + 1))).build();
    }
    node.bytes(noise(random.random(), count * 40)).build()
}
