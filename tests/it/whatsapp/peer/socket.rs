//! A connection, with blocking calls: the task that connects or sends has a thread of its own.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use async_channel::Receiver;
use async_trait::async_trait;
use bytes::Bytes;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};
use wacore::net::{
    DisconnectReason, HttpClient, HttpRequest, HttpResponse, Transport, TransportEvent,
    TransportFactory,
};
use whatsapp_rust::anyhow;

/// Room for what came and is not taken yet.
const EVENTS_MAX: usize = 1000;

/// Connects to a server that is not encrypted.
pub(super) struct Sockets {
    /// `ws://HOST:PORT/PATH`
    pub(super) url: String,
}

#[async_trait]
impl TransportFactory for Sockets {
    async fn create_transport(
        &self,
    ) -> anyhow::Result<(Arc<dyn Transport>, Receiver<TransportEvent>)> {
        let address = self.url.trim_start_matches("ws://").split('/').next().unwrap_or_default();
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let (sends, own) = (socket.try_clone()?, socket.try_clone()?);
        let (mut receives, _) = tungstenite::client(self.url.as_str(), socket)?;
        let (to, events) = async_channel::bounded(EVENTS_MAX);
        thread::spawn(move || {
            let reason = loop {
                match receives.read() {
                    Ok(Message::Binary(data)) => {
                        if to.send_blocking(TransportEvent::DataReceived(data)).is_err() {
                            return;
                        }
                    }
                    Ok(_) => (),
                    Err(error) => break DisconnectReason::ReadError(error.to_string()),
                }
            };
            // Where nobody listens any more, it is known.
            to.send_blocking(TransportEvent::Disconnected(reason)).ok();
        });
        let sends = Mutex::new(WebSocket::from_raw_socket(sends, Role::Client, None));
        Ok((Arc::new(Connection { sends, socket: own }), events))
    }
}

struct Connection {
    sends: Mutex<WebSocket<TcpStream>>,
    socket: TcpStream,
}

#[async_trait]
impl Transport for Connection {
    async fn send(&self, data: Bytes) -> anyhow::Result<()> {
        let mut sends = self.sends.lock().expect("nobody panics while holding it");
        Ok(sends.send(Message::Binary(data))?)
    }

    async fn disconnect(&self) {
        // Where that fails, it is cut already.
        self.socket.shutdown(Shutdown::Both).ok();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.socket.shutdown(Shutdown::Both).ok();
    }
}

/// Nothing is fetched: neither the version nor the past.
pub(super) struct NoHttp;

#[async_trait]
impl HttpClient for NoHttp {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        Err(anyhow::anyhow!("nobody fetches {}", request.url))
    }
}
