//! Histories of the queue as text: `TIME EVENT -> EFFECTS`, a line per step.
//!
//! Groups are letters; `a/x` is chat `x` of group `a`, `a:t` is task `t` of group `a`. Times are
//! seconds since the start.

use std::fmt::Write as _;
use std::time::Duration;

use super::*;
use snapshot::{RetryStatus, RunStatus, Snapshot, WaitingGroup};

mod engine;
mod failures;
mod histories;
mod judge;
mod rules;
mod snapshot;
mod stops;
mod world;

const IDLE_TIMEOUT: Duration = Duration::from_mins(30);

/// The program's own, but for these.
fn limits(concurrent_max: usize, runs_ahead: usize) -> Limits {
    Limits { runs_ahead, ..Limits::new(concurrent_max, IDLE_TIMEOUT) }
}

/// Plays a script's events where no run is started ahead, and compares every step's effects.
fn check(concurrent_max: usize, script: &str) {
    check_with(limits(concurrent_max, 0), script);
}

fn check_with(limits: Limits, script: &str) {
    let mut queue = Queue::new(limits);
    let (mut expected, mut actual) = (String::new(), String::new());
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (step, effects) = line.split_once("->").unwrap_or((line, ""));
        let (time, event) = step.trim().split_once(' ').expect(line);
        let now = Uptime(Duration::from_secs(time.parse().expect(line)));
        let done: Vec<String> = queue.step(now, parse(event)).iter().map(shown).collect();
        assert!(queue.due().is_none_or(|due| now < due), "would spin after `{line}`");
        writeln!(expected, "{} -> {}", step.trim(), effects.trim()).expect("text grows");
        writeln!(actual, "{} -> {}", step.trim(), done.join(", ")).expect("text grows");
    }
    assert_eq!(expected, actual, "\nexpected:\n{expected}\nactual:\n{actual}");
}

fn parse(event: &str) -> Event {
    let words: Vec<&str> = event.split_whitespace().collect();
    let key = |number: &str| RunKey(number.parse().expect(event));
    let is_idle = |word: &str| match word {
        "idle" => true,
        "busy" => false,
        _ => panic!("neither idle nor busy: {event}"),
    };
    match *words.as_slice() {
        ["ready"] => Event::EngineReady,
        ["down"] => Event::EngineDown,
        ["message", name] => {
            let (group, chat) = name.split_once('/').expect(event);
            Event::MessagesPending { group: folder(group), chat: chat_of(group, chat) }
        }
        ["due", name] => {
            let (group, id) = name.split_once(':').expect(event);
            Event::TaskDue { group: folder(group), task: task_of(group, id) }
        }
        ["withdraw", name] => {
            let (group, id) = name.split_once(':').expect(event);
            Event::TaskWithdrawn { group: folder(group), id: id.to_owned() }
        }
        ["fed", run, idle] => Event::Fed { run: key(run), idle: is_idle(idle) },
        ["turn", run, idle] => Event::TurnEnded { run: key(run), idle: is_idle(idle) },
        ["end", run, result] => {
            Event::RunEnded { run: key(run), outcome: outcome(result), pending: false }
        }
        ["end", run, result, "pending"] => {
            Event::RunEnded { run: key(run), outcome: outcome(result), pending: true }
        }
        ["remove", group] => Event::GroupRemoved { group: folder(group) },
        ["retry"] => Event::RetryNow { group: None },
        ["retry", group] => Event::RetryNow { group: Some(folder(group)) },
        ["tick"] => Event::Tick,
        ["stop"] => Event::Stop,
        ["stop-now"] => Event::StopNow,
        _ => panic!("no such event: {event}"),
    }
}

fn outcome(result: &str) -> Outcome {
    let failed = |progress, kind| Outcome::Failed { progress, kind, error: "boom".to_owned() };
    match result {
        "well" => Outcome::Succeeded,
        "badly" => failed(false, FailureKind::Other),
        "badly-later" => failed(true, FailureKind::Other),
        "refused" => failed(false, FailureKind::Credential),
        "refused-later" => failed(true, FailureKind::Credential),
        "unpaid" => failed(false, FailureKind::Billing),
        "too-fast" => failed(false, FailureKind::RateLimit),
        "nothing" => Outcome::NothingToDo,
        "no-engine" => Outcome::EngineDown("gone".to_owned()),
        _ => panic!("no such outcome: {result}"),
    }
}

fn folder(group: &str) -> GroupFolder {
    GroupFolder::new(group).expect(group)
}

fn chat_of(group: &str, chat: &str) -> ChatJid {
    ChatJid::new(&format!("{chat}@{group}")).expect(chat)
}

fn task_of(group: &str, id: &str) -> Task {
    Task { id: id.to_owned(), chat: chat_of(group, "x") }
}

fn shown(effect: &Effect) -> String {
    let name = |chat: &ChatJid| {
        let (chat, group) = chat.as_str().split_once('@').expect("made by `chat_of`");
        format!("{group}/{chat}")
    };
    match effect {
        Effect::Start { run, work: Work::Chat(chat), .. } => {
            format!("start {} {}", run.0, name(chat))
        }
        Effect::Start { run, group, work: Work::Task(task) } => {
            format!("start {} {group}:{}", run.0, task.id)
        }
        Effect::Feed { run } => format!("feed {}", run.0),
        Effect::Close { run } => format!("close {}", run.0),
        Effect::Kill { run } => format!("kill {}", run.0),
        Effect::GiveUp { chat, attempts, notice, .. } => {
            let notice = if *notice { " and say so" } else { "" };
            format!("give up {} after {attempts}{notice}", name(chat))
        }
        Effect::Notify { chat, kind, .. } => format!("tell {} {kind:?}", name(chat)),
        Effect::AskEngine { error } => format!("ask engine ({error})"),
        Effect::Stopped => "stopped".to_owned(),
    }
}
