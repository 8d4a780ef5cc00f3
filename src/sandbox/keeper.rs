//! The thread `engine`: finds the sandbox engine and keeps it tidy. It looks for one that is ready,
//! again and again with growing pauses, and says why there is none once, not each time; removes
//! what an earlier life of this home left running before anything starts; and every minute holds
//! what runs against what should, and clears away what is too old.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, after, bounded, select};

use super::{Engine, EngineError, Finding, RuntimeChoice, RuntimeKind};
use crate::agent::Shared;
use crate::config::Settings;
use crate::dispatcher::Word;
use crate::doorbell::Doorbell;
use crate::ids::UnixMs;
use crate::limits::{ENGINE_RETRY_FIRST, ENGINE_RETRY_MAX, RECONCILE_INTERVAL};
use crate::queue::Event;
use crate::retention::{self, Gone};
use crate::store::{self, Store};

/// Under this key `state` holds a JSON object `{"state":"looking"|"ready"|"down", …}` about the
/// engine, for `status`, `chat` and `ask`.
pub const STATE_KEY: &str = "engine";
/// Before the first answer.
pub const LOOKING: &str = r#"{"state":"looking"}"#;

/// The thread; dropped, it is told to end and joined.
pub struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread, which begins again where it fails: without it nothing would ever run. A
    /// word from `asked`: somebody found the engine gone, look again now.
    ///
    /// # Errors
    /// A thread that cannot be had.
    pub fn start(
        shared: &Arc<Shared>,
        words: Sender<Word>,
        asked: Receiver<()>,
    ) -> std::io::Result<Keeper> {
        let (stop, stopped) = bounded(0);
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let mut pause = ENGINE_RETRY_FIRST;
            loop {
                let attempt = || keep(&shared, &words, &asked, &stopped);
                let why = match catch_unwind(AssertUnwindSafe(attempt)) {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => crate::chain(&error),
                    Err(_) => "it panicked".to_owned(),
                };
                let seconds = pause.as_secs();
                log::error!("the watch over the sandbox engine begins again in {seconds} s: {why}");
                if matches!(wait(pause, &asked, &stopped), Woken::Stopped) {
                    return;
                }
                pause = (pause * 2).min(ENGINE_RETRY_MAX);
            }
        })?;
        Ok(Keeper { stop: Some(stop), thread: Some(thread) })
    }
}

impl Keeper {
    /// Tells the thread to end, without waiting for what it has begun.
    pub fn end(mut self) -> Option<JoinHandle<()>> {
        self.stop = None;
        self.thread.take()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the watch over the sandbox engine panicked");
        }
    }
}

/// What ended a wait.
enum Woken {
    /// Its time.
    Due,
    /// Somebody found the engine gone.
    Asked,
    /// The end.
    Stopped,
}

fn wait(pause: Duration, asked: &Receiver<()>, stopped: &Receiver<()>) -> Woken {
    select! {
        recv(stopped) -> _ => Woken::Stopped,
        recv(asked) -> word => if word.is_ok() { Woken::Asked } else { Woken::Stopped },
        recv(after(pause)) -> _ => Woken::Due,
    }
}

fn keep(
    shared: &Shared,
    words: &Sender<Word>,
    asked: &Receiver<()>,
    stopped: &Receiver<()>,
) -> Result<(), store::Error> {
    let mut store = Store::open(&shared.home.database())?;
    let mut pause = ENGINE_RETRY_FIRST;
    let mut said: Option<Finding> = None;
    loop {
        match find(&shared.settings, &shared.runner) {
            Ok(found) => {
                let (notes, engine) = (found.notes(), found.engine);
                remove_left_over(&engine, shared, &store);
                let kind = engine.kind();
                let state = serde_json::json!({
                    "state": "ready", "runtime": kind.as_str(), "notes": notes,
                });
                store.set_state(STATE_KEY, &state.to_string())?;
                log::info!("engine={kind} ready");
                for note in notes {
                    log::warn!("engine={kind} {note}");
                }
                if words.send(Word::Engine(Box::new(engine.clone()))).is_err() {
                    return Ok(());
                }
                Doorbell::ring(&shared.home);
                (pause, said) = (ENGINE_RETRY_FIRST, None);
                if !watch(&engine, shared, &mut store, asked, stopped) {
                    return Ok(());
                }
                if words.send(Event::EngineDown.into()).is_err() {
                    return Ok(());
                }
                continue;
            }
            Err(finding) => {
                if said.as_ref() != Some(&finding) {
                    log::error!("no sandbox to run agents in: {finding}");
                    let state = serde_json::json!({
                        "state": "down", "why": format!("{}: {}", finding.what, finding.why),
                        "mend": finding.mend,
                    });
                    store.set_state(STATE_KEY, &state.to_string())?;
                    Doorbell::ring(&shared.home);
                    said = Some(finding);
                }
            }
        }
        match wait(pause, asked, stopped) {
            Woken::Stopped => return Ok(()),
            Woken::Due => clear_away(shared, &mut store, stopped),
            Woken::Asked => {}
        }
        pause = (pause * 2).min(ENGINE_RETRY_MAX);
    }
}

/// An engine in which agents can run.
pub(crate) struct Found {
    pub(crate) engine: Engine,
    /// What is not as it should be, and serves nevertheless.
    pub(crate) findings: Vec<Finding>,
    /// Why those that would have come first are not taken.
    pub(crate) passed_over: Vec<Finding>,
}

impl Found {
    /// What a person should know of it.
    fn notes(&self) -> Vec<String> {
        let passed_over = self.passed_over.iter().map(|finding| format!("not used: {finding}"));
        let findings = self.findings.iter().map(ToString::to_string);
        let uncapped = self.engine.uncapped().iter().map(|what| format!("does not limit {what}"));
        passed_over.chain(findings).chain(uncapped).collect()
    }
}

/// The engine of the settings; with `auto`, the first in which an agent can run now. One that
/// answers but is not ready (no image) is named in a note, for it would have come first.
pub(crate) fn find(settings: &Settings, runner: &Path) -> Result<Found, Finding> {
    let ready = |engine: Engine, passed_over: Vec<Finding>| {
        let findings = engine.preflight(&settings.container_image, runner);
        match findings.iter().find(|finding| finding.blocks) {
            Some(blocking) => Err(blocking.clone()),
            None => Ok(Found { engine, findings, passed_over }),
        }
    };
    let cli = settings.container_cli.as_deref();
    if settings.container_runtime != RuntimeChoice::Auto || cli.is_some() {
        return ready(Engine::detect(settings.container_runtime, cli)?, Vec::new());
    }
    let mut not_ready: Vec<Finding> = Vec::new();
    for kind in RuntimeKind::ALL {
        let Ok(engine) = Engine::detect(RuntimeChoice::One(kind), None) else { continue };
        match ready(engine, not_ready.clone()) {
            Ok(found) => return Ok(found),
            Err(finding) => not_ready.push(finding),
        }
    }
    match not_ready.into_iter().next() {
        Some(finding) => Err(finding),
        None => match Engine::detect(RuntimeChoice::Auto, None) {
            Err(finding) => Err(finding),
            Ok(engine) => ready(engine, Vec::new()),
        },
    }
}

/// Looks after an engine that answers until it does not. Says whether it is to be looked for again;
/// else it is the end.
fn watch(
    engine: &Engine,
    shared: &Shared,
    store: &mut Store,
    asked: &Receiver<()>,
    stopped: &Receiver<()>,
) -> bool {
    loop {
        match wait(RECONCILE_INTERVAL, asked, stopped) {
            Woken::Stopped => return false,
            Woken::Asked => return true,
            Woken::Due => {
                if let Err(error) = reconcile(engine, shared, store) {
                    log::error!("engine={} {}", engine.kind(), crate::chain(&error));
                    return true;
                }
                clear_away(shared, store, stopped);
            }
        }
    }
}

/// Beside the engine, what is too old: here nobody waits.
fn clear_away(shared: &Shared, store: &mut Store, stopped: &Receiver<()>) {
    let is_stopped = || stopped.try_recv() == Err(TryRecvError::Disconnected);
    match retention::turn(&shared.home, &shared.settings, store, UnixMs::now(), is_stopped) {
        Ok(None | Some(Gone { logs: 0, transcripts: 0, rows: 0 })) => {}
        Ok(Some(Gone { logs, transcripts, rows })) => {
            log::info!("cleared away: logs={logs} transcripts={transcripts} rows={rows}");
        }
        Err(error) => log::error!("cannot clear away what is old: {}", crate::chain(&error)),
    }
}

/// Removes the containers of this home that no living run owns.
fn reconcile(engine: &Engine, shared: &Shared, store: &Store) -> Result<(), EngineError> {
    let label = shared.home.label();
    // First what is there, then what may be: a run that starts between the two is in the second.
    let there = engine.list_owned(&label)?;
    if there.is_empty() {
        return Ok(());
    }
    let alive: BTreeSet<String> = match store.alive_runs() {
        Ok(runs) => runs.into_iter().map(|run| run.container_name).collect(),
        Err(error) => {
            log::error!("cannot tell which containers are ours: {}", crate::chain(&error));
            return Ok(());
        }
    };
    for name in there.iter().filter(|name| !alive.contains(*name)) {
        log::warn!("container={name} belongs to no run; removing it");
        engine.remove(&label, name)?;
    }
    Ok(())
}

/// At a start no run lives yet: whatever is there was left by an earlier life.
fn remove_left_over(engine: &Engine, shared: &Shared, store: &Store) {
    if let Err(error) = reconcile(engine, shared, store) {
        log::error!("cannot clean up what an earlier run left: {}", crate::chain(&error));
    }
}
