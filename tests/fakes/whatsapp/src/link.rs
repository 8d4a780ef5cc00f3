//! A connection from its first byte to its end: handshake, then pairing or login, then stanzas.

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use wacore_binary::Node;
use waproto::whatsapp::ClientPayload;

use crate::noise::{self, Greeting};
use crate::pairing::Candidate;
use crate::server::Shared;
use crate::state::{Address, State};
use crate::wire::{self, Reader, Writer};
use crate::xml;

/// How long a device's older connection may take to be seen as closed before a newer login of the
/// same device counts as a second connection. The end of the one and the start of the other are
/// noticed by two threads.
const OLD_LINK_GRACE: Duration = Duration::from_millis(500);
/// How long a client may take to close its side, once we closed ours.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Which connection, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// An open connection.
pub(crate) struct Link {
    stream: TcpStream,
    /// To the thread that writes; nothing before the handshake.
    out: Option<Sender<Outgoing>>,
    pub(crate) phase: Phase,
}

/// How far a connection has come.
pub(crate) enum Phase {
    /// The handshake is not finished.
    Greeting,
    /// A device without an account.
    Pairing(Box<Candidate>),
    /// Logged in.
    Online(Address),
    /// Told to go; what still comes from it is not heard.
    Ending,
}

/// What the writing thread is to do.
pub(crate) enum Outgoing {
    Stanza(Node),
    /// One frame as it is.
    Frame(Vec<u8>),
    /// One frame that is encrypted.
    Sealed(Vec<u8>),
    /// Close with this code, after all before it.
    Close(Option<u16>),
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Link {
        Link { stream, out: None, phase: Phase::Greeting }
    }

    /// The device, once logged in.
    pub(crate) fn address(&self) -> Option<Address> {
        match self.phase {
            Phase::Online(address) => Some(address),
            Phase::Greeting | Phase::Pairing(_) | Phase::Ending => None,
        }
    }

    /// Hands something to the writing thread; one that has ended no longer takes it.
    pub(crate) fn push(&self, what: Outgoing) {
        if let Some(out) = &self.out {
            out.send(what).ok();
        }
    }

    /// Cuts the connection with no word; an error means that it is cut already.
    pub(crate) fn cut(&self) {
        self.stream.shutdown(Shutdown::Both).ok();
    }
}

/// Serves one connection until it ends.
pub(crate) fn serve(shared: &Arc<Shared>, stream: &TcpStream, id: LinkId) {
    let ended = greet(shared, stream, id)
        .and_then(|(mut reader, greeting)| converse(shared, &mut reader, id, greeting));
    shared.change(|state| {
        if let Err(why) = ended {
            state.journal.note(format!("-- {} gone: {why}", state.label(id)));
        }
        state.gone(id);
    });
}

/// Upgrade and handshake; leaves a thread that writes what is pushed to the link.
fn greet(shared: &Arc<Shared>, stream: &TcpStream, id: LinkId) -> io::Result<(Reader, Greeted)> {
    stream.set_nodelay(true)?;
    let hostile = shared.change(|state| {
        let hostile = state.faults.early_harm();
        state.journal.harmed += usize::from(hostile.is_some());
        hostile
    });
    hostile.map_or(Ok(()), |hostile| hostile.accept(stream))?;
    let (mut reader, mut writer) = wire::upgrade(stream)?;
    hostile.map_or(Ok(()), |hostile| hostile.greet(stream, &mut reader, &mut writer))?;
    let identity = shared.look(|state| Arc::clone(&state.identity));
    let Greeting { pattern, client_key, payload, incoming, outgoing } =
        noise::greet(&identity, &mut reader, &mut writer)?;
    reader.secure(incoming);
    writer.secure(outgoing);
    let (out, pushed) = mpsc::channel();
    let (gate, end) = (Arc::clone(shared), stream.try_clone()?);
    thread::Builder::new()
        .name(format!("wa-out-{id}"))
        .spawn(move || write(&gate, &mut writer, &pushed, &end, id))?;
    shared.change(|state| {
        if let Some(info) = state.journal.connection(id) {
            info.handshake = Some(pattern);
        }
        if let Some(link) = state.links.get_mut(&id) {
            link.out = Some(out);
        }
        state.journal.note(format!(
            "-- {id} handshake={pattern:?} user={:?} device={:?} passive={:?}",
            payload.username, payload.device, payload.passive,
        ));
    });
    Ok((reader, Greeted { client_key, payload }))
}

/// Who came.
struct Greeted {
    client_key: [u8; 32],
    payload: ClientPayload,
}

fn converse(
    shared: &Arc<Shared>,
    reader: &mut Reader,
    id: LinkId,
    Greeted { client_key, payload }: Greeted,
) -> io::Result<()> {
    if payload.device_pairing_data.is_set() {
        shared.change(|state| state.offer_pairing(id, client_key, &payload));
    } else {
        let deadline = Instant::now() + OLD_LINK_GRACE;
        // Whether it goes in time or not: the login decides by what it then finds.
        shared.poll(deadline, |state| {
            let device = state.device_of(&payload).and_then(|device| state.companion(device));
            device.is_none_or(|device| device.link.is_none()).then_some(())
        });
        shared.change(|state| state.log_in(id, client_key, &payload));
    }
    loop {
        let node = reader.stanza()?;
        shared.pass(id);
        shared.change(|state| {
            state.journal.trace("C>", &state.label(id), &node);
            state.hear(id, &node);
        });
    }
}

/// The writing thread: sends what is pushed, until told to close or until nobody can push.
fn write(
    shared: &Shared,
    writer: &mut Writer,
    pushed: &Receiver<Outgoing>,
    stream: &TcpStream,
    id: LinkId,
) {
    for what in pushed {
        shared.pass(id);
        let written = match what {
            Outgoing::Stanza(node) => writer.stanza(&node),
            Outgoing::Frame(bytes) => writer.frame(&bytes),
            Outgoing::Sealed(bytes) => writer.sealed(&bytes),
            Outgoing::Close(code) => {
                // The client has its say about when it is over, but not for ever. Where any of
                // this fails, the connection has ended by itself.
                writer.close(code).ok();
                stream.set_read_timeout(Some(CLOSE_GRACE)).ok();
                stream.shutdown(Shutdown::Write).ok();
                return;
            }
        };
        if written.is_err() {
            return; // The reading thread sees it too, and cleans up.
        }
    }
}

impl State {
    /// A stanza came.
    fn hear(&mut self, id: LinkId, node: &Node) {
        let Some(link) = self.links.get(&id) else { return };
        match (&link.phase, node.tag.as_ref()) {
            (Phase::Pairing(_), "iq") => self.on_pairing_iq(id, node),
            // A client may show its name before it is paired.
            (Phase::Pairing(_) | Phase::Greeting | Phase::Ending, _) => {}
            (&Phase::Online(from), tag) => match tag {
                "iq" => self.on_iq(id, from, node),
                "message" => self.on_message(id, from, node),
                "receipt" => self.on_receipt(id, from, node),
                "ack" => self.on_ack(from, node),
                "chatstate" => self.on_chat_state(from, node),
                "presence" => self.on_presence(from, node),
                // Of no consequence for others.
                "ib" => {}
                _ => self.journal.note(format!("?? not understood: {}", xml::show(node))),
            },
        }
    }

    /// A connection's socket is at its end.
    fn gone(&mut self, id: LinkId) {
        self.detach(id);
        self.links.remove(&id);
        if let Some(info) = self.journal.connection(id) {
            info.closed = Some(Instant::now());
        }
    }

    /// From now on the connection is nobody's, though its socket may still be open.
    pub(crate) fn detach(&mut self, id: LinkId) {
        let address = self.links.get(&id).and_then(Link::address);
        if let Some(link) = self.links.get_mut(&id) {
            link.phase = Phase::Ending;
        }
        let Some(companion) = address.and_then(|address| self.companion_mut(address)) else {
            return;
        };
        if companion.link == Some(id) {
            companion.link = None;
            companion.is_active = false;
        }
    }
}
