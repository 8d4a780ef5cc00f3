//! Bytes to stanzas and back: WebSocket messages, frames of three length bytes, encryption, binary
//! XML.
//!
//! The two directions of a connection are two values, so that one thread reads and another writes.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket};
use tungstenite::{Bytes, Message};
use wacore::framing::{FrameDecoder, encode_frame};
use wacore::noise::NoiseCipher;
use wacore_binary::consts::WA_CONN_HEADER;
use wacore_binary::{Node, marshal, marshal::unmarshal_ref, util::unpack};

/// Path of the upgrade request. Source: the address of WhatsApp Web, `/ws/chat`.
const PATH: &str = "/ws/chat";
/// What a client that was given a server to prefer sends before anything else.
const ROUTING_HEADER: &[u8] = b"ED\0\x01";

/// Answers the upgrade request of a client that has just connected.
///
/// # Errors
/// The socket failed, or something else than a WebSocket for our path was asked for.
pub(crate) fn upgrade(stream: &TcpStream) -> io::Result<(Reader, Writer)> {
    #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
    let only_chat = |request: &Request, response: Response| match request.uri().path() {
        PATH => Ok(response),
        _ => Err(ErrorResponse::new(None)),
    };
    let accepted = tungstenite::accept_hdr(stream.try_clone()?, only_chat)
        .map_err(|refused| io::Error::other(refused.to_string()))?;
    // The client speaks only after our answer, so nothing is lost with the old value's buffer.
    drop(accepted);
    let incoming = Incoming(stream.try_clone()?);
    let reader = Reader {
        socket: WebSocket::from_raw_socket(incoming, Role::Server, None),
        frames: FrameDecoder::new(),
        prologue: Some(Vec::new()),
        cipher: None,
    };
    let socket = WebSocket::from_raw_socket(stream.try_clone()?, Role::Server, None);
    Ok((reader, Writer { socket, cipher: None }))
}

/// The reading half of a socket. What the WebSocket would answer by itself (a pong, the echo of a
/// close) goes nowhere, because writing is the other half's.
struct Incoming(TcpStream);

impl Read for Incoming {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What comes from a client.
pub(crate) struct Reader {
    socket: WebSocket<Incoming>,
    frames: FrameDecoder,
    /// Bytes so far, until the connection header is complete.
    prologue: Option<Vec<u8>>,
    cipher: Option<(NoiseCipher, u32)>,
}

impl Reader {
    /// From now on frames are encrypted.
    pub(crate) fn secure(&mut self, cipher: NoiseCipher) {
        self.cipher = Some((cipher, 0));
    }

    /// The next frame; blocks.
    ///
    /// # Errors
    /// The connection ended (`UnexpectedEof`), or what came is not the protocol.
    pub(crate) fn frame(&mut self) -> io::Result<BytesMut> {
        loop {
            if let Some(frame) = self.frames.decode_frame() {
                return Ok(frame);
            }
            match self.socket.read().map_err(|_| io::ErrorKind::UnexpectedEof)? {
                Message::Binary(bytes) => self.feed(&bytes)?,
                Message::Close(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(mut start) = self.prologue.take() else {
            self.frames.feed(bytes);
            return Ok(());
        };
        start.extend_from_slice(bytes);
        let mut rest = start.as_slice();
        if let Some(routed) = rest.strip_prefix(ROUTING_HEADER) {
            let Some((&[a, b, c], routing)) = routed.split_first_chunk() else {
                self.prologue = Some(start);
                return Ok(());
            };
            rest = routing.get(u32::from_be_bytes([0, a, b, c]) as usize..).unwrap_or_default();
        }
        if rest.len() < WA_CONN_HEADER.len() {
            self.prologue = Some(start);
            return Ok(());
        }
        let frames = rest
            .strip_prefix(&WA_CONN_HEADER)
            .ok_or_else(|| io::Error::other("not the header of this protocol"))?;
        self.frames.feed(frames);
        Ok(())
    }

    /// The next stanza; blocks.
    ///
    /// # Errors
    /// As [`Reader::frame`].
    pub(crate) fn stanza(&mut self) -> io::Result<Node> {
        let mut frame = self.frame()?;
        let (cipher, counter) = self.cipher.as_mut().ok_or(io::ErrorKind::InvalidInput)?;
        cipher.decrypt_in_place_with_counter(*counter, &mut frame).map_err(io::Error::other)?;
        *counter += 1;
        let plain = unpack(&frame).map_err(io::Error::other)?;
        unmarshal_ref(&plain).map(|node| node.to_owned()).map_err(io::Error::other)
    }
}

/// What goes to a client.
pub(crate) struct Writer {
    socket: WebSocket<TcpStream>,
    cipher: Option<(NoiseCipher, u32)>,
}

impl Writer {
    /// From now on frames are encrypted.
    pub(crate) fn secure(&mut self, cipher: NoiseCipher) {
        self.cipher = Some((cipher, 0));
    }

    /// Sends one frame as it is.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) fn frame(&mut self, payload: &[u8]) -> io::Result<()> {
        let frame = encode_frame(payload, None).map_err(io::Error::other)?;
        self.socket.send(Message::Binary(Bytes::from(frame))).map_err(io::Error::other)
    }

    /// Sends bytes as they are, in a message of their own.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send(Message::Binary(Bytes::copy_from_slice(bytes))).map_err(io::Error::other)
    }

    /// Sends one stanza.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) fn stanza(&mut self, node: &Node) -> io::Result<()> {
        self.sealed(&marshal(node).map_err(io::Error::other)?)
    }

    /// Sends one frame, encrypted.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) fn sealed(&mut self, plain: &[u8]) -> io::Result<()> {
        let (cipher, counter) = self.cipher.as_mut().ok_or(io::ErrorKind::InvalidInput)?;
        let sealed = cipher.encrypt_with_counter(*counter, plain).map_err(io::Error::other)?;
        *counter += 1;
        self.frame(&sealed)
    }

    /// Says goodbye as a WebSocket does, with a code where one is given.
    ///
    /// # Errors
    /// The connection ended already.
    pub(crate) fn close(&mut self, code: Option<u16>) -> io::Result<()> {
        let frame = code.map(|code| CloseFrame { code: CloseCode::from(code), reason: "".into() });
        self.socket
            .close(frame)
            .and_then(|()| self.socket.flush())
            .map_err(|ended| io::Error::other(ended.to_string()))
    }
}
