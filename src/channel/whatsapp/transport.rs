//! The connection to WhatsApp's server: a pipe for bytes over a websocket.
//!
//! The websocket sees nothing but two buffers in memory. One thread per connection blocks in the
//! socket's read, without a lock; it then puts what came through TLS and the websocket, under the
//! lock, and hands the messages on, again without. Who sends takes the lock too. So nobody polls,
//! and encrypted and plain connections are one code.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use async_channel::Sender;
use async_trait::async_trait;
use bytes::Bytes;
use rustls::{ClientConfig, ClientConnection};
use tungstenite::client::{IntoClientRequest, client_with_config};
use tungstenite::handshake::HandshakeError;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::ORIGIN;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};
use wacore::net::{
    DisconnectReason, Transport, TransportEvent, TransportFactory, WHATSAPP_WEB_ORIGIN,
};
use wacore::runtime::blocking;
use whatsapp_rust::anyhow;

use super::certificate::Endpoint;
use super::runtime::Pool;
use super::tls::{self, TlsError};
use crate::limits::{
    WHATSAPP_ADDRESS_WAIT_MAX, WHATSAPP_CONNECT_MAX, WHATSAPP_EVENTS_MAX,
    WHATSAPP_MESSAGE_BYTES_MAX, WHATSAPP_READ_BYTES, WHATSAPP_WRITE_MAX,
};

/// How a connection ended, or that there was none: the library tells of few of these.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Name, TCP, TLS or websocket: no connection was made.
    NotConnected {
        /// On one line.
        why: String,
    },
    /// There was one.
    Closed {
        /// What the other side did; [`DisconnectReason::Unknown`] where we hung up.
        reason: DisconnectReason,
    },
}

type OnEnd = Arc<dyn Fn(End) + Send + Sync>;

/// Makes connections.
pub(super) struct Sockets {
    endpoint: Endpoint,
    runtime: Arc<Pool>,
    tls: Arc<ClientConfig>,
    on_end: OnEnd,
}

impl Sockets {
    /// To `endpoint`, trusting the certificates in the file `roots`, or those of Mozilla's list.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn new(
        endpoint: Endpoint,
        runtime: Arc<Pool>,
        roots: Option<&Path>,
    ) -> Result<Sockets, TlsError> {
        Ok(Sockets { endpoint, runtime, tls: tls::config(roots)?, on_end: Arc::new(|_| ()) })
    }

    /// Has `told` called once for each attempt at a connection, at its end. It must not block.
    pub(super) fn on_end(self, told: impl Fn(End) + Send + Sync + 'static) -> Sockets {
        Sockets { on_end: Arc::new(told), ..self }
    }
}

#[async_trait]
impl TransportFactory for Sockets {
    async fn create_transport(
        &self,
    ) -> anyhow::Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>)> {
        let (endpoint, config) = (self.endpoint.clone(), Arc::clone(&self.tls));
        let connected = blocking(&*self.runtime, move || connect(&endpoint, &config)).await;
        let (sender, events) = async_channel::bounded(WHATSAPP_EVENTS_MAX);
        let started = connected.and_then(|line| {
            let socket = line.wire.socket.try_clone()?;
            let line = Arc::new(Mutex::new(line));
            let reader =
                Reader { line: Arc::clone(&line), socket: socket.try_clone()?, events: sender };
            let on_end = Arc::clone(&self.on_end);
            // Nobody joins it: it may wait for room among the events, which whoever hangs up must
            // not wait for. Its socket is shut down and its receiver dropped, so it ends.
            thread::Builder::new()
                .name("whatsapp-read".to_owned())
                .spawn(move || on_end(End::Closed { reason: reader.run() }))?;
            Ok(Arc::new(Connection { line, socket }))
        });
        match started {
            Ok(connection) => Ok((connection, events)),
            Err(error) => {
                (self.on_end)(End::NotConnected { why: error.to_string() });
                Err(error.into())
            }
        }
    }
}

/// The side that sends.
struct Connection {
    line: Arc<Mutex<Line>>,
    /// The same socket, to hang up without the lock.
    socket: TcpStream,
}

impl Connection {
    fn hang_up(&self) {
        // Who holds the lock may wait for a deaf server; then there is no goodbye.
        if let Ok(mut line) = self.line.try_lock()
            && let Err(error) = line.close()
        {
            log::debug!("no goodbye to WhatsApp: {error}");
        }
        if let Err(error) = self.socket.shutdown(Shutdown::Both) {
            log::debug!("hung up twice: {error}");
        }
    }
}

#[async_trait]
impl Transport for Connection {
    async fn send(&self, data: Bytes) -> anyhow::Result<()> {
        let sent = self.line.lock().unwrap_or_else(PoisonError::into_inner).send(data);
        if sent.is_err() {
            // Half a message may be out: nothing more can follow it.
            self.hang_up();
        }
        Ok(sent?)
    }

    async fn disconnect(&self) {
        self.hang_up();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// The side that receives.
struct Reader {
    line: Arc<Mutex<Line>>,
    socket: TcpStream,
    events: Sender<TransportEvent>,
}

impl Reader {
    /// Until the connection ends; says how.
    fn run(mut self) -> DisconnectReason {
        let reason =
            self.read_all().unwrap_or_else(|error| DisconnectReason::ReadError(error.to_string()));
        if let Err(error) = self.socket.shutdown(Shutdown::Both) {
            log::debug!("WhatsApp hung up first: {error}");
        }
        let told = self.events.send_blocking(TransportEvent::Disconnected(reason.clone()));
        // Where nobody listens any more, we have hung up.
        told.map_or(DisconnectReason::Unknown, |()| reason)
    }

    fn read_all(&mut self) -> io::Result<DisconnectReason> {
        let mut buffer = vec![0; WHATSAPP_READ_BYTES];
        let mut messages = Vec::new();
        // First, what came right behind the handshake.
        let mut count = 0;
        loop {
            let closed = {
                let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
                line.receive(&buffer[..count], &mut messages)?
            };
            for message in messages.drain(..) {
                if self.events.send_blocking(TransportEvent::DataReceived(message)).is_err() {
                    return Ok(DisconnectReason::Unknown);
                }
            }
            if let Some(reason) = closed {
                return Ok(reason);
            }
            count = loop {
                match self.socket.read(&mut buffer) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => (),
                    read => break read?,
                }
            };
            if count == 0 {
                return Ok(DisconnectReason::StreamEnded);
            }
        }
    }
}

/// All layers of a connection. Sender and reader both need them whole, and neither may wait for a
/// thread of the other's: hence a lock.
struct Line {
    websocket: WebSocket<Memory>,
    wire: Wire,
}

impl Line {
    fn send(&mut self, data: Bytes) -> io::Result<()> {
        self.websocket.send(Message::Binary(data)).map_err(into_io)?;
        self.wire.send_from(self.websocket.get_mut())
    }

    fn close(&mut self) -> io::Result<()> {
        self.websocket.close(None).map_err(into_io)?;
        self.wire.send_from(self.websocket.get_mut())
    }

    /// Takes what the socket gave; says whether it was the end.
    fn receive(
        &mut self,
        received: &[u8],
        messages: &mut Vec<Bytes>,
    ) -> io::Result<Option<DisconnectReason>> {
        self.wire.receive_into(received, self.websocket.get_mut())?;
        let closed = loop {
            match self.websocket.read() {
                Ok(Message::Binary(data)) => messages.push(data),
                Ok(Message::Close(frame)) => {
                    let (code, reason) = frame.map_or((None, String::new()), |frame| {
                        (Some(u16::from(frame.code)), frame.reason.to_string())
                    });
                    break Some(DisconnectReason::ServerClose { code, reason });
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => (),
                Ok(other) => {
                    let kind = if other.is_text() { "text" } else { "a bare frame" };
                    return Err(io::Error::other(format!("the server sent {kind}")));
                }
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    break None;
                }
                Err(error) => return Err(into_io(error)),
            }
        };
        // Answers to pings and to a goodbye.
        match self.websocket.flush() {
            Ok(()) | Err(tungstenite::Error::ConnectionClosed) => (),
            Err(error) => return Err(into_io(error)),
        }
        self.wire.send_from(self.websocket.get_mut())?;
        Ok(closed)
    }
}

/// What is below the websocket.
struct Wire {
    tls: Option<ClientConnection>,
    socket: TcpStream,
}

impl Wire {
    /// Sends what is to go out, and whatever TLS has to say.
    fn send_from(&mut self, memory: &mut Memory) -> io::Result<()> {
        let outgoing = std::mem::take(&mut memory.outgoing);
        match &mut self.tls {
            Some(tls) => tls::encrypt(tls, &outgoing, &mut self.socket),
            None => self.socket.write_all(&outgoing),
        }
    }

    /// Takes what the socket gave.
    fn receive_into(&mut self, received: &[u8], memory: &mut Memory) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            return tls::decrypt(tls, received, &mut memory.incoming);
        }
        memory.incoming.extend_from_slice(received);
        Ok(())
    }
}

/// What the websocket takes for its connection.
#[derive(Default)]
struct Memory {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.incoming.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.incoming[..count]);
        self.incoming.drain(..count);
        Ok(count)
    }
}

impl Write for Memory {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Blocks for some multiples of [`WHATSAPP_CONNECT_MAX`] at most, and for as long as the system
/// looks up the name.
fn connect(endpoint: &Endpoint, config: &Arc<ClientConfig>) -> io::Result<Line> {
    let mut socket = connect_tcp(endpoint)?;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(WHATSAPP_WRITE_MAX))?;
    socket.set_read_timeout(Some(WHATSAPP_CONNECT_MAX))?;
    let deadline = Instant::now() + WHATSAPP_CONNECT_MAX;
    let mut request = endpoint.uri.clone().into_client_request().map_err(into_io)?;
    request.headers_mut().insert(ORIGIN, HeaderValue::from_static(WHATSAPP_WEB_ORIGIN));
    let limits = WebSocketConfig::default()
        .max_message_size(Some(WHATSAPP_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(WHATSAPP_MESSAGE_BYTES_MAX))
        .read_buffer_size(WHATSAPP_READ_BYTES);
    let tls = endpoint.is_tls.then(|| tls::connection(config, &endpoint.host)).transpose()?;
    let mut wire = Wire { tls, socket: socket.try_clone()? };
    let mut buffer = vec![0; WHATSAPP_READ_BYTES];
    let mut attempt = client_with_config(request, Memory::default(), Some(limits));
    loop {
        let mut unfinished = match attempt {
            Ok((websocket, _)) => {
                socket.set_read_timeout(None)?;
                return Ok(Line { websocket, wire });
            }
            Err(HandshakeError::Failure(error)) => return Err(into_io(error)),
            Err(HandshakeError::Interrupted(unfinished)) => unfinished,
        };
        let memory = unfinished.get_mut().get_mut();
        wire.send_from(memory)?;
        let count = socket.read(&mut buffer)?;
        if count == 0 || deadline <= Instant::now() {
            return Err(io::Error::other("the server did not finish the handshake"));
        }
        wire.receive_into(&buffer[..count], memory)?;
        attempt = unfinished.handshake();
    }
}

/// The first of the host's addresses that answers.
fn connect_tcp(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let deadline = Instant::now() + WHATSAPP_CONNECT_MAX;
    let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (endpoint.host.as_str(), endpoint.port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left.min(WHATSAPP_ADDRESS_WAIT_MAX)) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn into_io(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests;
