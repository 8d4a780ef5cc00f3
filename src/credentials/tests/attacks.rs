//! What must not get through, and what must not come of trying.

use std::sync::Mutex;

use super::*;
use crate::limits::{
    PROXY_CONNECTIONS_MAX, PROXY_HEAD_BYTES_MAX, PROXY_REQUEST_BYTES_MAX, PROXY_RUN_REQUESTS_MAX,
};

/// The answer to `request` with a live token in the place of TOKEN; the model must not be asked.
fn check_refused(request: &str, status: u16) {
    let model = Model::saying(OK);
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let mut sandbox = host.connect();
    let answer = sandbox.ask(request.replace("TOKEN", token.as_str()));
    assert_eq!(status, answer.status(), "{request:?}: {}", answer.text());
    let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!("error", json["type"]);
    assert!(json["error"]["type"].is_string() && json["error"]["message"].is_string());
    assert!(sandbox.is_closed(), "{request:?}");
    assert!(model.asked.is_empty(), "{request:?}");
}

#[test]
fn h52_only_a_live_token_opens() {
    let model = Model::saying(OK);
    let host = Host::start(model.upstream());
    let handle = host.proxy.handle();
    let (token, dead) = (handle.issue("main-1"), handle.issue("main-2"));
    handle.revoke(&dead);
    assert!(token.as_str().len() == 69 && token.as_str().starts_with("claw-"));
    assert_ne!(token.as_str(), handle.issue("main-1").as_str());
    let live = token.as_str();
    for bad in ["", "claw-", KEY, dead.as_str(), &live[..68], &format!("{live}0"), &live[1..]] {
        let answer = host.connect().ask(post(bad, "{}"));
        assert_eq!((401, true), (answer.status(), answer.text().contains("authentication_error")));
        let request = post("", "{}").replace("x-api-key:", &format!("authorization: Bearer {bad}"));
        assert_eq!(401, host.connect().ask(request).status());
    }
    assert_eq!(401, host.connect().ask("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").status());
    assert!(model.asked.is_empty());
    assert_eq!(200, host.connect().ask(post(live, "{}")).status());
}

#[test]
fn h52_no_answer_holds_the_secret() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("address");
    let host = Host::start(upstream(&format!("http://{closed}")));
    let token = host.proxy.handle().issue("main-1");
    let answer = host.connect().ask(post(token.as_str(), "{}"));
    assert_eq!((502, true), (answer.status(), answer.text().contains("api_error")));
    assert!(!answer.text().contains(KEY) && !answer.text().contains(token.as_str()));
    // The account's name and cookies stay outside as well.
    let model = Model::saying(
        "HTTP/1.1 200 OK\r\nset-cookie: a=b\r\nanthropic-organization-id: o\r\nrequest-id: r\r\n\
         content-length: 0\r\n\r\n",
    );
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let answer = host.connect().ask(post(token.as_str(), "{}"));
    let names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(["request-id", "content-length"], *names);
}

#[test]
fn h52_revoked_in_the_middle_of_a_stream() {
    let (cut, was_cut) = bounded(1);
    let model = Model::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
        stream.write_all(head.as_bytes()).expect("written");
        // The end of the proxy's side shows as the end of input.
        cut.send(stream.read(&mut [0; 1]).unwrap_or(0)).expect("a test that listens");
        false
    });
    let host = Host::start(model.upstream());
    let handle = host.proxy.handle();
    let token = handle.issue("main-1");
    let mut sandbox = host.connect();
    sandbox.write(post(token.as_str(), "{}"));
    assert_eq!(200, read_head(&mut sandbox.reader).expect("a head").status());
    assert_eq!(b"one", &*read_chunk(&mut sandbox.reader).expect("a chunk"));
    assert_eq!(1, handle.revoke(&token).request_count);
    assert!(sandbox.is_closed());
    assert_eq!(Ok(0), was_cut.recv_timeout(PATIENCE));
    assert_eq!(401, host.connect().ask(post(token.as_str(), "{}")).status());
}

#[test]
fn h52_a_kept_connection_dies_with_its_token() {
    let model = Model::saying(OK);
    let host = Host::start(model.upstream());
    let (token, other) = (host.proxy.handle().issue("main-1"), host.proxy.handle().issue("main-2"));
    let (mut sandbox, mut neighbour) = (host.connect(), host.connect());
    sandbox.ask(post(token.as_str(), "{}"));
    neighbour.ask(post(other.as_str(), "{}"));
    host.proxy.handle().revoke(&token);
    assert!(sandbox.is_closed());
    assert_eq!(200, neighbour.ask(post(other.as_str(), "{}")).status());
}

#[test]
fn who_hangs_up_no_longer_costs_tokens() {
    let (to_test, was_asked) = bounded(1);
    let (cut, was_cut) = bounded(1);
    let model = Model::start(move |_, stream| {
        to_test.send(()).expect("a test that listens");
        cut.send(stream.read(&mut [0; 1]).unwrap_or(0)).expect("a test that listens");
        false
    });
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let mut sandbox = host.connect();
    sandbox.write(post(token.as_str(), "{}"));
    // All of the question: who hangs up before costs nothing at all.
    assert_eq!(Ok(()), was_asked.recv_timeout(PATIENCE));
    drop(sandbox);
    assert_eq!(Ok(0), was_cut.recv_timeout(PATIENCE));
}

#[test]
fn a_stop_waits_for_no_model() {
    let (_hold, held) = bounded::<()>(0);
    let model = Model::start(move |_, _| held.recv().is_ok());
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let mut sandbox = host.connect();
    sandbox.write(post(token.as_str(), "{}"));
    wait_until("the model is asked", || !model.connected.is_empty());
    drop(host);
    assert!(sandbox.is_closed());
}

#[test]
fn h52_no_other_path_or_host() {
    let check = |line: &str, status| {
        check_refused(&format!("{line} HTTP/1.1\r\nhost: x\r\nx-api-key: TOKEN\r\n\r\n"), status);
    };
    check("POST /v1/files", 404);
    check("POST /v1/messages/../files", 404);
    check("POST /v1/messages/%2e%2e/files", 404);
    check("POST /api/oauth/claude_cli/create_api_key", 404);
    check("GET /v1/models/../organizations/api_keys", 404);
    check("GET /v1/messages", 405);
    check("POST http://evil.example/v1/messages", 403);
    check("POST https://api.anthropic.com/v1/messages", 403);
    check("CONNECT evil.example:443", 403);
    check("OPTIONS *", 403);
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let check = |headers: &str, body: &str, status| {
        let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: TOKEN\r\n";
        check_refused(&format!("{head}{headers}\r\n{body}"), status);
    };
    check("content-length: 3\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n", 400);
    check("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n", 400);
    check("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n", 400);
    check("transfer-encoding: identity\r\n", "", 400);
    check("transfer-encoding:\x0bchunked\r\n", "0\r\n\r\n", 400);
    check("content-length: 3\r\ncontent-length: 3\r\n", "abc", 400);
    for number in ["+3", "-1", "3, 3", "0x3", "", "\u{0663}", "18446744073709551616"] {
        check(&format!("content-length: {number}\r\n"), "abc", 400);
    }
    check("x-api-key: TOKEN\r\n", "", 400);
    check("host: y\r\n", "", 400);
    check("anthropic-beta: a\r\n folded\r\n", "", 400);
    check("anthropic-beta : a\r\n", "", 400);
    check("anthropic-beta: a\rx-api-key: b\r\n", "", 400);
    check("anthropic-beta: a\0b\r\n", "", 400);
    check("no colon\r\n", "", 400);
    for body in [
        "x\r\n",
        "-1\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "\r\n",
        "0\r\na: b\r\n\r\n",
    ] {
        let chunked = "transfer-encoding: chunked\r\n";
        let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: TOKEN\r\n";
        check_broken_off(&format!("{head}{chunked}\r\n{body}"));
    }
    check_refused("GET /v1/models HTTP/1.1\r\nx-api-key: TOKEN\r\n\r\n", 400);
    check_refused("GET /v1/models HTTP/1.0\r\nhost: x\r\nx-api-key: TOKEN\r\n\r\n", 400);
    check_refused(
        "GET /v1/models HTTP/1.1\r\nhost: x\r\nx-api-key: TOKEN\r\ncontent-length: 1\r\n\r\nx",
        400,
    );
    check_refused("nonsense\r\n\r\n", 400);
    check_refused("\x16\x03\x01\x02\r\n\r\n", 400);
}

/// A body that turns out broken after its head was passed on: the model never sees it complete.
fn check_broken_off(request: &str) {
    let model = Model::saying(OK);
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let answer = host.connect().ask(request.replace("TOKEN", token.as_str()));
    assert_eq!(400, answer.status(), "{request:?}");
    assert!(model.asked.is_empty(), "{request:?}");
}

#[test]
fn what_is_smuggled_behind_a_request_is_a_request_of_its_own() {
    let model = Model::saying(OK);
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let mut sandbox = host.connect();
    let smuggled = "POST /v1/files HTTP/1.1\r\nhost: x\r\n\r\n";
    sandbox.write(post(token.as_str(), "{}") + smuggled);
    assert_eq!(200, sandbox.answer().status());
    assert_eq!(401, sandbox.answer().status());
    assert_eq!("{}", model.next().text());
    assert!(model.asked.is_empty());
}

#[test]
fn sizes_are_bounded() {
    let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: TOKEN\r\n";
    let over = PROXY_REQUEST_BYTES_MAX + 1;
    check_refused(&format!("{head}content-length: {over}\r\n\r\n"), 413);
    let long = "a".repeat(PROXY_HEAD_BYTES_MAX);
    check_refused(&format!("{head}accept: {long}"), 431);
    check_refused(&long, 431);
    check_refused(&format!("{head}{}\r\n", "a: b\r\n".repeat(200)), 431);
    // Chunks: what is left counts down; a size alone is believed to be too large at once.
    let model = Model::saying(OK);
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let head = head.replace("TOKEN", token.as_str()) + "transfer-encoding: chunked\r\n\r\n";
    let answer = host.connect().ask(format!("{head}3\r\nabc\r\n{:x}\r\n", over - 3));
    assert_eq!(413, answer.status());
    let answer = host.connect().ask(format!("{head}ffffffffffffffff1\r\n"));
    assert_eq!(400, answer.status());
    assert!(model.asked.is_empty());
}

#[test]
fn a_refusal_is_read_even_if_the_request_is_still_being_written() {
    let model = Model::saying(OK);
    let proxy = Proxy::start(&Listen::Loopback, model.upstream()).expect("started");
    let Address::Tcp(address) = proxy.address() else { panic!("not a port") };
    let mut sandbox = Sandbox::tcp(*address);
    sandbox.write(post("dead", &"x".repeat(8 * 1024 * 1024)));
    assert_eq!(401, sandbox.answer().status());
}

#[test]
fn an_answer_that_breaks_off_is_not_completed() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let model = Model::start(move |_, stream| {
            stream.write_all(answer.as_bytes()).expect("written");
            false
        });
        let host = Host::start(model.upstream());
        let token = host.proxy.handle().issue("main-1");
        let mut sandbox = host.connect();
        sandbox.write(post(token.as_str(), "{}"));
        assert!(read_message(&mut sandbox.reader).is_none());
    }
}

#[test]
fn silent_connections_shut_nobody_out() {
    let model = Model::saying(OK);
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let mut friend = host.connect();
    friend.ask(post(token.as_str(), "{}"));
    let mut crowd: Vec<Sandbox> = (0..3 * PROXY_CONNECTIONS_MAX).map(|_| host.connect()).collect();
    for sandbox in &mut crowd[..10] {
        assert!(sandbox.is_closed(), "the oldest makes room");
    }
    assert_eq!(200, host.connect().ask(post(token.as_str(), "{}")).status());
    assert_eq!(200, friend.ask(post(token.as_str(), "{}")).status());
}

#[test]
fn one_run_cannot_take_all_places() {
    let (_hold, held) = bounded::<()>(0);
    let model = Model::start(move |message, stream| {
        if message.body == b"hold" {
            assert!(held.recv().is_err());
        }
        stream.write_all(OK.as_bytes()).is_ok()
    });
    let host = Host::start(model.upstream());
    let handle = host.proxy.handle();
    let (token, other) = (handle.issue("main-1"), handle.issue("main-2"));
    let greedy: Vec<Sandbox> = (0..PROXY_RUN_REQUESTS_MAX)
        .map(|_| {
            let mut sandbox = host.connect();
            sandbox.write(post(token.as_str(), "hold"));
            sandbox
        })
        .collect();
    let all = u64::try_from(PROXY_RUN_REQUESTS_MAX).expect("fits");
    wait_until("all are admitted", || handle.usage(&token).request_count == all);
    assert_eq!(429, host.connect().ask(post(token.as_str(), "{}")).status());
    assert_eq!(200, host.connect().ask(post(other.as_str(), "{}")).status());
    drop(greedy);
    wait_until("places are free", || {
        host.connect().ask(post(token.as_str(), "{}")).status() == 200
    });
}

/// Keeps every line that any crate logs.
struct Lines(Mutex<String>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}\n", record.target(), record.args());
        self.0.lock().expect("no panic while it is held").push_str(&line);
    }

    fn flush(&self) {}
}

static LINES: Lines = Lines(Mutex::new(String::new()));

#[test]
fn h60_no_log_line_of_any_level_holds_a_secret_or_a_prompt() {
    log::set_logger(&LINES).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let model = Model::saying(OK);
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    host.connect().ask(post(token.as_str(), "a private prompt"));
    host.connect().ask(post("wrong", "a private prompt"));
    let cut_off = Host::start(upstream("http://127.0.0.1:1"));
    let late = cut_off.proxy.handle().issue("main-1");
    assert_eq!(502, cut_off.connect().ask(post(late.as_str(), "a private prompt")).status());
    let lines = LINES.0.lock().expect("no panic while it is held").clone();
    assert!(lines.contains("ureq") && lines.contains("run=main-1"), "{lines}");
    assert!(lines.contains("cannot be reached"), "{lines}");
    for secret in [KEY, token.as_str(), late.as_str(), "private"] {
        assert!(!lines.contains(secret), "{lines}");
    }
}
