//! A model API on loopback that answers by script, so that the real Claude Code CLI (and whatever
//! stands between, such as the credential proxy) can be driven with no account.
//!
//! What to answer comes from the newest text of the user in a request, see [`script`]; what was
//! asked is kept line by line as JSON, so that a test can say what the model was told.

mod reply;
pub mod script;
mod wire;

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use script::{Rule, Rules};

/// How a [`ModelApi`] is started.
#[derive(Debug, Default)]
pub struct Options {
    /// Port on loopback; 0 takes a free one.
    pub port: u16,
    /// Answers that come before what a text itself asks for.
    pub rules: Rules,
    /// File that each request is appended to, one JSON object a line.
    pub log: Option<PathBuf>,
    /// The only keys that are let in (`x-api-key` or `authorization: Bearer`); all, where empty.
    pub keys: Vec<String>,
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct ModelApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

/// What the connections share. Locks and not messages, because a test asks while they are served.
#[derive(Debug)]
struct Shared {
    options: Options,
    /// Requests so far, oldest first.
    requests: Mutex<Vec<Value>>,
    log: Mutex<Option<File>>,
    attempts: script::Attempts,
    streams: Mutex<Vec<TcpStream>>,
    next_message: AtomicU64,
    stopping: AtomicBool,
    started: Instant,
}

impl ModelApi {
    /// Listens on loopback and serves until dropped.
    ///
    /// # Errors
    /// The port is taken, or the log cannot be opened.
    pub fn start(options: Options) -> io::Result<ModelApi> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let address = listener.local_addr()?;
        let log = match &options.log {
            Some(path) => Some(File::options().create(true).append(true).open(path)?),
            None => None,
        };
        let shared = Arc::new(Shared {
            options,
            requests: Mutex::default(),
            log: Mutex::new(log),
            attempts: script::Attempts::default(),
            streams: Mutex::default(),
            next_message: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            started: Instant::now(),
        });
        let listener = std::thread::Builder::new().name("model-api".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(ModelApi { address, shared, listener: Some(listener) })
    }

    /// Base address, for `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, oldest first: `method`, `path`, `headers`, `body`, `at_ms`.
    pub fn requests(&self) -> Vec<Value> {
        lock(&self.shared.requests).clone()
    }

    /// Bodies of the requests for a message so far, oldest first.
    pub fn prompts(&self) -> Vec<Value> {
        let requests = lock(&self.shared.requests);
        let messages = requests.iter().filter(|request| {
            request["path"].as_str().is_some_and(|path| wire::route(path) == "/v1/messages")
        });
        messages.map(|request| request["body"].clone()).collect()
    }

    /// Waits until a request for a message satisfies `wanted`.
    ///
    /// # Panics
    /// Where none does within 30 s.
    pub fn wait_for_prompt(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(found) = self.prompts().into_iter().find(|body| wanted(body)) {
                return found;
            }
            assert!(Instant::now() < deadline, "the expected request did not come in 30 s");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for ModelApi {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The connection does nothing but wake the listener; where it fails, nobody listens.
        drop(TcpStream::connect(self.address));
        for stream in lock(&self.shared.streams).drain(..) {
            if stream.shutdown(Shutdown::Both).is_err() {
                // The other side was faster.
            }
        }
        if let Some(thread) = self.listener.take()
            && thread.join().is_err()
        {
            // It has said its panic on stderr; a second one here would end the test run.
        }
    }
}

/// The content of a lock, also where a thread died with it: requests are only ever added whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if let Ok(copy) = stream.try_clone() {
            lock(&shared.streams).push(copy);
        }
        let shared = Arc::clone(shared);
        // Not joined: it ends with its connection, and `drop` cuts those.
        let spawned =
            std::thread::Builder::new().name("model-api-conn".to_owned()).spawn(move || {
                if serve(&stream, &shared).is_err() {
                    // The client went away, or `CUT` was asked for.
                }
            });
        if spawned.is_err() {
            return;
        }
    }
}

/// Serves one connection until it ends.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut connection = wire::Connection::new(stream)?;
    while let Some(request) = connection.read()? {
        shared.record(&request)?;
        let allowed = shared.options.keys.is_empty()
            || request.key().is_some_and(|key| shared.options.keys.contains(&key));
        if !allowed {
            connection.json(401, &reply::error(401, "invalid x-api-key"))?;
            continue;
        }
        match (request.method.as_str(), wire::route(&request.path)) {
            ("POST", "/v1/messages") => {
                let step = script::step(&request.body, &shared.options.rules, &shared.attempts);
                let id = shared.next_message.fetch_add(1, Ordering::Relaxed);
                reply::send(&mut connection, &request.body, &step, id)?;
            }
            ("POST", "/v1/messages/count_tokens") => {
                let bytes = request.body["messages"].to_string().len();
                connection.json(200, &json!({ "input_tokens": bytes / 4 }))?;
            }
            ("HEAD" | "GET", "/" | "/api/hello") => connection.json(200, &json!({}))?,
            ("GET", "/v1/models") => {
                connection.json(200, &json!({ "data": [], "has_more": false }))?;
            }
            _ => connection.json(404, &reply::error(404, "no such path in the fake model API"))?,
        }
    }
    Ok(())
}

impl Shared {
    fn record(&self, request: &wire::Request) -> io::Result<()> {
        let line = json!({
            "at_ms": u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "method": request.method,
            "path": request.path,
            "headers": request.headers,
            "body": request.body,
        });
        if let Some(log) = lock(&self.log).as_mut() {
            log.write_all(format!("{line}\n").as_bytes())?;
        }
        lock(&self.requests).push(line);
        Ok(())
    }
}
