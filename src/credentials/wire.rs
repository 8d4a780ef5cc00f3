//! The server's half of HTTP/1.1, as much as the model API's clients use and no more. What two
//! programs could read in two ways (two lengths, a length and chunks, folded lines) is refused.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::memchr;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::limits::{
    PROXY_CLIENT_WAIT_MAX, PROXY_HEAD_BYTES_MAX, PROXY_HEAD_WAIT_MAX, PROXY_HEADERS_MAX,
    PROXY_LINGER_MAX, PROXY_REQUEST_BYTES_MAX,
};

/// Any connected socket: what is used of the type looks at no address.
pub(super) type Stream = UnixStream;

/// Why a request goes no further.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nobody is left to answer, or an answer already began.
    Gone,
    /// Told to the sandbox, in the API's form.
    Refused { status: u16, kind: &'static str, reason: String },
}

impl Fault {
    pub(super) fn refused(status: u16, kind: &'static str, reason: impl Into<String>) -> Fault {
        Fault::Refused { status, kind, reason: reason.into() }
    }

    fn bad(reason: &str) -> Fault {
        Fault::refused(400, "invalid_request_error", reason)
    }
}

impl From<io::Error> for Fault {
    /// A socket that fails or stays silent has nobody behind it.
    fn from(_: io::Error) -> Fault {
        Fault::Gone
    }
}

/// Request line and headers, checked.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) length: Length,
    expects_continue: bool,
    pub(super) keeps_alive: bool,
}

/// How the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Bytes(u64),
    Chunked,
}

/// The sandbox's end of a connection, with what was read ahead.
pub(super) struct Client {
    stream: Arc<Stream>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Client {
    pub(super) fn new(stream: Arc<Stream>) -> Client {
        let buffer = vec![0; PROXY_HEAD_BYTES_MAX].into_boxed_slice();
        Client { stream, buffer, start: 0, end: 0 }
    }

    /// Waits up to `idle` for a request and reads its head.
    pub(super) fn read_head(&mut self, idle: Duration) -> Result<Head, Fault> {
        let mut due = Instant::now() + idle;
        let mut seen = 0;
        loop {
            // Empty lines before a request are allowed (RFC 9112, 2.2).
            while seen == 0 && self.start < self.end && b"\r\n".contains(&self.buffer[self.start]) {
                self.start += 1;
            }
            let waiting = &self.buffer[self.start..self.end];
            if seen == 0 && !waiting.is_empty() {
                due = Instant::now() + PROXY_HEAD_WAIT_MAX;
            }
            // Only a new line can complete a head, and the count of lines is bounded: so that what
            // comes byte by byte is not parsed byte by byte.
            let is_worth = memchr(b'\n', &waiting[seen..]).is_some();
            seen = waiting.len();
            if (is_worth || seen == self.buffer.len())
                && let Some((head, taken)) = parse(waiting)?
            {
                self.start += taken;
                return Ok(head);
            }
            self.fill(due.saturating_duration_since(Instant::now()))?;
        }
    }

    /// The body that belongs to `head`.
    pub(super) fn body(&mut self, head: &Head) -> Body<'_> {
        let next = match head.length {
            Length::Bytes(left) => Next::Data { left, is_chunk: false },
            Length::Chunked => Next::Size { is_first: true },
        };
        Body {
            client: self,
            next,
            left_max: PROXY_REQUEST_BYTES_MAX,
            awaits_continue: head.expects_continue,
            fault: None,
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }

    /// Tells why, and ends the connection in a way that lets the reason arrive: a socket closed
    /// with unread input resets the connection.
    pub(super) fn refuse(&mut self, status: u16, kind: &str, reason: &str) -> io::Result<()> {
        let error = serde_json::json!({ "type": kind, "message": reason });
        let json = serde_json::json!({ "type": "error", "error": error }).to_string();
        let head = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            reason_phrase(status),
            json.len()
        );
        self.write((head + &json).as_bytes())?;
        self.stream.shutdown(Shutdown::Write)?;
        let due = Instant::now() + PROXY_LINGER_MAX;
        loop {
            (self.start, self.end) = (0, 0);
            self.fill(due.saturating_duration_since(Instant::now()))?;
        }
    }

    /// Reads more; an error where nothing more comes, in time or at all.
    fn fill(&mut self, wait: Duration) -> Result<(), io::Error> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let count = read(&self.stream, &mut self.buffer[self.end..], wait)?;
        self.end += count;
        Ok(())
    }
}

fn read(mut stream: &Stream, into: &mut [u8], wait: Duration) -> io::Result<usize> {
    if wait.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(wait))?;
    loop {
        match stream.read(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            result => return result,
        }
    }
}

/// The words of a status line.
pub(super) fn reason_phrase(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("")
}

fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; PROXY_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let taken = match request.parse(bytes) {
        Ok(httparse::Status::Complete(taken)) => taken,
        Ok(httparse::Status::Partial) if bytes.len() < PROXY_HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Fault::refused(431, "invalid_request_error", "too many or long headers"));
        }
        Err(_) => return Err(Fault::bad("not a request of HTTP/1.1")),
    };
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version)
    else {
        return Err(Fault::bad("only HTTP/1.1 is spoken here"));
    };
    let mut map = HeaderMap::with_capacity(request.headers.len());
    for field in &*request.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Fault::bad("a header is malformed"));
        };
        map.append(name, value);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::bad("no such method"))?;
    let head = Head {
        length: length(&method, &map)?,
        expects_continue: map.get(header::EXPECT).is_some_and(|value| is(value, "100-continue")),
        keeps_alive: !map.get_all(header::CONNECTION).iter().any(|value| is(value, "close")),
        method,
        target: target.to_owned(),
        headers: map,
    };
    Ok(Some((head, taken)))
}

fn is(value: &HeaderValue, text: &str) -> bool {
    value.as_bytes().eq_ignore_ascii_case(text.as_bytes())
}

/// RFC 9112, 6.3, with every case refused that it calls an error or lets a server choose.
fn length(method: &Method, headers: &HeaderMap) -> Result<Length, Fault> {
    let single = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        HeaderName::from_static("x-api-key"),
    ];
    if single.iter().any(|name| 1 < headers.get_all(name).iter().count()) {
        return Err(Fault::bad("a header that may come once comes twice"));
    }
    if !headers.contains_key(header::HOST) {
        return Err(Fault::bad("the header `host` is missing"));
    }
    let length = match (headers.get(header::TRANSFER_ENCODING), headers.get(header::CONTENT_LENGTH))
    {
        (Some(_), Some(_)) => return Err(Fault::bad("a length and a transfer encoding")),
        (Some(coding), None) if is(coding, "chunked") => Length::Chunked,
        (Some(_), None) => return Err(Fault::bad("the only transfer encoding is `chunked`")),
        (None, Some(digits)) => Length::Bytes(number(digits)?),
        (None, None) => Length::Bytes(0),
    };
    match length {
        Length::Bytes(bytes) if PROXY_REQUEST_BYTES_MAX < bytes => Err(too_large()),
        Length::Bytes(1..) | Length::Chunked if *method != Method::POST => {
            Err(Fault::bad("only POST has a body"))
        }
        length => Ok(length),
    }
}

/// `content-length`: digits alone, where Rust's own parser would take a sign.
fn number(digits: &HeaderValue) -> Result<u64, Fault> {
    let bytes = digits.as_bytes();
    if bytes.is_empty() || 19 < bytes.len() || !bytes.iter().all(u8::is_ascii_digit) {
        return Err(Fault::bad("the header `content-length` is no number"));
    }
    Ok(bytes.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn too_large() -> Fault {
    Fault::refused(413, "request_too_large", "the request is too large")
}

/// What comes next of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Size { is_first: bool },
    Data { left: u64, is_chunk: bool },
    LastLine,
    End,
}

/// Body of a request, without its coding.
pub(super) struct Body<'a> {
    client: &'a mut Client,
    next: Next,
    left_max: u64,
    awaits_continue: bool,
    /// Why a read failed, where the reader had no words for it.
    pub(super) fault: Option<Fault>,
}

impl Body<'_> {
    /// Whether all of it was read, so that a next request can follow.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.next, Next::End | Next::Data { left: 0, is_chunk: false })
    }

    fn read_some(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        if std::mem::take(&mut self.awaits_continue) && !self.is_read() {
            self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        loop {
            match self.next {
                Next::Size { is_first } => {
                    if !is_first {
                        self.line_end()?;
                    }
                    self.next = match self.size()? {
                        0 => Next::LastLine,
                        left if self.left_max < left => return Err(too_large()),
                        left => Next::Data { left, is_chunk: true },
                    };
                }
                Next::LastLine => {
                    // Trailers would be headers that nobody checked.
                    self.line_end()?;
                    self.next = Next::End;
                }
                Next::Data { left: 0, is_chunk: true } => {
                    self.next = Next::Size { is_first: false }
                }
                Next::End | Next::Data { left: 0, .. } => return Ok(0),
                Next::Data { left, is_chunk } => {
                    let count = self.data(into, left)?;
                    let read = count as u64;
                    self.left_max -= read;
                    self.next = Next::Data { left: left - read, is_chunk };
                    return Ok(count);
                }
            }
        }
    }

    /// At least one byte of a piece of `left`, straight from the socket where nothing is waiting.
    fn data(&mut self, into: &mut [u8], left: u64) -> Result<usize, Fault> {
        let client = &mut *self.client;
        let count_max = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let into = &mut into[..count_max];
        let waiting = &client.buffer[client.start..client.end];
        if waiting.is_empty() {
            return Ok(read(&client.stream, into, PROXY_CLIENT_WAIT_MAX)?);
        }
        let count = waiting.len().min(count_max);
        into[..count].copy_from_slice(&waiting[..count]);
        client.start += count;
        Ok(count)
    }

    fn size(&mut self) -> Result<u64, Fault> {
        /// A size has at most 16 digits; what follows it on its line means nothing to us.
        const LINE_MAX: usize = 256;
        loop {
            let waiting = &self.client.buffer[self.client.start..self.client.end];
            if waiting.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
                // The parser would take no digits for a zero.
                return Err(Fault::bad("the size of a chunk is malformed"));
            }
            match httparse::parse_chunk_size(waiting) {
                Ok(httparse::Status::Complete((taken, size))) => {
                    self.client.start += taken;
                    return Ok(size);
                }
                Ok(httparse::Status::Partial) if waiting.len() < LINE_MAX => {
                    self.client.fill(PROXY_CLIENT_WAIT_MAX)?;
                }
                Ok(httparse::Status::Partial) | Err(_) => {
                    return Err(Fault::bad("the size of a chunk is malformed"));
                }
            }
        }
    }

    fn line_end(&mut self) -> Result<(), Fault> {
        while self.client.end - self.client.start < 2 {
            self.client.fill(PROXY_CLIENT_WAIT_MAX)?;
        }
        if !self.client.buffer[self.client.start..self.client.end].starts_with(b"\r\n") {
            return Err(Fault::bad("a chunk does not end where it should"));
        }
        self.client.start += 2;
        Ok(())
    }
}

impl Read for Body<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        self.read_some(into).map_err(|fault| {
            self.fault = Some(fault);
            io::ErrorKind::InvalidData.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_half_a_head_end_a_connection() {
        for written in ["", "\r\n\r\n", "GET /v1/models HTTP/1.1\r\nhost: x\r\n"] {
            let (mut sandbox, ours) = Stream::pair().expect("a pair");
            let mut client = Client::new(Arc::new(ours));
            sandbox.write_all(written.as_bytes()).expect("written");
            if written.starts_with("GET") {
                // The whole time for a head would be a long test: the end of input does it too.
                drop(sandbox);
            }
            let result = client.read_head(Duration::from_millis(1));
            assert!(matches!(result, Err(Fault::Gone)), "{written:?}");
        }
    }

    #[test]
    fn heads_that_come_in_any_pieces_are_read_in_turn() {
        let text = "\r\nGET /v1/models HTTP/1.1\r\nhost: x\r\n\r\nPOST /a HTTP/1.1\r\nhost: y\r\n\
                    content-length: 3\r\n\r\nabc";
        for size in 1..text.len() {
            let (mut sandbox, ours) = Stream::pair().expect("a pair");
            let mut client = Client::new(Arc::new(ours));
            let pieces = text.as_bytes().chunks(size);
            std::thread::scope(|scope| {
                scope.spawn(move || pieces.for_each(|it| sandbox.write_all(it).expect("written")));
                let first = client.read_head(PROXY_HEAD_WAIT_MAX).expect("a head");
                assert_eq!(("/v1/models", Length::Bytes(0)), (&*first.target, first.length));
                let second = client.read_head(PROXY_HEAD_WAIT_MAX).expect("a head");
                assert_eq!(("/a", Length::Bytes(3)), (&*second.target, second.length));
                let mut body = String::new();
                client.body(&second).read_to_string(&mut body).expect("a body");
                assert_eq!("abc", body);
            });
        }
    }
}
