//! The proxy over real sockets, between a sandbox that writes bytes of its choice and a model API
//! that is a socket too.

mod attacks;
mod passing;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::{Address, Credential, Listen, Proxy, Secret, Upstream};

/// The credential that must stay outside.
const KEY: &str = "sk-ant-planted-secret";
/// How long a test waits for what must come, before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request or an answer, as it was read from a socket.
#[derive(Debug, Default)]
struct Message {
    start: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn status(&self) -> u16 {
        self.start[9..12].parse().expect("a status line")
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("UTF-8")
    }
}

/// Reads one message; nothing where the other side closed before it was complete.
fn read_message(reader: &mut impl BufRead) -> Option<Message> {
    let mut message = read_head(reader)?;
    if let Some(length) = message.header("content-length") {
        message.body = vec![0; length.parse().expect("a length")];
        reader.read_exact(&mut message.body).ok()?;
    } else if message.header("transfer-encoding").is_some() {
        while let Some(chunk) = Some(read_chunk(reader)?).filter(|chunk| !chunk.is_empty()) {
            message.body.extend(chunk);
        }
    }
    Some(message)
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    Some(line.strip_suffix("\r\n")?.to_owned())
}

fn read_head(reader: &mut impl BufRead) -> Option<Message> {
    let mut message = Message { start: read_line(reader)?, ..Message::default() };
    while let Some(line) = Some(read_line(reader)?).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a header");
        message.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    Some(message)
}

/// One chunk; empty for the last.
fn read_chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let size = usize::from_str_radix(&read_line(reader)?, 16).expect("a size");
    let mut chunk = vec![0; size];
    reader.read_exact(&mut chunk).ok()?;
    read_line(reader).map(|_| chunk)
}

/// The model API: each request goes to `asked`, and is answered by what the test says.
struct Model {
    address: SocketAddr,
    asked: Receiver<Message>,
    connected: Receiver<()>,
}

impl Model {
    /// `answer` writes what it likes; false closes the connection.
    fn start(answer: impl Fn(&Message, &mut TcpStream) -> bool + Send + Sync + 'static) -> Model {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (ask, asked) = bounded(1000);
        let (connect, connected) = bounded(1000);
        let answer = Arc::new(answer);
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (answer, ask) = (answer.clone(), ask.clone());
                connect.send(()).expect("a test that listens");
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
                    while let Some(message) = read_message(&mut reader) {
                        let goes_on = answer(&message, &mut stream);
                        // A test that does not look has ended or does not care.
                        ask.try_send(message).unwrap_or_default();
                        if !goes_on {
                            return;
                        }
                    }
                });
            }
        });
        Model { address, asked, connected }
    }

    /// Always the same answer.
    fn saying(answer: &'static str) -> Model {
        Model::start(move |_, stream| stream.write_all(answer.as_bytes()).is_ok())
    }

    fn upstream(&self) -> Upstream {
        upstream(&format!("http://{}", self.address))
    }

    fn next(&self) -> Message {
        self.asked.recv_timeout(PATIENCE).expect("a request")
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn upstream(base_url: &str) -> Upstream {
    let key = Credential::ApiKey(Secret::from(KEY.to_owned()));
    Upstream::new(base_url, &key, None).expect("a usable address")
}

/// A running proxy and its folder.
struct Host {
    proxy: Proxy,
    _folder: tempfile::TempDir,
}

impl Host {
    fn start(upstream: Upstream) -> Host {
        let folder = tempfile::tempdir().expect("temporary folder");
        let listen = Listen::Unix(folder.path().join("socket"));
        let proxy = Proxy::start(&listen, upstream).expect("started");
        Host { proxy, _folder: folder }
    }

    fn connect(&self) -> Sandbox {
        let Address::Unix(path) = self.proxy.address() else { panic!("not a path") };
        Sandbox::new(UnixStream::connect(path).expect("connected"))
    }
}

/// The other end: whatever an agent may write.
struct Sandbox {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Sandbox {
    fn new(stream: UnixStream) -> Sandbox {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        Sandbox { stream, reader }
    }

    fn tcp(address: SocketAddr) -> Sandbox {
        let stream = TcpStream::connect(address).expect("connected");
        Sandbox::new(UnixStream::from(OwnedFd::from(stream)))
    }

    fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("written");
    }

    fn answer(&mut self) -> Message {
        read_message(&mut self.reader).expect("an answer")
    }

    fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.write(request);
        self.answer()
    }

    /// Whether the proxy closed the connection, with or without a reset.
    fn is_closed(&mut self) -> bool {
        match self.reader.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A request of the usual form.
fn post(token: &str, body: &str) -> String {
    format!(
        "POST /v1/messages?beta=true HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Waits for a state that comes without a word.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let due = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < due, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}
