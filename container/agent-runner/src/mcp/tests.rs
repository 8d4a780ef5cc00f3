use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Map;

use super::*;

fn context(is_main: bool, folder: &Path, patience: Duration) -> Context {
    for name in ["messages", "tasks", "responses"] {
        fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    Context { tools: Tools::new(is_main), host: Host::at(folder.to_owned(), patience) }
}

fn session() -> Session {
    Session { version: VERSIONS[0], calls: Vec::new() }
}

/// What is answered at once.
fn answer(session: &mut Session, message: &Value) -> Value {
    let dir = tempfile::tempdir().expect("a folder");
    let context = context(true, dir.path(), Duration::ZERO);
    let (now, later) = session.hear(message.to_string().as_bytes(), &context);
    match later {
        Some(work) => context.work(&work.call, &work.incoming).expect("it was not cancelled"),
        None => now.unwrap_or(Value::Null),
    }
}

fn request(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params })
}

#[test]
fn the_version_is_the_clients_if_we_know_it() {
    for (asked, got) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2024-11-05"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let params = json!({ "protocolVersion": asked, "capabilities": {}, "clientInfo": {} });
        let answer = answer(&mut session(), &request("initialize", &params));
        assert_eq!(got, answer["result"]["protocolVersion"]);
        assert!(answer["result"]["capabilities"]["tools"].is_object());
    }
}

#[test]
fn what_is_wrong_has_the_code_that_the_specification_gives_it() {
    let code = |message: &Value| answer(&mut session(), message)["error"]["code"].clone();
    assert_eq!(-32601, code(&request("resources/list", &json!({}))));
    assert_eq!(-32602, code(&request("initialize", &json!({}))));
    assert_eq!(-32602, code(&request("tools/list", &json!({ "cursor": "x" }))));
    assert_eq!(-32602, code(&request("tools/call", &json!({}))));
    assert_eq!(-32602, code(&request("tools/call", &json!({ "name": "make_main" }))));
    assert_eq!(-32600, code(&request("ping", &json!([1]))));
    assert_eq!(-32600, code(&json!({ "id": 1, "method": "ping" })));
    assert_eq!(-32600, code(&json!({ "jsonrpc": "2.0", "id": 1 })));
    assert_eq!(-32600, code(&json!({ "jsonrpc": "2.0", "id": {}, "method": "ping" })));
    assert_eq!(-32600, code(&json!(7)));
    let dir = tempfile::tempdir().expect("a folder");
    let context = context(true, dir.path(), Duration::ZERO);
    for line in ["{", "nonsense", &"[".repeat(10_000)] {
        let (now, _) = session().hear(line.as_bytes(), &context);
        assert_eq!(-32700, now.expect("an error")["error"]["code"]);
    }
}

#[test]
fn notifications_and_responses_are_not_answered() {
    for message in [
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }),
        json!({ "jsonrpc": "2.0", "method": "tools/call", "params": { "name": "list_tasks" } }),
        json!({ "jsonrpc": "2.0", "id": 3, "result": {} }),
    ] {
        assert_eq!(Value::Null, answer(&mut session(), &message), "{message}");
    }
    assert_eq!(json!({}), answer(&mut session(), &request("ping", &Value::Null))["result"]);
}

#[test]
fn batches_are_of_one_version_alone() {
    let batch = json!([
        request("ping", &Value::Null),
        { "jsonrpc": "2.0", "method": "notifications/initialized" },
        { "jsonrpc": "2.0", "id": "a", "method": "nonsense" },
    ]);
    assert_eq!(-32600, answer(&mut session(), &batch)["error"]["code"]);
    let mut session = session();
    session.version = VERSION_WITH_BATCHES;
    let answers = answer(&mut session, &batch);
    assert_eq!(Some(2), answers.as_array().map(Vec::len), "{answers}");
    assert_eq!(-32600, answer(&mut session, &json!([]))["error"]["code"]);
    let call = json!([request("tools/call", &json!({ "name": "nonsense" }))]);
    assert_eq!(-32602, answer(&mut session, &call)[0]["error"]["code"]);
}

#[test]
fn only_main_is_told_of_what_only_main_may() {
    let names = |is_main| -> Vec<String> {
        let tools = Tools::new(is_main).list();
        tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    };
    let (main, other) = (names(true), names(false));
    assert_eq!((14, 10), (main.len(), other.len()));
    for name in ["register_group", "unregister_group", "list_groups", "refresh_groups"] {
        assert!(main.contains(&name.to_owned()) && !other.contains(&name.to_owned()), "{name}");
    }
    let list = Tools::new(false).list();
    let text = serde_json::to_string(&list).expect("JSON");
    assert!(!text.contains("chat_jid") && !text.contains("{TZ}"), "{text}");
    assert!(text.contains("Europe/Berlin"));
}

#[test]
fn arguments_are_checked_with_errors_that_help() {
    let tools = Tools::new(false);
    let refused = |name: &str, arguments: Value| {
        let tool = tools.find(name).expect("it is known");
        tools.request(tool, &arguments).expect_err("it is wrong")
    };
    for (name, arguments, part) in [
        ("send_message", json!({}), "`text` is missing"),
        ("send_message", json!({ "text": 7 }), "`text` must be a string"),
        ("send_message", json!({ "text": " \n" }), "`text` is empty"),
        ("send_message", json!({ "text": "a\0" }), "NUL"),
        ("send_message", json!({ "text": "x".repeat(65_537) }), "at most 65536"),
        ("send_message", json!({ "text": "x", "chat_jid": "2@g.us" }), "no argument `chat_jid`"),
        ("send_message", json!([]), "must be an object"),
        ("schedule_task", json!({ "prompt": "x", "schedule_type": "daily" }), "one of cron"),
        ("search_messages", json!({ "query": "x", "limit": 0 }), "from 1 to 50"),
        ("search_messages", json!({ "query": "x", "limit": 1.5 }), "from 1 to 50"),
        ("list_tasks", json!({ "all": true }), "no argument `all`"),
    ] {
        let error = refused(name, arguments);
        assert!(error.contains(part), "{name}: {error}");
    }
}

#[test]
fn a_call_is_a_file_and_what_the_host_says_is_the_answer() {
    let dir = tempfile::tempdir().expect("a folder");
    let context = context(false, dir.path(), Duration::from_secs(30));
    let arguments =
        json!({ "prompt": "p", "schedule_type": "once", "schedule_value": "2030-01-31T09:00" });
    for (response, text, is_error) in [
        (json!({ "ok": true, "data": { "id": "k3v9x2aa" } }), "k3v9x2aa", false),
        (json!({ "ok": false, "error": "no such chat" }), "refused: no such chat", true),
    ] {
        let params = json!({ "name": "schedule_task", "arguments": arguments });
        let answer = std::thread::scope(|scope| {
            let call = ToolCall { id: json!("a"), params };
            let context = &context;
            let calling = scope.spawn(move || context.call(&call, &Call::default()));
            let file = first_file(&dir.path().join("tasks"));
            let request: Value =
                serde_json::from_slice(&fs::read(&file).expect("whole")).expect("JSON");
            assert_eq!("schedule_task", request["type"]);
            assert_eq!("1@g.us", request["targetJid"]);
            let name = file.file_name().expect("a name").to_str().expect("plain");
            assert_eq!(
                Some(name),
                request["requestId"].as_str().map(|id| format!("{id}.json")).as_deref()
            );
            fs::remove_file(&file).expect("it is there");
            let to = dir.path().join("responses").join(name);
            let temporary = dir.path().join("tmp");
            fs::write(&temporary, response.to_string()).expect("a file");
            fs::rename(temporary, &to).expect("a file");
            let answer = calling.join().expect("no panic");
            assert!(!to.exists(), "a response that was read is removed");
            answer
        });
        assert_eq!("a", answer["id"]);
        assert_eq!(is_error, answer["result"]["isError"]);
        let said = answer["result"]["content"][0]["text"].as_str().expect("a text");
        assert!(said.contains(text), "{said}");
    }
}

#[test]
fn h10_without_a_host_the_tool_says_that_nothing_was_done() {
    let dir = tempfile::tempdir().expect("a folder");
    let context = context(false, dir.path(), Duration::from_millis(1));
    let mut ask = Map::new();
    ask.insert("type".to_owned(), "list_tasks".into());
    let refused = context.host.ask("tasks", ask, &AtomicBool::new(false)).expect_err("no host");
    assert!(refused.starts_with("not done"), "{refused}");
    assert_eq!(0, fs::read_dir(dir.path().join("tasks")).expect("a folder").count());
    let refused = context.host.ask("nowhere", Map::new(), &AtomicBool::new(false));
    assert!(refused.expect_err("no folder").starts_with("not sent"));
}

#[test]
fn a_cancelled_call_is_not_answered() {
    let dir = tempfile::tempdir().expect("a folder");
    let context = context(false, dir.path(), Duration::from_mins(1));
    let mut session = session();
    let call = request("tools/call", &json!({ "name": "list_tasks" }));
    let (_, work) = session.hear(call.to_string().as_bytes(), &context);
    let work = work.expect("it takes longer");
    let started = Instant::now();
    std::thread::scope(|scope| {
        let (to, answered) = mpsc::channel();
        let context = &context;
        scope.spawn(move || to.send(context.work(&work.call, &work.incoming)));
        first_file(&dir.path().join("tasks"));
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
                             "params": { "requestId": 7, "reason": "x" } });
        assert!(matches!(session.hear(cancel.to_string().as_bytes(), context), (None, None)));
        assert_eq!(Ok(None), answered.recv());
    });
    assert!(started.elapsed() < Duration::from_secs(50));
    assert_eq!(0, fs::read_dir(dir.path().join("tasks")).expect("a folder").count());
}

fn first_file(folder: &Path) -> std::path::PathBuf {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut paths = entries.map(|entry| entry.expect("an entry").path());
        if let Some(path) = paths.find(|path| path.extension().is_some_and(|e| e == "json")) {
            return path;
        }
        assert!(Instant::now() < deadline, "no request came");
        std::thread::sleep(Duration::from_millis(1));
    }
}
