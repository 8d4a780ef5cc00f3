//! As much HTTP/1.1 as a model API needs: bodies with a length, answers whole or in chunks.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest body of a request, in bytes. Source: the model API's own limit is 32 MB.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One request.
pub(super) struct Request {
    pub(super) method: String,
    /// Path with query, as it came.
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    /// `null` where it is not JSON.
    pub(super) body: Value,
}

impl Request {
    /// The key or token that the request brings.
    pub(super) fn key(&self) -> Option<String> {
        let bearer = || self.headers.get("authorization")?.strip_prefix("Bearer ");
        self.headers.get("x-api-key").map(String::as_str).or_else(bearer).map(str::to_owned)
    }
}

/// The path without its query.
pub(super) fn route(path: &str) -> &str {
    path.split_once('?').map_or(path, |(route, _)| route)
}

/// One side of a connection.
pub(super) struct Connection<'stream> {
    reader: BufReader<&'stream TcpStream>,
    writer: &'stream TcpStream,
}

impl<'stream> Connection<'stream> {
    pub(super) fn new(stream: &'stream TcpStream) -> io::Result<Connection<'stream>> {
        stream.set_nodelay(true)?;
        Ok(Connection { reader: BufReader::new(stream), writer: stream })
    }

    /// The next request; `None` where the client has ended.
    pub(super) fn read(&mut self) -> io::Result<Option<Request>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut line = Vec::new();
            let room = (HEAD_BYTES_MAX - head.len()) as u64;
            if self.reader.by_ref().take(room).read_until(b'\n', &mut line)? == 0 {
                return if head.is_empty() {
                    Ok(None)
                } else {
                    Err(bad("head is cut or too long"))
                };
            }
            head.extend_from_slice(&line);
        }
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut parsed = httparse::Request::new(&mut fields);
        parsed.parse(&head).map_err(|error| bad(&error.to_string()))?;
        let method = parsed.method.unwrap_or_default().to_owned();
        let path = parsed.path.unwrap_or_default().to_owned();
        let headers: BTreeMap<String, String> = parsed
            .headers
            .iter()
            .map(|h| (h.name.to_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
            .collect();
        let body = self.body(&headers)?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Some(Request { method, path, headers, body }))
    }

    fn body(&mut self, headers: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            loop {
                let mut line = String::new();
                self.reader.by_ref().take(64).read_line(&mut line)?;
                let size = line.trim().split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(size, 16).map_err(|_| bad("bad chunk size"))?;
                if BODY_BYTES_MAX < body.len() as u64 + size {
                    return Err(bad("body is too long"));
                }
                self.reader.by_ref().take(size).read_to_end(&mut body)?;
                self.reader.by_ref().take(2).read_to_end(&mut Vec::new())?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        let length = headers.get("content-length").map_or(Ok(0), |text| text.parse::<u64>());
        let length = length.map_err(|_| bad("bad content-length"))?;
        if BODY_BYTES_MAX < length {
            return Err(bad("body is too long"));
        }
        self.reader.by_ref().take(length).read_to_end(&mut body)?;
        Ok(body)
    }

    /// Answers with `body` at once.
    pub(super) fn json(&mut self, status: u16, body: &Value) -> io::Result<()> {
        let body = body.to_string();
        // No retry-after: what the client does without one is what a test wants to see.
        self.writer.write_all(
            format!(
                "HTTP/1.1 {status} {status}\r\ncontent-type: application/json\r\n\
                 request-id: req_fake\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
    }

    /// Starts an answer of events.
    pub(super) fn start_events(&mut self) -> io::Result<()> {
        self.writer.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
              request-id: req_fake\r\ntransfer-encoding: chunked\r\n\r\n",
        )
    }

    /// Sends one event in a chunk of its own.
    pub(super) fn event(&mut self, data: &Value) -> io::Result<()> {
        let kind = data["type"].as_str().unwrap_or("message");
        let event = format!("event: {kind}\ndata: {data}\n\n");
        self.writer.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
    }

    /// Ends an answer of events.
    pub(super) fn end_events(&mut self) -> io::Result<()> {
        self.writer.write_all(b"0\r\n\r\n")
    }

    /// Cuts the connection, for both sides.
    pub(super) fn cut(&mut self) -> io::Error {
        match self.writer.shutdown(std::net::Shutdown::Both) {
            Ok(()) => io::Error::other("cut on request"),
            Err(error) => error,
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
