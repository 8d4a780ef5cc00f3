//! `claw-agent-runner mcp`: the tools of the agent, as a server of the Model Context Protocol on
//! standard input and output. It decides nothing: each call becomes a request to the host, and
//! what the host says is what the agent hears.

mod host;
mod rpc;
mod tools;

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rust_claw_protocol::RUNNER_VERSION;
use serde_json::{Value, json};

use self::host::Host;
use self::rpc::{Incoming, Problem, failure, success};
use self::tools::Tools;

/// The subcommand's name.
pub(crate) const SUBCOMMAND: &str = "mcp";

/// Versions of the protocol that we speak, newest first.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The only one with batches.
const VERSION_WITH_BATCHES: &str = "2025-03-26";
/// Size of one line from the client.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Tools that may be called at a time; the CLI itself calls ten.
const CALLS_MAX: usize = 32;

const INSTRUCTIONS: &str = "Tools of the assistant: messages, scheduled tasks, groups, and a search \
                            in what was said. Each returns what really happened.";

/// A call of a tool that goes on.
#[derive(Default)]
struct Call {
    is_cancelled: AtomicBool,
    is_over: AtomicBool,
}

/// Serves until the client closes our input; calls that go on then are still answered.
///
/// # Errors
/// Standard input or output.
pub(crate) fn serve() -> io::Result<()> {
    let context = Arc::new(Context { tools: Tools::from_env(), host: Host::from_env() });
    let mut input = io::stdin().lock();
    thread::scope(|scope| {
        let mut session = Session { version: VERSIONS[0], calls: Vec::new() };
        loop {
            let mut line = Vec::new();
            let count = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if count == 0 {
                return Ok(());
            }
            if count as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                skip_line(&mut input)?;
                print(&failure(&Value::Null, rpc::INVALID_REQUEST, "the message is too long"))?;
                continue;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let (now, later) = session.hear(&line, &context);
            if let Some(now) = now {
                print(&now)?;
            }
            if let Some(Work { call, incoming }) = later {
                let context = Arc::clone(&context);
                thread::Builder::new().name("call".to_owned()).spawn_scoped(scope, move || {
                    // Who does not read any more has closed our input too.
                    if let Some(answer) = context.work(&call, &incoming) {
                        print(&answer).ok();
                    }
                })?;
            }
        }
    })
}

/// What a thread does: one call, or the calls of a batch with what is answered already.
struct Work {
    call: Arc<Call>,
    incoming: Task,
}

enum Task {
    One(ToolCall),
    Batch { answers: Vec<Value>, calls: Vec<ToolCall> },
}

struct ToolCall {
    id: Value,
    params: Value,
}

/// What is the same for all calls.
struct Context {
    tools: Tools,
    host: Host,
}

impl Context {
    /// `None`: it was cancelled, and nobody waits for an answer.
    fn work(&self, call: &Call, task: &Task) -> Option<Value> {
        let answer = match task {
            Task::One(one) => self.call(one, call),
            Task::Batch { answers, calls } => {
                let mut answers = answers.clone();
                answers.extend(calls.iter().map(|one| self.call(one, call)));
                Value::Array(answers)
            }
        };
        call.is_over.store(true, Ordering::Release);
        (!call.is_cancelled.load(Ordering::Acquire)).then_some(answer)
    }

    fn call(&self, ToolCall { id, params }: &ToolCall, call: &Call) -> Value {
        let name = params["name"].as_str().unwrap_or_default();
        let Some(tool) = self.tools.find(name) else {
            let message = format!("there is no tool `{}`", name.escape_debug());
            return failure(id, rpc::INVALID_PARAMS, &message);
        };
        let asked = self
            .tools
            .request(tool, &params["arguments"])
            .and_then(|request| self.host.ask(tool.folder, request, &call.is_cancelled));
        let (text, is_error) = match asked {
            Ok(data) => (format!("{data:#}"), false),
            Err(reason) => (reason, true),
        };
        let content = json!([{ "type": "text", "text": text }]);
        success(id, &json!({ "content": content, "isError": is_error }))
    }
}

/// One client.
struct Session {
    version: &'static str,
    calls: Vec<(Value, Arc<Call>)>,
}

impl Session {
    /// Takes in a line. Gives what is to be said at once, and what takes longer.
    fn hear(&mut self, line: &[u8], context: &Context) -> (Option<Value>, Option<Work>) {
        self.calls.retain(|(_, call)| !call.is_over.load(Ordering::Acquire));
        let message: Value = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(error) => {
                let message = format!("not JSON: {error}");
                return (Some(failure(&Value::Null, rpc::PARSE_ERROR, &message)), None);
            }
        };
        match message {
            Value::Array(messages) => self.hear_batch(messages, context),
            message => match self.hear_one(message, context) {
                Heard::Nothing => (None, None),
                Heard::Answer(answer) => (Some(answer), None),
                Heard::Call(call) => (None, Some(self.begin(Task::One(call)))),
            },
        }
    }

    fn hear_batch(
        &mut self,
        messages: Vec<Value>,
        context: &Context,
    ) -> (Option<Value>, Option<Work>) {
        let refused = |why: &str| failure(&Value::Null, rpc::INVALID_REQUEST, why);
        if self.version != VERSION_WITH_BATCHES {
            let why = format!("protocol version {} has no batches", self.version);
            return (Some(refused(&why)), None);
        }
        if messages.is_empty() {
            return (Some(refused("the batch is empty")), None);
        }
        let (mut answers, mut calls) = (Vec::new(), Vec::new());
        for message in messages {
            match self.hear_one(message, context) {
                Heard::Nothing => {}
                Heard::Answer(answer) => answers.push(answer),
                Heard::Call(call) => calls.push(call),
            }
        }
        match (answers.is_empty(), calls.is_empty()) {
            (true, true) => (None, None),
            (false, true) => (Some(Value::Array(answers)), None),
            (_, false) => (None, Some(self.begin(Task::Batch { answers, calls }))),
        }
    }

    fn begin(&mut self, incoming: Task) -> Work {
        let call = Arc::new(Call::default());
        let ids = match &incoming {
            Task::One(one) => vec![one.id.clone()],
            // Cancelling one of a batch would take the others' answers with it.
            Task::Batch { .. } => vec![Value::Null],
        };
        self.calls.extend(ids.into_iter().map(|id| (id, Arc::clone(&call))));
        Work { call, incoming }
    }

    fn hear_one(&mut self, message: Value, context: &Context) -> Heard {
        let (id, method, params) = match Incoming::read(message) {
            Ok(Incoming::Request { id, method, params }) => (id, method, params),
            Ok(Incoming::Notification { method, params }) => {
                if method == "notifications/cancelled" {
                    self.cancel(&params["requestId"]);
                }
                return Heard::Nothing;
            }
            Ok(Incoming::Response) => return Heard::Nothing,
            Err(Problem { id, message }) => {
                return Heard::Answer(failure(&id, rpc::INVALID_REQUEST, message));
            }
        };
        let answer = match method.as_str() {
            "initialize" => self.initialize(&id, &params),
            "ping" => success(&id, &json!({})),
            "tools/list" if params["cursor"].is_null() => {
                success(&id, &json!({ "tools": context.tools.list() }))
            }
            // We never gave one.
            "tools/list" => failure(&id, rpc::INVALID_PARAMS, "there is no such cursor"),
            "tools/call" if self.calls.len() >= CALLS_MAX => {
                failure(&id, rpc::INTERNAL_ERROR, "too many calls at a time; wait for some")
            }
            "tools/call" if !params["name"].is_string() => {
                failure(&id, rpc::INVALID_PARAMS, "`name` is missing")
            }
            "tools/call" => return Heard::Call(ToolCall { id, params }),
            other => {
                let message = format!("there is no method `{}`", other.escape_debug());
                failure(&id, rpc::METHOD_NOT_FOUND, &message)
            }
        };
        Heard::Answer(answer)
    }

    fn initialize(&mut self, id: &Value, params: &Value) -> Value {
        let Some(asked) = params["protocolVersion"].as_str() else {
            return failure(id, rpc::INVALID_PARAMS, "`protocolVersion` is missing");
        };
        // One that we do not know is answered with our newest, and the client decides.
        self.version =
            VERSIONS.into_iter().find(|version| *version == asked).unwrap_or(VERSIONS[0]);
        let server = json!({ "name": "nanoclaw", "version": RUNNER_VERSION });
        let result = json!({
            "protocolVersion": self.version,
            "capabilities": { "tools": {} },
            "serverInfo": server,
            "instructions": INSTRUCTIONS,
        });
        success(id, &result)
    }

    fn cancel(&self, id: &Value) {
        for (_, call) in self.calls.iter().filter(|(of, _)| !id.is_null() && of == id) {
            call.is_cancelled.store(true, Ordering::Release);
        }
    }
}

enum Heard {
    Nothing,
    Answer(Value),
    Call(ToolCall),
}

/// One message, one line; whole, whichever thread speaks.
fn print(message: &Value) -> io::Result<()> {
    let mut line = message.to_string();
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

/// Reads on to the end of a line that is too long.
fn skip_line(input: &mut impl io::BufRead) -> io::Result<()> {
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(bytes.len(), |at| at + 1);
        input.consume(count);
        if end.is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
