//! The media server: hands out blobs, and takes them.

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::server::{Server, Shared};

/// Longest head of a request.
const HEAD_BYTES_MAX: u64 = 16 * 1024;
/// Largest blob.
const BLOB_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a client may be silent in a request.
const READ_PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// Puts a blob where [`Server::http_url`] with this path (`/v/name`) finds it.
    pub fn put_blob(&self, path: &str, blob: Vec<u8>) {
        self.shared().change(|state| state.blobs.insert(path.to_owned(), blob));
    }
}

/// Serves until the servers stop, one request a connection.
pub(crate) fn serve(shared: &Arc<Shared>, listener: &TcpListener) {
    for stream in listener.incoming() {
        if shared.look(|state| state.stopping) {
            return;
        }
        let served = stream.and_then(|mut stream| answer(shared, &mut stream));
        if let Err(why) = served {
            shared.change(|state| state.journal.note(format!("-- media: {why}")));
        }
    }
}

fn answer(shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(READ_PATIENCE))?;
    let request = read_request(stream)?;
    shared.change(|state| {
        state.journal.note(format!("-- media: {} {}", request.method, request.path));
    });
    // A query has only what allows to ask.
    let path = request.path.split('?').next().unwrap_or_default();
    let (status, body) = match request.method.as_str() {
        "POST" | "PUT" => {
            let location = shared.change(|state| {
                state.blobs.insert(path.to_owned(), request.body);
                format!(r#"{{"url":"http://{}{path}","direct_path":"{path}"}}"#, state.blob_host)
            });
            ("200 OK", location.into_bytes())
        }
        _ => match shared.look(|state| state.blobs.get(path).cloned()) {
            Some(blob) => ("200 OK", blob),
            None => ("404 Not Found", Vec::new()),
        },
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&body)?;
    stream.flush()
}

struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
}

fn read_request(stream: &mut TcpStream) -> io::Result<Request> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP request");
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        reader.read_exact(&mut byte)?;
        head.extend(byte);
        if head.len() as u64 > HEAD_BYTES_MAX {
            return Err(malformed());
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(&head).map_err(|_| malformed())?;
    let length = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
        .unwrap_or(0)
        .min(BLOB_BYTES_MAX);
    let mut body = Vec::new();
    let (Some(method), Some(path)) = (request.method, request.path) else {
        return Err(malformed());
    };
    reader.take(length).read_to_end(&mut body)?;
    Ok(Request { method: method.to_owned(), path: path.to_owned(), body })
}
