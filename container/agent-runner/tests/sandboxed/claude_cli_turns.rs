//! The real Claude Code CLI, where all goes well.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixListener;

use rust_claw_fakes::model_api::{ModelApi, Options};
use rust_claw_protocol::{Input, Secrets};

use crate::harness::{Group, input};

/// A model API, and `prompt` as the input of a group that may use it.
pub(crate) fn api_and_input(prompt: &str) -> (ModelApi, Input) {
    let api = ModelApi::start(Options { keys: vec!["sk-planted".into()], ..Options::default() })
        .expect("loopback");
    let secrets = Secrets {
        anthropic_api_key: Some("sk-planted".to_owned()),
        anthropic_base_url: Some(api.url()),
        ..Secrets::default()
    };
    let input = Input { secrets: Some(secrets), ..input(prompt) };
    (api, input)
}

/// Whether the newest request for a message contains `text` anywhere.
fn newest_has(api: &ModelApi, text: &str) -> bool {
    api.prompts().last().is_some_and(|body| body.to_string().contains(text))
}

#[test]
fn it_answers_and_says_what_it_cost() {
    let group = Group::with_claude();
    let (_api, input) = api_and_input("USAGE 1000 20 300 40\nSAY hello");
    let mut run = group.run(&input);
    let first = run.frame();
    assert_eq!((Some(false), None), (first.turn_end, first.result));
    let session = first.new_session_id.expect("known before the answer");
    let answer = run.answer();
    assert_eq!(Some("hello"), answer.result.as_deref());
    assert_eq!(Some(session), answer.new_session_id);
    assert_eq!(Some(Vec::new()), answer.consumed);
    let usage = answer.usage.expect("each turn has its cost");
    assert_eq!((1000, 20), (usage.input_tokens, usage.output_tokens));
    assert_eq!((300, 40), (usage.cache_read_tokens, usage.cache_write_tokens));
    assert!(0.0 < usage.cost_usd);
    group.close();
    let ended = run.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!("", ended.stderr);
}

#[test]
fn h04_a_follow_up_while_a_tool_runs_is_answered_by_the_same_result() {
    let group = Group::with_claude();
    let command = "until [ -e go ]; do sleep 0.01; done; echo ok";
    let (api, input) =
        api_and_input(&format!("TOOL Bash {{\"command\":\"{command}\"}}\nSAY first"));
    let mut run = group.run(&input);
    api.wait_for_prompt(|_| true);
    group.follow_up("5-0.json", "<message sender=\"B\" time=\"x\">SAY second</message>");
    group.follow_up("5-1.json", "SAY third");
    // Not taken before the tool is done: were the run to end here, they would be the host's again.
    fs::write(group.path("group/go"), "").expect("writes");
    let answer = run.answer();
    assert_eq!(Some("first\nsecond\nthird"), answer.result.as_deref());
    assert_eq!(Some(vec!["5-0.json".to_owned(), "5-1.json".to_owned()]), answer.consumed);
    assert!(group.waiting().is_empty());
    assert_eq!(2, api.prompts().len());
}

#[test]
fn follow_ups_during_an_answer_are_the_next_turn() {
    let group = Group::with_claude();
    let (api, input) = api_and_input("SLOW 40\nSAY a b c d e f g h i j k l m n o p q r s t u v");
    let mut run = group.run(&input);
    api.wait_for_prompt(|_| true);
    group.follow_up("1-0.json", "SAY second");
    group.follow_up("2-0.json", "SAY third");
    let first = run.answer();
    assert!(first.result.is_some_and(|text| text.ends_with('v')));
    let consumed = run.answer().consumed.expect("lists them");
    assert_eq!(vec!["1-0.json".to_owned(), "2-0.json".to_owned()], consumed);
}

#[test]
fn follow_ups_between_turns_go_into_the_same_conversation() {
    let group = Group::with_claude();
    let (api, input) = api_and_input("SAY one");
    let mut run = group.run(&input);
    let session = run.answer().new_session_id;
    group.follow_up("9-0.json", "SAY two");
    let answer = run.answer();
    assert_eq!(Some("two"), answer.result.as_deref());
    assert_eq!(
        (session, Some(vec!["9-0.json".to_owned()])),
        (answer.new_session_id, answer.consumed)
    );
    assert!(newest_has(&api, "SAY one"), "the model is told what was said before");
}

#[test]
fn a_later_run_continues_the_session_and_counts_only_itself() {
    let group = Group::with_claude();
    fs::write(group.path("global/CLAUDE.md"), "shared-memory-old").expect("writes");
    let (api, input) = api_and_input("USAGE 500 50 0 0\nSAY one");
    let mut run = group.run(&input);
    let first = run.answer();
    group.close();
    assert!(run.end().status.success());
    assert!(newest_has(&api, "shared-memory-old"));

    fs::write(group.path("global/CLAUDE.md"), "shared-memory-new").expect("writes");
    let prompt = "USAGE 700 70 0 0\nSAY two".to_owned();
    let session_id = first.new_session_id.clone();
    let mut run = group.run(&Input { prompt, session_id, ..input });
    let second = run.frame();
    assert_eq!(Some("two"), second.result.as_deref(), "no frame for a session that is known");
    assert_eq!(first.new_session_id, second.new_session_id);
    let (before, now) = (first.usage.expect("has one"), second.usage.expect("has one"));
    assert_eq!((700, 70), (now.input_tokens, now.output_tokens));
    assert!((now.cost_usd - before.cost_usd * 1.4).abs() < 1e-9, "{before:?} {now:?}");
    assert!(newest_has(&api, "SAY one") && newest_has(&api, "shared-memory-new"));
}

#[test]
fn memories_are_read_as_they_are_meant() {
    let check = |is_main: bool, expected: [bool; 3]| {
        let group = Group::with_claude();
        fs::create_dir(group.path("extra/notes")).expect("makes a folder");
        for (path, text) in [
            ("group/CLAUDE.md", "memory-of-the-group"),
            ("global/CLAUDE.md", "memory-of-all"),
            ("extra/notes/CLAUDE.md", "memory-of-notes"),
        ] {
            fs::write(group.path(path), text).expect("writes");
        }
        let (api, input) = api_and_input("SAY hi");
        group.run(&Input { is_main, ..input }).answer();
        let texts = ["memory-of-the-group", "memory-of-all", "memory-of-notes"];
        assert_eq!(expected, texts.map(|text| newest_has(&api, text)), "main: {is_main}");
    };
    check(false, [true, true, true]);
    check(true, [true, false, true]);
}

#[test]
fn tools_that_fight_with_ours_are_not_offered() {
    let group = Group::with_claude();
    let (api, input) = api_and_input("SAY hi");
    group.run(&input).answer();
    let body = api.prompts().pop().expect("was asked").to_string();
    assert!(body.contains("\"Bash\""));
    for tool in ["CronCreate", "ScheduleWakeup", "EnterWorktree", "\"Workflow\""] {
        assert!(!body.contains(tool), "{tool}");
    }
}

#[test]
fn a_task_ends_by_itself_and_takes_no_chat_text() {
    let group = Group::with_claude();
    group.follow_up("1-0.json", "chat text");
    let (_api, input) = api_and_input("SAY done");
    let ended = group.run(&Input { is_scheduled_task: Some(true), ..input }).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(Some("done"), ended.frames.last().and_then(|frame| frame.result.as_deref()));
    assert_eq!(vec!["1-0.json".to_owned()], group.waiting());
}

#[test]
fn a_turn_is_over_when_its_subagents_are_done() {
    let group = Group::with_claude();
    let task = r#"{"description":"d","prompt":"SAY found","subagent_type":"general-purpose"}"#;
    let (api, input) = api_and_input(&format!("TOOL Task {task}\nSAY all done"));
    let mut run = group.run(&input);
    let answer = run.answer();
    assert_eq!(Some("all done"), answer.result.as_deref());
    let usage = answer.usage.expect("has one");
    assert_eq!(300, usage.input_tokens, "two requests and the subagent's");
    assert!(newest_has(&api, "found"));
    group.close();
    assert!(run.end().frames.is_empty(), "no turn that nobody asked for");
}

#[test]
fn h05_close_in_a_turn_lets_it_end() {
    let group = Group::with_claude();
    let command = "until [ -e go ]; do sleep 0.01; done";
    let (api, input) =
        api_and_input(&format!("TOOL Bash {{\"command\":\"{command}\"}}\nSAY finished"));
    let mut run = group.run(&input);
    api.wait_for_prompt(|_| true);
    group.close();
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while group.waiting().contains(&"_close".to_owned()) {
        assert!(std::time::Instant::now() < deadline, "the close file was not seen");
    }
    group.follow_up("1-0.json", "too late");
    fs::write(group.path("group/go"), "").expect("writes");
    assert_eq!(Some("finished"), run.answer().result.as_deref());
    let ended = run.end();
    assert!(ended.status.success() && ended.frames.is_empty());
    assert_eq!(vec!["1-0.json".to_owned()], group.waiting(), "the host's again");
}

#[test]
fn before_a_compaction_the_transcript_is_archived() {
    let group = Group::with_claude();
    let (_api, input) =
        api_and_input("<message sender=\"Bob\" time=\"x\">Plan a trip\nSAY by train</message>");
    let mut run = group.run(&Input { assistant_name: Some("Andy".to_owned()), ..input });
    run.answer();
    group.follow_up("1-0.json", "/compact");
    assert_eq!(Some(vec!["1-0.json".to_owned()]), run.answer().consumed);
    let mut archives = fs::read_dir(group.path("group/conversations")).expect("there is one");
    let archive = archives.next().expect("there is one").expect("an entry").path();
    let name = archive.file_name().expect("has one").to_string_lossy().into_owned();
    assert!(name.ends_with("-plan-a-trip-say-by-train.md"), "{name}");
    let text = fs::read_to_string(archive).expect("reads");
    assert!(text.contains("**Bob**: Plan a trip") && text.contains("**Andy**: by train"), "{text}");
    group.follow_up("2-0.json", "SAY still here");
    assert_eq!(Some("still here"), run.answer().result.as_deref());
}

#[test]
fn with_the_network_closed_the_model_is_reached_through_the_proxys_socket() {
    let group = Group::with_claude().without_network();
    let (api, mut input) = api_and_input("SAY through the wall");
    // In the proxy's place: each connection goes on to the model API.
    let listener = UnixListener::bind(group.path("proxy/proxy.sock")).expect("binds");
    let upstream = api.url().trim_start_matches("http://").to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(&upstream).expect("connects");
            let (from, to) =
                (client.try_clone().expect("clones"), server.try_clone().expect("clones"));
            std::thread::spawn(move || io::copy(&mut &from, &mut &to));
            std::thread::spawn(move || io::copy(&mut &server, &mut &client));
        }
    });
    input.secrets.as_mut().expect("has some").anthropic_base_url = None;
    assert_eq!(Some("through the wall"), group.run(&input).answer().result.as_deref());
}

#[test]
fn h60_neither_prompts_nor_secrets_reach_standard_error_or_a_frame() {
    let group = Group::with_claude();
    let (_api, input) = api_and_input("planted-prompt\nSAY ok");
    let mut run = group.run(&input);
    let frames = [run.frame(), run.answer()];
    assert!(!format!("{frames:?}").contains("planted"), "{frames:?}");
    group.close();
    assert!(!run.end().stderr.contains("planted"));
}

#[test]
fn h52_the_key_is_not_in_the_environment_of_the_agents_shell() {
    let group = Group::with_claude();
    let (api, input) =
        api_and_input("TOOL Bash {\"command\":\"echo key: $ANTHROPIC_API_KEY; env\"}");
    let mut run = group.run(&input);
    run.answer();
    assert!(newest_has(&api, "CLAUDE_CONFIG_DIR="), "the environment was printed");
    assert!(!newest_has(&api, "sk-planted"), "without the key");
}
