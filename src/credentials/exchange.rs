//! One connection of a sandbox: request after request, each passed on and answered as it comes.

use std::io::Read;
use std::sync::Arc;

use ureq::SendBody;
use ureq::http::{Method, Response, header};

use super::meter::Meter;
use super::registry::{Permit, Registry};
use super::route::route;
use super::upstream::passes_back;
use super::wire::{Client, Fault, Stream, reason_phrase};
use crate::limits::{
    PROXY_COPY_BYTES, PROXY_HEAD_WAIT_MAX, PROXY_IDLE_MAX, PROXY_RESPONSE_BYTES_MAX,
};

/// Serves connection `id` until it ends.
pub(super) fn serve(registry: &Registry, id: u64, stream: Arc<Stream>) {
    let mut client = Client::new(stream);
    let mut idle = PROXY_HEAD_WAIT_MAX;
    loop {
        match exchange(registry, id, &mut client, idle) {
            Ok(true) => idle = PROXY_IDLE_MAX,
            Ok(false) | Err(Fault::Gone) => return,
            Err(Fault::Refused { status, kind, reason }) => {
                log::debug!("proxy refused connection={id} status={status}: {reason}");
                // It ends as soon as nobody listens, which is the end that is wanted.
                return client.refuse(status, kind, &reason).unwrap_or_default();
            }
        }
    }
}

/// One request and its answer; whether another may follow.
fn exchange(
    registry: &Registry,
    id: u64,
    client: &mut Client,
    idle: std::time::Duration,
) -> Result<bool, Fault> {
    let head = client.read_head(idle)?;
    let permit = registry.admit(id, &head.headers)?;
    let route = route(&head.method, &head.target)?;
    let request = permit.upstream.request(&head, &route)?;
    let mut body = client.body(&head);
    let sent = if head.method == Method::POST {
        permit.agent.run(request.map(|()| SendBody::from_reader(&mut body)))
    } else {
        permit.agent.run(request.map(|()| SendBody::none()))
    };
    let response = match (sent, body.fault.take()) {
        (_, Some(fault)) => return Err(fault),
        (Ok(response), None) => response,
        (Err(error), None) => {
            registry.note(Some(&error));
            let reason = format!("the model API cannot be reached: {error}");
            return Err(Fault::refused(502, "api_error", reason));
        }
    };
    registry.note(None);
    let keeps_alive = head.keeps_alive && body.is_read();
    log::debug!(
        "proxy run={} connection={id} {} {} status={}",
        permit.label,
        head.method,
        route.target,
        response.status().as_u16()
    );
    pass_back(client, &permit, response, route.is_counted, keeps_alive)?;
    Ok(keeps_alive)
}

/// Copies an answer, each piece as soon as it is there.
fn pass_back(
    client: &Client,
    permit: &Permit<'_>,
    response: Response<ureq::Body>,
    is_counted: bool,
    keeps_alive: bool,
) -> Result<(), Fault> {
    /// Before and after a chunk: up to eight digits, and the line breaks.
    const ROOM: usize = 10;
    let (parts, body) = response.into_parts();
    let status = parts.status.as_u16();
    // A body of no bytes is no body to the client, which then does not tell its length.
    let is_zero = parts.headers.get(header::CONTENT_LENGTH).is_some_and(|value| value == "0");
    let length = body.content_length().or(is_zero.then_some(0));
    let is_empty = matches!(status, 204 | 304);
    if length.is_some_and(|length| PROXY_RESPONSE_BYTES_MAX < length) {
        return Err(Fault::refused(502, "api_error", "the model API's answer is too large"));
    }
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status)).into_bytes();
    for (name, value) in parts.headers.iter().filter(|(name, _)| passes_back(name)) {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(piece);
        }
    }
    if !keeps_alive {
        head.extend_from_slice(b"connection: close\r\n");
    }
    match length {
        _ if is_empty => (),
        Some(length) => head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes()),
        None => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    head.extend_from_slice(b"\r\n");
    client.write(&head)?;
    if is_empty {
        return Ok(());
    }

    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut meter = Meter::new(is_counted, content_type);
    let mut answer = body.into_with_config().limit(PROXY_RESPONSE_BYTES_MAX).reader();
    let mut buffer = vec![0; ROOM + PROXY_COPY_BYTES + 2];
    loop {
        let count = answer.read(&mut buffer[ROOM..ROOM + PROXY_COPY_BYTES])?;
        let end = ROOM + count;
        // Before the piece is passed on: who has read it may end the run, and with it the count.
        permit.count(if count == 0 { meter.end() } else { meter.feed(&buffer[ROOM..end]) });
        if length.is_some() {
            if count == 0 {
                return Ok(());
            }
            client.write(&buffer[ROOM..end])?;
            continue;
        }
        let size = format!("{count:x}\r\n");
        let start = ROOM - size.len();
        buffer[start..ROOM].copy_from_slice(size.as_bytes());
        buffer[end..end + 2].copy_from_slice(b"\r\n");
        client.write(&buffer[start..end + 2])?;
        if count == 0 {
            return Ok(());
        }
    }
}
