//! Who may pass: the live tokens, what they used, and the connections that are open.
//!
//! Behind a lock and not a message, since a token must work when [`ProxyHandle::issue`] returns and
//! be dead when [`ProxyHandle::revoke`] returns. Nothing waits for a socket while it is held.

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ureq::Agent;
use ureq::http::{HeaderMap, header};

use super::upstream::Upstream;
use super::wire::{Fault, Stream};
use crate::limits::{PROXY_CONNECTIONS_MAX, PROXY_RUN_REQUESTS_MAX};

/// What a run may show the proxy instead of a credential. It dies with [`ProxyHandle::revoke`].
pub struct Token(String);

impl Token {
    fn new() -> Token {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the kernel's random numbers are there after boot");
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
        Token("claw-".chars().chain(digits).collect())
    }

    /// The text that goes into the sandbox, as its `ANTHROPIC_API_KEY`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// What a run used, as the model API counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunUsage {
    /// Requests that were passed on.
    pub request_count: u64,
    /// Tokens read by the model, without those of the cache.
    pub input_tokens: u64,
    /// Tokens written by the model.
    pub output_tokens: u64,
    /// Tokens read from the cache.
    pub cache_read_tokens: u64,
    /// Tokens written to the cache.
    pub cache_write_tokens: u64,
}

impl RunUsage {
    /// Adds `more`.
    pub fn add(&mut self, more: RunUsage) {
        for (sum, count) in [
            (&mut self.request_count, more.request_count),
            (&mut self.input_tokens, more.input_tokens),
            (&mut self.output_tokens, more.output_tokens),
            (&mut self.cache_read_tokens, more.cache_read_tokens),
            (&mut self.cache_write_tokens, more.cache_write_tokens),
        ] {
            *sum = sum.saturating_add(count);
        }
    }

    /// What was added since these were the counts of the same token.
    #[must_use]
    pub fn since(self, before: RunUsage) -> RunUsage {
        RunUsage {
            request_count: self.request_count.saturating_sub(before.request_count),
            input_tokens: self.input_tokens.saturating_sub(before.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(before.output_tokens),
            cache_read_tokens: self.cache_read_tokens.saturating_sub(before.cache_read_tokens),
            cache_write_tokens: self.cache_write_tokens.saturating_sub(before.cache_write_tokens),
        }
    }
}

/// Gives out tokens and takes them back, from any thread.
#[derive(Clone)]
pub struct ProxyHandle(pub(super) Arc<Registry>);

impl ProxyHandle {
    /// A token for a new run; `label` names it in the log.
    pub fn issue(&self, label: &str) -> Token {
        let token = Token::new();
        let mut state = self.0.lock();
        let number = state.next_number();
        state.runs.push(Run {
            number,
            token: token.0.clone(),
            label: label.into(),
            request_count: 0,
            usage: RunUsage::default(),
        });
        token
    }

    /// Ends a token: its connections are cut, upstream too, and no request passes with it again.
    /// Returns what it used; nothing for one that is not alive.
    pub fn revoke(&self, token: &Token) -> RunUsage {
        let mut state = self.0.lock();
        let Some(at) = state.find(&token.0) else { return RunUsage::default() };
        let run = state.runs.remove(at);
        for connection in state.connections.values_mut().filter(|it| it.run == Some(run.number)) {
            connection.cut();
        }
        run.usage
    }

    /// What a token used so far.
    pub fn usage(&self, token: &Token) -> RunUsage {
        let state = self.0.lock();
        state.find(&token.0).map_or_else(RunUsage::default, |at| state.runs[at].usage)
    }
}

/// The shared state.
pub(super) struct Registry {
    upstream: Upstream,
    state: Mutex<State>,
    /// Wakes the accepting thread.
    bell: UnixStream,
    /// Whether the last request did not reach the model API.
    is_cut_off: AtomicBool,
}

struct State {
    runs: Vec<Run>,
    connections: BTreeMap<u64, Connection>,
    last_number: u64,
    is_stopping: bool,
}

struct Run {
    number: u64,
    token: String,
    label: Arc<str>,
    /// Requests under way.
    request_count: usize,
    usage: RunUsage,
}

struct Connection {
    stream: Arc<Stream>,
    /// The client towards the model API, once there was a request.
    agent: Option<Agent>,
    /// Whose token it last showed.
    run: Option<u64>,
    /// Since when, in numbers, it waits for a request; nothing while it serves one.
    waits_since: Option<u64>,
    is_cut: bool,
}

impl Connection {
    /// Ends both directions of both sides; whoever waits on one of them is woken.
    fn cut(&mut self) {
        self.is_cut = true;
        // An error means that it is cut already.
        self.stream.shutdown(Shutdown::Both).unwrap_or_default();
        if let Some(agent) = &self.agent {
            agent.clone().shutdown();
        }
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Looks at every token and at all of each, so that the time says nothing about any.
    fn find(&self, shown: &str) -> Option<usize> {
        let mut found = None;
        for (at, run) in self.runs.iter().enumerate() {
            let pairs = run.token.bytes().zip(shown.bytes());
            let difference = pairs.fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
            if difference == 0 && run.token.len() == shown.len() {
                found = Some(at);
            }
        }
        found
    }
}

impl Registry {
    pub(super) fn new(upstream: Upstream, bell: UnixStream) -> Registry {
        let state = State {
            runs: Vec::new(),
            connections: BTreeMap::new(),
            last_number: 0,
            is_stopping: false,
        };
        Registry { upstream, state: Mutex::new(state), bell, is_cut_off: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No step under the lock leaves it half done, so what a panic left is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // A full pipe has a wake-up in it already.
        (&self.bell).write_all(&[0]).unwrap_or_default();
    }

    /// A connection was accepted.
    pub(super) fn open(&self, stream: Arc<Stream>) -> u64 {
        let mut state = self.lock();
        let id = state.next_number();
        let waits_since = Some(id);
        let connection = Connection { stream, agent: None, run: None, waits_since, is_cut: false };
        state.connections.insert(id, connection);
        id
    }

    /// Its thread is about to end.
    pub(super) fn close(&self, id: u64) {
        self.lock().connections.remove(&id);
        self.ring();
    }

    pub(super) fn is_open(&self, id: u64) -> bool {
        self.lock().connections.contains_key(&id)
    }

    /// Those that have not been cut.
    pub(super) fn uncut(&self) -> Vec<(u64, Arc<Stream>)> {
        let state = self.lock();
        let uncut = state.connections.iter().filter(|(_, it)| !it.is_cut);
        uncut.map(|(id, it)| (*id, it.stream.clone())).collect()
    }

    /// The sandbox hung up.
    pub(super) fn cut(&self, id: u64) {
        if let Some(connection) = self.lock().connections.get_mut(&id) {
            connection.cut();
        }
    }

    /// Ends the connection that can best be spared for a new one: one that never showed a token
    /// before one that did, then the one that waits longest for a request. A request under way is
    /// never ended for it.
    pub(super) fn evict(&self) {
        let mut state = self.lock();
        let waiting = state.connections.values_mut().filter(|it| it.waits_since.is_some());
        if let Some(spared) = waiting.min_by_key(|it| (it.run.is_some(), it.waits_since)) {
            spared.cut();
        }
    }

    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_stopping = true;
        state.connections.values_mut().for_each(Connection::cut);
        drop(state);
        self.ring();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }

    /// Logs that the model API cannot be reached, or can again: once, however often an agent asks.
    pub(super) fn note(&self, error: Option<&ureq::Error>) {
        let was_cut_off = self.is_cut_off.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_cut_off => log::warn!("the model API cannot be reached: {error}"),
            None if was_cut_off => log::info!("the model API is reached again"),
            _ => (),
        }
    }

    /// Lets a request in on connection `id`, if its headers show a live token.
    pub(super) fn admit(&self, id: u64, headers: &HeaderMap) -> Result<Permit<'_>, Fault> {
        let unauthorized = |reason| Fault::refused(401, "authentication_error", reason);
        let shown = shown(headers).ok_or_else(|| unauthorized("no token"))?;
        let mut guard = self.lock();
        let state = &mut *guard;
        let at = state.find(shown).ok_or_else(|| unauthorized("this token is not valid"))?;
        let run = &mut state.runs[at];
        if PROXY_RUN_REQUESTS_MAX <= run.request_count {
            let reason = "too many requests at a time";
            return Err(Fault::refused(429, "rate_limit_error", reason));
        }
        let connection =
            state.connections.get_mut(&id).filter(|it| !it.is_cut).ok_or(Fault::Gone)?;
        let agent = connection.agent.get_or_insert_with(|| self.upstream.agent()).clone();
        run.request_count += 1;
        run.usage.request_count += 1;
        connection.run = Some(run.number);
        connection.waits_since = None;
        let (run, label) = (run.number, run.label.clone());
        Ok(Permit { registry: self, id, run, label, upstream: &self.upstream, agent })
    }
}

/// The token of a request.
fn shown(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok();
    }
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// One request under way.
pub(super) struct Permit<'a> {
    registry: &'a Registry,
    id: u64,
    run: u64,
    pub(super) label: Arc<str>,
    pub(super) upstream: &'a Upstream,
    pub(super) agent: Agent,
}

impl Permit<'_> {
    /// Counts what the request used.
    pub(super) fn count(&self, usage: RunUsage) {
        if usage == RunUsage::default() {
            return;
        }
        if let Some(run) = self.registry.lock().runs.iter_mut().find(|run| run.number == self.run) {
            run.usage.add(usage);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        let now = state.next_number();
        if let Some(run) = state.runs.iter_mut().find(|run| run.number == self.run) {
            run.request_count -= 1;
        }
        if let Some(connection) = state.connections.get_mut(&self.id) {
            connection.waits_since = Some(now);
        }
        if PROXY_CONNECTIONS_MAX <= state.connections.len() {
            // Now there is one that can be spared.
            self.registry.ring();
        }
    }
}
