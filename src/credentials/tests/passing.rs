//! What must get through, and how.

use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;

use super::*;
use crate::credentials::{RunUsage, stdin_secrets};
use crate::limits::{PROXY_CONNECTIONS_MAX, PROXY_REQUEST_BYTES_MAX, PROXY_RUN_REQUESTS_MAX};

const EVENT_STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                            transfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[test]
fn the_first_event_arrives_before_the_model_has_ended() {
    let (go_on, may_go_on) = bounded(1);
    let model = Model::start(move |_, stream| {
        stream.write_all((EVENT_STREAM.to_owned() + &chunk("data: 1\n\n")).as_bytes()).expect("1");
        may_go_on.recv_timeout(PATIENCE).expect("the first was read");
        stream.write_all((chunk("data: 2\n\n") + "0\r\n\r\n").as_bytes()).is_ok()
    });
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let mut sandbox = host.connect();
    sandbox.write(post(token.as_str(), "{}"));
    assert_eq!(200, read_head(&mut sandbox.reader).expect("a head").status());
    assert_eq!(b"data: 1\n\n", &*read_chunk(&mut sandbox.reader).expect("a chunk"));
    go_on.send(()).expect("the model waits");
    assert_eq!(b"data: 2\n\n", &*read_chunk(&mut sandbox.reader).expect("a chunk"));
    assert!(read_chunk(&mut sandbox.reader).expect("the last").is_empty());
}

#[test]
fn requests_of_a_run_are_counted() {
    let model = Model::start(|message, stream| {
        let answer = if message.body == b"stream" {
            let start = r#"data: {"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":5,"cache_creation_input_tokens":3,"output_tokens":1}}}"#;
            let delta = r#"data: {"type":"message_delta","usage":{"output_tokens":20}}"#;
            let rest = chunk(&format!("{}\n\n{delta}\n\n", &start[40..]));
            format!("{EVENT_STREAM}{}{rest}0\r\n\r\n", chunk(&start[..40]))
        } else {
            let json = r#"{"usage":{"input_tokens":1,"output_tokens":2}}"#;
            let length = json.len();
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{json}"
            )
        };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let host = Host::start(model.upstream());
    let handle = host.proxy.handle();
    let (token, other) = (handle.issue("main-1"), handle.issue("main-2"));
    let mut sandbox = host.connect();
    sandbox.ask(post(token.as_str(), "stream"));
    let streamed = RunUsage {
        request_count: 1,
        input_tokens: 10,
        output_tokens: 20,
        cache_read_tokens: 5,
        cache_write_tokens: 3,
    };
    assert_eq!(streamed, handle.usage(&token));
    sandbox.ask(post(token.as_str(), "json"));
    sandbox.ask(post(token.as_str(), "").replace("messages?beta=true", "messages/count_tokens"));
    let all = RunUsage { request_count: 3, input_tokens: 11, output_tokens: 22, ..streamed };
    assert_eq!(all, handle.revoke(&token));
    assert_eq!(RunUsage::default(), handle.revoke(&token));
    assert_eq!(RunUsage::default(), handle.revoke(&other));
}

#[test]
fn keep_alive_on_both_sides() {
    let model = Model::saying(OK);
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let mut sandbox = host.connect();
    for _ in 0..3 {
        assert_eq!("ok", sandbox.ask(post(token.as_str(), "{}")).text());
    }
    assert_eq!(1, model.connected.len());
    let last = post(token.as_str(), "{}").replace("host: x", "host: x\r\nconnection: close");
    assert_eq!(Some("close"), sandbox.ask(last).header("connection"));
    assert!(sandbox.is_closed());
}

#[test]
fn an_api_key_takes_the_place_of_the_token() {
    let model = Model::saying(OK);
    let host = Host::start(upstream(&format!("http://{}/gateway/", model.address)));
    let token = host.proxy.handle().issue("main-1");
    let request = format!(
        "POST /v1/messages?beta=true HTTP/1.1\r\nHost: evil.example\r\n\
         Authorization: bearer {}\r\nCookie: a=b\r\nX-Forwarded-Host: evil.example\r\n\
         Proxy-Authorization: x\r\nAccept-Encoding: gzip\r\nanthropic-version: 2023-06-01\r\n\
         anthropic-beta: a\r\nanthropic-beta: b\r\nx-stainless-lang: js\r\nUser-Agent: cli/1\r\n\
         content-type: application/json\r\nConnection: keep-alive\r\nTE: trailers\r\n\
         content-length: 2\r\n\r\n{{}}",
        token.as_str()
    );
    assert_eq!(200, host.connect().ask(request).status());
    let asked = model.next();
    assert_eq!("POST /gateway/v1/messages?beta=true HTTP/1.1", asked.start);
    let mut headers: Vec<String> =
        asked.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    headers.sort();
    let expected = [
        "accept-encoding: identity".to_owned(),
        "anthropic-beta: a".to_owned(),
        "anthropic-beta: b".to_owned(),
        "anthropic-version: 2023-06-01".to_owned(),
        "content-length: 2".to_owned(),
        "content-type: application/json".to_owned(),
        format!("host: {}", model.address),
        "user-agent: cli/1".to_owned(),
        format!("x-api-key: {KEY}"),
        "x-stainless-lang: js".to_owned(),
    ];
    assert_eq!(expected, *headers);
}

#[test]
fn an_oauth_token_takes_the_place_of_the_token() {
    let model = Model::saying(OK);
    let credential = Credential::OauthToken(Secret::from(KEY.to_owned()));
    let base_url = format!("http://{}", model.address);
    let host = Host::start(Upstream::new(&base_url, &credential, None).expect("usable"));
    let token = host.proxy.handle().issue("main-1");
    let request = post(token.as_str(), "{}").replace("host: x", "host: x\r\nanthropic-beta: a-1");
    assert_eq!(200, host.connect().ask(request).status());
    let asked = model.next();
    assert_eq!(Some(format!("Bearer {KEY}").as_str()), asked.header("authorization"));
    assert_eq!(Some("a-1,oauth-2025-04-20"), asked.header("anthropic-beta"));
    assert_eq!(None, asked.header("x-api-key"));
}

#[test]
fn bodies_arrive_whole_in_every_coding() {
    let model = Model::saying(OK);
    let host = Host::start(model.upstream());
    let token = host.proxy.handle().issue("main-1");
    let mut sandbox = host.connect();
    let head =
        format!("POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\n", token.as_str());

    let chunks = "transfer-encoding: Chunked\r\n\r\n3;ext=1\r\nabc\r\n0004\r\ndefg\r\n0\r\n\r\n";
    for piece in format!("{head}{chunks}").bytes() {
        sandbox.write([piece]);
    }
    assert_eq!(200, sandbox.answer().status());
    assert_eq!("abcdefg", model.next().text());

    sandbox.write(format!("{head}expect: 100-continue\r\ncontent-length: 3\r\n\r\n"));
    assert_eq!(100, read_head(&mut sandbox.reader).expect("asked to go on").status());
    assert_eq!(200, sandbox.ask("abc").status());
    assert_eq!("abc", model.next().text());

    assert_eq!(200, sandbox.ask(format!("{head}\r\n")).status());
    assert_eq!("", model.next().text());

    let length = usize::try_from(PROXY_REQUEST_BYTES_MAX).expect("fits");
    sandbox.write(format!("{head}content-length: {length}\r\n\r\n"));
    sandbox.write(vec![b'x'; length]);
    assert_eq!(200, sandbox.answer().status());
    assert_eq!(length, model.next().body.len());
}

#[test]
fn answers_pass_untouched() {
    for answer in [
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\nrequest-id: r\r\ncontent-length: 4\r\n\r\nslow",
        "HTTP/1.1 529 \r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let model = Model::saying(answer);
        let host = Host::start(model.upstream());
        let token = host.proxy.handle().issue("main-1");
        let found = host.connect().ask(post(token.as_str(), "{}"));
        let mut expected = read_message(&mut answer.as_bytes()).expect("an answer");
        expected.headers.sort();
        let mut headers = found.headers;
        headers.sort();
        assert_eq!(expected.start, found.start);
        assert_eq!((expected.headers, expected.body), (headers, found.body));
        model.next();
        assert!(model.asked.is_empty(), "asked once");
    }
}

#[test]
fn as_many_at_once_as_allowed_and_then_the_next() {
    let barrier = Arc::new(Barrier::new(PROXY_CONNECTIONS_MAX + 1));
    let opened = barrier.clone();
    let model = Model::start(move |message, stream| {
        if message.body == b"wait" {
            barrier.wait();
        }
        stream.write_all(OK.as_bytes()).is_ok()
    });
    let host = Host::start(model.upstream());
    let handle = host.proxy.handle();
    let mut sandboxes = Vec::new();
    for run in 0..PROXY_CONNECTIONS_MAX / PROXY_RUN_REQUESTS_MAX {
        let token = handle.issue(&format!("main-{run}"));
        for _ in 0..PROXY_RUN_REQUESTS_MAX {
            let mut sandbox = host.connect();
            sandbox.write(post(token.as_str(), "wait"));
            sandboxes.push(sandbox);
        }
        let all = u64::try_from(PROXY_RUN_REQUESTS_MAX).expect("fits");
        wait_until("all are admitted", || handle.usage(&token).request_count == all);
    }
    // The model answers none before it has all; the next waits for one of their places.
    let token = handle.issue("late");
    let mut late = host.connect();
    late.write(post(token.as_str(), "late"));
    opened.wait();
    for sandbox in &mut sandboxes {
        assert_eq!(200, sandbox.answer().status());
    }
    assert_eq!(200, late.answer().status());
}

#[test]
fn a_loopback_port_does_the_same() {
    let model = Model::saying(OK);
    let proxy = Proxy::start(&Listen::Loopback, model.upstream()).expect("started");
    let token = proxy.handle().issue("main-1");
    let Address::Tcp(address) = proxy.address() else { panic!("not a port") };
    assert!(address.ip().is_loopback());
    assert_eq!("ok", Sandbox::tcp(*address).ask(post(token.as_str(), "{}")).text());
    assert_eq!(401, Sandbox::tcp(*address).ask(post("x", "{}")).status());
    let mut waiting = Sandbox::tcp(*address);
    drop(proxy);
    assert!(waiting.is_closed());
}

#[test]
fn the_socket_is_ours_alone_and_fits_any_home() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let deep = folder.path().join("x".repeat(100)).join("y".repeat(100));
    let listen = Listen::Unix(deep.clone());
    let mode =
        |path: &std::path::Path| path.metadata().expect("there").permissions().mode() & 0o777;
    // The second finds what the first left, as after a kill.
    let first = Proxy::start(&listen, upstream("http://127.0.0.1:1")).expect("started");
    let second = Proxy::start(&listen, upstream("http://127.0.0.1:1")).expect("started");
    assert_eq!(&Address::Unix(deep.join("proxy.sock")), second.address());
    assert_eq!((0o700, 0o600), (mode(&deep), mode(&deep.join("proxy.sock"))));
    drop((first, second));
    assert!(!deep.join("proxy.sock").exists());
    std::fs::write(deep.join("proxy.sock"), "precious").expect("written");
    let error = Proxy::start(&listen, upstream("http://127.0.0.1:1")).expect_err("not a socket");
    assert!(error.to_string().contains(&deep.display().to_string()));
    assert_eq!("precious", std::fs::read_to_string(deep.join("proxy.sock")).expect("kept"));
}

#[test]
fn the_fallback_hands_over_one_secret_and_nothing_else() {
    let secret = |text: &str| Some(Secret::from(text.to_owned()));
    let both = Credential::choose(secret("key"), secret("token"));
    let handed = stdin_secrets(both.as_ref());
    assert_eq!(Some("key"), handed.anthropic_api_key.as_deref());
    assert_eq!((None, None), (handed.claude_code_oauth_token, handed.anthropic_base_url));
    let handed = stdin_secrets(Credential::choose(None, secret("token")).as_ref());
    assert_eq!(Some("token"), handed.claude_code_oauth_token.as_deref());
    assert_eq!(None, handed.anthropic_api_key);
    assert_eq!(rust_claw_protocol::Secrets::default(), stdin_secrets(None));
}
