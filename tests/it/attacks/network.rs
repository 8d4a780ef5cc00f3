//! Where the agent gets to: the model's API and, unless its network is open, nothing else.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::{Arena, EVIL, KEY, in_every_engine};
use crate::support::{Kind, wait_for};

/// A request that the stand-in for the model answers with `said by the model`.
const ASK: &str = r#"{"model":"m","max_tokens":9,"stream":false,"messages":[{"role":"user","content":"SAY said by the model\nUSAGE 1000 50 200 10"}]}"#;

fn post(target: &str, token: &str) -> String {
    format!("http POST {target} {token} api.anthropic.com\n{ASK}")
}

/// Addresses of this machine that are not loopback's, such as an engine's bridge.
fn own_addresses() -> Vec<String> {
    let said = crate::support::run(
        {
            let mut command = std::process::Command::new("hostname");
            command.arg("-I");
            command
        },
        b"",
    );
    said.ok().split_whitespace().filter(|it| it.contains('.')).map(str::to_owned).collect()
}

in_every_engine! {
    fn h58_model_only_reaches_the_model_and_nothing_else(arena) {
        arena.home.run(&["set-limits", "--group", "evil", "--network", "model-only"]).ok();
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut addresses: Vec<String> = own_addresses();
        addresses.extend(["127.0.0.1", "172.17.0.1", "10.88.0.1"].map(str::to_owned));
        let mut reached = vec!["tcp".to_owned()];
        reached.extend(addresses.iter().map(|address| format!("{address}:{port}")));
        reached.push(format!("127.0.0.1:{}", arena.model.port()));
        reached.extend(["1.1.1.1:443", "example.com:443"].map(str::to_owned));
        let said = arena.attack(&reached.join(" "));
        assert_eq!(addresses.len() + 3, said.lines().count(), "{said}");
        assert!(said.lines().all(|line| line.contains(": no: ")), "{said}");

        let name = format!("rust-claw-test-{port}");
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let _listening = UnixListener::bind_addr(&address).expect("a socket");
        let said = arena.attack(&format!("abstract {name}"));
        assert!(said.contains(": no: "), "{said}");

        let said = arena.attack(&post("/v1/messages", "mine"));
        assert!(said.starts_with("HTTP/1.1 200") && said.contains("said by the model"), "{said}");
        assert!(!said.contains(KEY), "{said}");
    }

    fn h52_the_proxy_is_for_the_models_api_alone(arena) {
        let before = arena.model.requests().lines().count();
        for (line, status) in [
            ("POST http://evil.example/v1/messages mine evil.example", "403"),
            ("CONNECT evil.example:443 mine evil.example", "403"),
            ("POST /v1/files mine api.anthropic.com", "404"),
            ("GET /v1/organizations/api_keys mine api.anthropic.com", "404"),
            ("POST /v1/messages/../files mine api.anthropic.com", "404"),
            ("POST /api/oauth/claude_cli/create_api_key mine api.anthropic.com", "404"),
            ("DELETE /v1/messages mine api.anthropic.com", "405"),
            ("POST /v1/messages none api.anthropic.com", "401"),
            (&format!("POST /v1/messages {KEY} api.anthropic.com"), "401"),
        ] {
            let body = if line.starts_with("POST") { ASK } else { "" };
            let said = arena.attack(&format!("http {line}\n{body}"));
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {said}");
        }
        assert_eq!(before, arena.model.requests().lines().count(), "nothing was passed on");
        // Whatever host it names, the request goes to the one of the settings.
        let said = arena.attack(&format!("http POST /v1/messages mine evil.example\n{ASK}"));
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        let last = arena.model.requests();
        let last = last.lines().last().expect("a request");
        assert!(!last.contains("evil.example") && last.contains(KEY), "{last}");
    }
}

#[test]
fn h52_a_token_dies_with_its_run_bwrap() {
    let arena = Arena::with(Kind::Bwrap, &[("IDLE_TIMEOUT", "1000")]);
    let token = arena.attack("token");
    let begun = arena.begin("script:boss", &post("/v1/messages", &token));
    let alive = arena.end("script:boss", begun);
    wait_for("the end of its run", || {
        arena
            .home
            .number("SELECT count(*) FROM runs WHERE folder = 'evil' AND ended_at_ms IS NOT NULL")
            > 0
    });
    let begun = arena.begin("script:boss", &post("/v1/messages", &token));
    let dead = arena.end("script:boss", begun);
    assert!(dead.starts_with("HTTP/1.1 401"), "{dead}");
    // While it lived it was a token, and of no other run.
    assert!(alive.starts_with("HTTP/1.1 200") || alive.starts_with("HTTP/1.1 401"), "{alive}");
    arena.is_served();
}

#[test]
fn h52_connections_held_open_keep_no_other_run_from_the_model_bwrap() {
    let arena = Arena::new(Kind::Bwrap);
    let said = arena.attack("hold 300");
    assert!(said.starts_with("holds "), "{said}");
    let begun = arena.begin("script:boss", &post("/v1/messages", "mine"));
    let answer = arena.end("script:boss", begun);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    arena.is_served();
}

/// The proxy counts the tokens, whatever the agent says; what it cost only the agent's side knows.
#[test]
fn tokens_are_counted_where_they_pass_once_bwrap() {
    let arena = Arena::new(Kind::Bwrap);
    let said = arena.attack(&post("/v1/messages", "mine"));
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    arena.frame(
        "{\"status\":\"success\",\"result\":\"lie\",\"turnEnd\":true,\"usage\":\
         {\"inputTokens\":5,\"outputTokens\":999999,\"cacheReadTokens\":7,\"costUsd\":0.25}}",
    );
    let rows = arena.home.json(&["usage", "--json"]);
    let evil = rows.as_array().expect("rows").iter().find(|row| row["group"] == "evil");
    let evil = evil.expect("its row").clone();
    let counts = ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"];
    assert_eq!([1000, 50, 200, 10].map(Some), counts.map(|name| evil[name].as_i64()), "{evil}");
    assert_eq!(Some(250_000), evil["cost_micro_usd"].as_i64());
    // The end of the run adds what came after its last turn, and nothing twice.
    arena.stop();
    let rows = arena.home.json(&["usage", "--json"]);
    let ended = rows.as_array().expect("rows").iter().find(|row| row["group"] == "evil");
    assert_eq!(Some(&evil), ended);
    assert_eq!(EVIL, arena.home.texts("SELECT chat_jid FROM runs WHERE folder = 'evil'")[0]);
    arena.start();
}
