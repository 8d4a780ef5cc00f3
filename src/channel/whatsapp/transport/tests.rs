use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use whatsapp_rust::store::persistence_manager::PersistenceManager;

use super::super::http::Http;
use super::super::keys::Keys;
use super::super::runtime::block_on;
use super::*;

type Peer = WebSocket<TcpStream>;
type Events = async_channel::Receiver<TransportEvent>;

/// Longer than any of these takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

type Made = anyhow::Result<(Arc<dyn Transport>, Events)>;

/// Connects to a server that does `serve` with the first connection; tells of its ends.
fn connect(
    scheme: &str,
    roots: Option<&Path>,
    serve: impl FnOnce(TcpStream) + Send + 'static,
) -> (Made, mpsc::Receiver<End>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a client");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        serve(socket);
    });
    let url = format!("{scheme}://127.0.0.1:{port}/ws/chat");
    let endpoint = Endpoint::parse(&url, false).expect("this machine");
    let (told, ends) = mpsc::channel();
    let sockets = Sockets::new(endpoint, Pool::start(1).expect("threads"), roots)
        .expect("usable")
        .on_end(move |end| told.send(end).unwrap_or_default());
    (block_on(sockets.create_transport()), ends)
}

/// The same, over a websocket.
fn connected(
    serve: impl FnOnce(Peer) + Send + 'static,
) -> (Arc<dyn Transport>, Events, mpsc::Receiver<End>) {
    let (made, ends) = connect("ws", None, |socket| {
        serve(tungstenite::accept(socket).expect("a websocket"));
    });
    let (transport, events) = made.expect("connected");
    (transport, events, ends)
}

fn next(events: &Events) -> TransportEvent {
    let (sender, receiver) = mpsc::channel();
    let events = events.clone();
    thread::spawn(move || sender.send(events.recv_blocking()).unwrap_or_default());
    receiver.recv_timeout(PATIENCE).expect("in time").expect("an event")
}

fn closed(ends: &mpsc::Receiver<End>) -> DisconnectReason {
    match ends.recv_timeout(PATIENCE).expect("told") {
        End::Closed { reason } => reason,
        End::NotConnected { why } => panic!("no connection: {why}"),
    }
}

#[test]
fn bytes_go_both_ways_and_pings_are_answered() {
    let (transport, events, ends) = connected(|mut peer| {
        let said = peer.read().expect("a message");
        assert_eq!(b"hello"[..], said.into_data());
        peer.send(Message::Ping(Bytes::from_static(b"there?"))).expect("sent");
        assert!(matches!(peer.read(), Ok(Message::Pong(data)) if data == b"there?"[..]));
        peer.send(Message::Binary(vec![7; 1_000_000].into())).expect("sent");
        assert!(matches!(peer.read(), Ok(Message::Close(_))), "a goodbye");
    });
    block_on(transport.send(Bytes::from_static(b"hello"))).expect("sent");
    let TransportEvent::DataReceived(data) = next(&events) else { panic!("no data") };
    assert!(data.len() == 1_000_000 && data.iter().all(|byte| *byte == 7));
    block_on(transport.disconnect());
    drop((transport, events));
    closed(&ends);
}

#[test]
fn the_servers_goodbye_is_told_with_its_code() {
    let (_transport, events, ends) = connected(|mut peer| {
        let frame = CloseFrame { code: CloseCode::Library(4001), reason: "moved".into() };
        peer.close(Some(frame)).expect("closed");
        while peer.read().is_ok() {}
    });
    let TransportEvent::Disconnected(reason) = next(&events) else { panic!("not told") };
    assert_eq!("server close frame (code 4001: moved)", reason.to_string());
    assert_eq!(reason.to_string(), closed(&ends).to_string());
}

#[test]
fn a_lost_server_is_told() {
    let (_transport, events, ends) = connected(drop);
    assert!(matches!(next(&events), TransportEvent::Disconnected(_)));
    let reason = closed(&ends);
    let lost = matches!(reason, DisconnectReason::StreamEnded | DisconnectReason::ReadError(_));
    assert!(lost, "{reason}");
}

#[test]
fn hanging_up_ends_the_reader_even_where_nobody_takes_what_it_read() {
    let (transport, events, ends) = connected(|mut peer| {
        // More than waits for the library.
        for _ in 0..10 * WHATSAPP_EVENTS_MAX {
            if peer.send(Message::Binary(Bytes::from_static(b"x"))).is_err() {
                break;
            }
        }
        while peer.read().is_ok() {}
    });
    assert!(matches!(next(&events), TransportEvent::DataReceived(_)));
    drop(transport);
    drop(events);
    assert!(matches!(closed(&ends), DisconnectReason::Unknown));
}

#[test]
fn text_and_oversized_messages_end_the_connection() {
    let (_transport, _events, ends) = connected(|mut peer| {
        peer.send(Message::Text("hello".into())).expect("sent");
        while peer.read().is_ok() {}
    });
    assert_eq!("read error: the server sent text", closed(&ends).to_string());
    let (_transport, _events, ends) = connected(|mut peer| {
        // The head of a frame of 1 GiB, nothing of its body.
        let head = [0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 0];
        peer.get_mut().write_all(&head).expect("sent");
        while peer.read().is_ok() {}
    });
    let told = closed(&ends).to_string();
    assert!(told.contains("too long"), "{told}");
}

#[test]
fn no_connection_is_told_with_the_reason() {
    let (made, ends) = connect("ws", None, |mut socket| {
        let answer = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n";
        socket.write_all(answer).expect("sent");
        // Reads what the client has to say, else it sees a reset.
        io::copy(&mut socket, &mut io::sink()).unwrap_or_default();
    });
    assert!(made.is_err());
    let end = ends.recv_timeout(PATIENCE).expect("told");
    assert!(matches!(&end, End::NotConnected { why } if why.contains("503")), "{end:?}");
}

/// A server certificate that the authority of `tests/data/tls` signed for 127.0.0.1.
fn serve_tls(mut socket: TcpStream) {
    let certificate =
        CertificateDer::from_pem_slice(include_bytes!("../../../../tests/data/tls/server.pem"));
    let key =
        PrivateKeyDer::from_pem_slice(include_bytes!("../../../../tests/data/tls/server.key"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("supported")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("PEM")], key.expect("PEM"))
        .expect("usable");
    let mut tls = rustls::ServerConnection::new(Arc::new(config)).expect("usable");
    let stream = rustls::Stream::new(&mut tls, &mut socket);
    let Ok(mut peer) = tungstenite::accept(stream) else { return };
    while let Ok(message) = peer.read() {
        if message.is_binary() {
            peer.send(message).expect("sent");
        }
    }
}

#[test]
fn an_encrypted_connection_carries_messages_of_any_size() {
    let roots = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls/authority.pem");
    let (made, ends) = connect("wss", Some(&roots), serve_tls);
    let (transport, events) = made.expect("connected");
    for (mark, length) in [(1, 1), (2, 16 * 1024), (3, 300_000)] {
        block_on(transport.send(vec![mark; length].into())).expect("sent");
        let TransportEvent::DataReceived(data) = next(&events) else { panic!("no data") };
        assert_eq!(vec![mark; length], data);
    }
    block_on(transport.disconnect());
    drop((transport, events));
    closed(&ends);
}

#[test]
fn a_certificate_that_nobody_we_trust_signed_is_refused() {
    let (made, ends) = connect("wss", None, serve_tls);
    assert!(made.is_err());
    let end = ends.recv_timeout(PATIENCE).expect("told");
    assert!(matches!(&end, End::NotConnected { why } if why.contains("UnknownIssuer")), "{end:?}");
}

#[test]
fn roots_come_from_the_named_file_or_not_at_all() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("roots.pem");
    assert!(matches!(tls::config(Some(&path)), Err(TlsError::Roots { .. })));
    std::fs::write(&path, "nothing").expect("written");
    assert!(matches!(tls::config(Some(&path)), Err(TlsError::NoRoots { .. })));
}

/// The library itself, over all of this, against a port where nobody listens.
#[test]
fn a_client_without_a_server_tries_and_can_be_stopped() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let runtime = Pool::start(1).expect("threads");
    let port = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("bound");
    let endpoint = Endpoint::parse(&format!("ws://{port}/ws/chat"), false).expect("this machine");
    let keys = Keys::open(&folder.path().join("whatsapp.db")).expect("opens");
    let (told, ends) = mpsc::channel();
    let sockets = Sockets::new(endpoint.clone(), Arc::clone(&runtime), None)
        .expect("usable")
        .on_end(move |end| told.send(end).unwrap_or_default());
    let http = Http::new(&endpoint, Arc::clone(&runtime), None).expect("usable");
    let persistence = block_on(PersistenceManager::new(keys)).expect("a device");
    let client = block_on(
        whatsapp_rust::Client::builder()
            .with_runtime_arc(runtime)
            .with_persistence_manager(Arc::new(persistence))
            .with_transport_factory(sockets)
            .with_http_client(http)
            .with_version_override((2, 3000, 1))
            .build(),
    )
    .expect("complete")
    .into_client();
    let (stopped, stops) = mpsc::channel();
    let running = Arc::clone(&client);
    thread::spawn(move || {
        block_on(running.run());
        stopped.send(()).expect("waited for");
    });
    // It tries again, after a pause of its own.
    for _ in 0..2 {
        let end = ends.recv_timeout(PATIENCE).expect("told");
        assert!(matches!(&end, End::NotConnected { why } if why.contains("refused")), "{end:?}");
    }
    block_on(client.disconnect());
    stops.recv_timeout(PATIENCE).expect("stopped");
}
