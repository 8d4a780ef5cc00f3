//! Which threads exist, in which order they start and stop. The same daemon serves `run` and, for
//! as long as they last, `chat`, `ask` and `run-task` where no other serves the home folder.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::agent::{self, Job, Shared, notice};
#[cfg(feature = "whatsapp")]
use crate::channel::whatsapp::WhatsApp;
use crate::config::{CredentialsChoice, Settings};
use crate::credentials::{self, Listen, Proxy, Upstream};
use crate::dispatcher::{Dispatcher, Word};
use crate::doorbell::{Doorbell, News, Waker};
use crate::home::{Home, HomeError, Lock};
use crate::ids::{GroupFolder, UnixMs};
use crate::import;
use crate::ipc::Ipc;
use crate::limits::{DISPATCH_EVENTS_MAX, KILL_GRACE, STOP_GRACE};
use crate::moving;
use crate::queue::{self, Event};
use crate::sandbox::keeper;
use crate::schedule::Scheduler;
use crate::store::{self, RegisterError, SharedStore, Store, TaskError};
use crate::threads::join_by;

/// Why the daemon cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The home folder is not usable.
    #[error("cannot use the home folder")]
    Home {
        /// Why.
        #[from]
        source: HomeError,
    },
    /// The database is not usable.
    #[error("cannot use the database")]
    Store {
        /// Why.
        #[from]
        source: store::Error,
    },
    /// The group `main` cannot be had.
    #[error("cannot set up the group `main`")]
    Main {
        /// Why.
        #[from]
        source: RegisterError,
    },
    /// What the last life of the program left of a task cannot be cleared away.
    #[error("cannot close what was left of the tasks")]
    Tasks {
        /// Why.
        #[from]
        source: TaskError,
    },
    /// The proxy for the model's API cannot listen.
    #[error("cannot start the credential proxy")]
    Proxy {
        /// Why.
        #[from]
        source: credentials::Error,
    },
    /// A move into the home folder was cut short and cannot be put right.
    #[error(transparent)]
    Moving {
        /// Why.
        #[from]
        source: moving::Error,
    },
    /// The operating system refused.
    #[error("cannot {doing}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A thread that all others need is gone.
    #[error("the thread `{name}` ended: {why}")]
    Thread {
        /// Which.
        name: String,
        /// Its error, or that it panicked.
        why: String,
    },
}

impl Fatal {
    /// For the service manager: 78 do not restart, 75 try again later, 70 our own bug.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Fatal::Home { .. }
            | Fatal::Store {
                source: store::Error::SchemaTooNew { .. } | store::Error::Foreign { .. },
            } => 78,
            Fatal::Store { .. }
            | Fatal::Main { .. }
            | Fatal::Tasks { .. }
            | Fatal::Proxy { .. }
            | Fatal::Moving { .. }
            | Fatal::System { .. } => 75,
            Fatal::Thread { .. } => 70,
        })
    }
}

/// What a daemon takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Everything: it stays.
    All,
    /// Messages. What is due of the tasks is left to a daemon that stays.
    Messages,
    /// The tasks that somebody claims while it lives, and nothing else.
    ClaimedTasks,
    /// `WhatsApp` alone, so that a phone can take it in.
    Pairing,
}

/// The end of a core thread.
struct Death {
    name: String,
    /// Why, if it was not its time.
    why: Option<String>,
}

/// A daemon that serves. Dropped, it kills what runs and leaves the rest to the next start.
pub struct Daemon {
    words: Option<Sender<Word>>,
    /// Hung up, the requests of agents are not served any more.
    requests: Option<Sender<()>>,
    deaths: Receiver<Death>,
    is_stopping: Arc<AtomicBool>,
    bells: Vec<Waker>,
    threads: Vec<JoinHandle<()>>,
    keeper: Option<keeper::Keeper>,
    #[cfg(feature = "whatsapp")]
    whatsapp: Option<WhatsApp>,
    // Dropped last: nobody else may serve this home before all the above is gone.
    _proxy: Option<Proxy>,
    _lock: Lock,
}

impl Daemon {
    /// Starts all threads. Returns when messages are seen; the sandbox engine may still be looked
    /// for.
    ///
    /// # Errors
    /// A home folder, database, socket or thread that cannot be had.
    pub fn start(home: &Home, settings: Settings, lock: Lock, duty: Duty) -> Result<Daemon, Fatal> {
        moving::recover(home)?;
        let mut store = Store::open(&home.database())?;
        let now = UnixMs::now();
        store.ensure_main_group(now)?;
        take_over_files(home, &mut store, &settings.assistant_name, now);
        let main = GroupFolder::main();
        home.create_group_folders(&main, "Main", &settings.assistant_name, true)?;
        let zone = settings.timezone;
        close_left_over(&mut store, now, zone)?;
        store.set_states(&[("daemon", &about(now)), (keeper::STATE_KEY, keeper::LOOKING)])?;

        let shared_store = SharedStore::new(Store::open(&home.database())?)?;
        let shared = Shared::new(home, settings, shared_store)?;
        let proxy = upstream(&shared.settings)?
            .map(|upstream| Proxy::start(&Listen::Unix(home.proxy()), upstream))
            .transpose()?;
        let settings = &shared.settings;
        let limits = queue::Limits::new(settings.concurrent_runs_max, settings.idle_timeout);
        let runs_max = limits.concurrent_max + limits.runs_ahead;
        let shared = Arc::new(Shared { proxy: proxy.as_ref().map(Proxy::handle), ..shared });

        let (words, heard) = bounded::<Word>(DISPATCH_EVENTS_MAX);
        let (jobs_in, jobs) = bounded::<Job>(runs_max);
        let (died, deaths) = bounded(runs_max + 8);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let mut daemon = Daemon {
            words: Some(words.clone()),
            requests: None,
            deaths,
            is_stopping: Arc::clone(&is_stopping),
            bells: Vec::new(),
            threads: Vec::new(),
            keeper: None,
            #[cfg(feature = "whatsapp")]
            whatsapp: None,
            _proxy: proxy,
            _lock: lock,
        };
        for number in 1..=runs_max {
            let (shared, jobs, words) = (Arc::clone(&shared), jobs.clone(), words.clone());
            daemon.spawn(format!("worker-{number}"), &died, move || {
                agent::work(&shared, &jobs, &words);
                Ok(())
            })?;
        }
        let (ask_engine, asked) = bounded(1);
        let dispatcher = Dispatcher::new(limits, jobs_in, Arc::clone(&shared), ask_engine);
        daemon.spawn("dispatcher".to_owned(), &died, move || {
            dispatcher.run(&heard);
            Ok(())
        })?;
        let (bell, db) = (daemon.hang_bell(home, News::TaskRun)?, Store::open(&home.database())?);
        let scheduler = match duty {
            Duty::All => Scheduler::new(db, bell, words.clone(), zone),
            Duty::Messages | Duty::ClaimedTasks | Duty::Pairing => {
                Scheduler::for_claims(db, bell, words.clone(), zone)?
            }
        };
        let stopping = Arc::clone(&is_stopping);
        daemon.spawn("scheduler".to_owned(), &died, move || {
            let stopped = || stopping.load(Ordering::Relaxed);
            scheduler.run(stopped).map_err(|error| crate::chain(&error))
        })?;
        if matches!(duty, Duty::All | Duty::Messages) {
            let (bell, to_dispatcher) = (daemon.hang_bell(home, News::Message)?, words.clone());
            daemon.spawn("poller".to_owned(), &died, move || {
                let stopped = || is_stopping.load(Ordering::Relaxed);
                crate::poller::run(&store, &bell, &to_dispatcher, stopped)
                    .map_err(|error| crate::chain(&error))
            })?;
        }
        let ipc = Ipc::new(Arc::clone(&shared), Store::open(&home.database())?)
            .map_err(|why| Fatal::Thread { name: "ipc".to_owned(), why })?;
        let (requests, hung_up) = bounded(0);
        daemon.requests = Some(requests);
        daemon.spawn("ipc".to_owned(), &died, move || {
            ipc.run(&hung_up);
            Ok(())
        })?;
        daemon.keeper = Some(
            keeper::Keeper::start(&shared, words, asked)
                .map_err(|source| Fatal::System { doing: "start a thread", source })?,
        );
        #[cfg(feature = "whatsapp")]
        if matches!(duty, Duty::All | Duty::Pairing) {
            let started = WhatsApp::start(home, &shared.settings);
            daemon.whatsapp =
                Some(started.map_err(|source| Fatal::System { doing: "start WhatsApp", source })?);
        }
        Ok(daemon)
    }

    /// Serves until `stop` speaks (first word: politely; second: at once) or a core thread dies.
    ///
    /// # Errors
    /// [`Fatal::Thread`].
    pub fn serve(mut self, stop: &Receiver<()>) -> Result<(), Fatal> {
        crossbeam_channel::select! {
            recv(self.deaths) -> death => return Err(fatal(death.ok())),
            // Hung up is a stop too: who gave the order is gone.
            recv(stop) -> _ => {}
        }
        self.stop(stop)
    }

    /// Asks every sandbox to finish, waits for them as long as [`STOP_GRACE`], ends the rest. What
    /// was not answered stays pending. A word from `at_once` cuts the waiting short.
    ///
    /// # Errors
    /// [`Fatal::Thread`].
    pub fn stop(&mut self, at_once: &Receiver<()>) -> Result<(), Fatal> {
        log::info!("stopping: no new work; up to {} s for turns to end", STOP_GRACE.as_secs());
        self.is_stopping.store(true, Ordering::Relaxed);
        for bell in &self.bells {
            bell.wake();
        }
        // It may have much to clear away; what it looks after is asked to end meanwhile.
        self.threads.extend(self.keeper.take().and_then(keeper::Keeper::end));
        self.say(Event::Stop);
        let mut at_once = at_once.clone();
        let mut deadline = crossbeam_channel::after(STOP_GRACE + 2 * KILL_GRACE);
        let outcome = loop {
            crossbeam_channel::select! {
                recv(self.deaths) -> death => match death {
                    Ok(Death { name, why: None }) if name == "dispatcher" => break Ok(()),
                    Ok(Death { why: None, .. }) => {}
                    other => break Err(fatal(other.ok())),
                },
                recv(at_once) -> word => {
                    at_once = crossbeam_channel::never();
                    if word.is_ok() {
                        log::warn!("stopping at once");
                        self.say(Event::StopNow);
                        deadline = crossbeam_channel::after(Duration::from_secs(1));
                    }
                }
                recv(deadline) -> _ => {
                    log::error!("not everything ended in time; the next start cleans up");
                    return Ok(());
                }
            }
        };
        // What was answered in this grace went out while it lasted; the rest does at the next start.
        #[cfg(feature = "whatsapp")]
        drop(self.whatsapp.take());
        self.words = None;
        // Only now: until its end an agent may ask for something.
        self.requests = None;
        let deadline = Instant::now() + KILL_GRACE;
        for thread in self.threads.drain(..) {
            join_by(thread, deadline);
        }
        outcome
    }

    fn hang_bell(&mut self, home: &Home, news: News) -> Result<Doorbell, Fatal> {
        let bell = Doorbell::of(home, &[news])
            .map_err(|source| Fatal::System { doing: "make a doorbell", source })?;
        self.bells.push(bell.waker());
        Ok(bell)
    }

    fn say(&self, event: Event) {
        if let Some(words) = &self.words
            && words.send(event.into()).is_err()
        {
            log::debug!("the dispatcher is gone already");
        }
    }

    fn spawn(
        &mut self,
        name: String,
        died: &Sender<Death>,
        body: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Result<(), Fatal> {
        let why = Some(PANICKED.to_owned());
        let guard = Guard { name: name.clone(), died: died.clone(), why };
        let thread = thread::Builder::new()
            .name(name)
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // The whole guard, or its end would be ours.
                let mut guard = guard;
                guard.why = body().err();
            })
            .map_err(|source| Fatal::System { doing: "start a thread", source })?;
        self.threads.push(thread);
        Ok(())
    }
}

/// Notes what the last life of the program left unfinished.
fn close_left_over(store: &mut Store, now: UnixMs, zone: chrono_tz::Tz) -> Result<(), Fatal> {
    let left_over = store.close_left_over_tasks(now, |task, status| {
        notice::task_left_over(task, status, now, zone)
    })?;
    for (task, status) in left_over {
        log::warn!("task={} group={} {}", task.id, task.folder, status.as_str());
    }
    for run in store.interrupt_left_over(now)? {
        log::warn!("run={} group={} was interrupted by the last end", run.id, run.folder);
    }
    Ok(())
}

/// Stack of a thread of ours: they call `SQLite` and the JSON parser, nothing deeper.
const STACK_BYTES: usize = 1024 * 1024;
const PANICKED: &str = "it panicked";

/// Tells the end of a thread however it comes.
struct Guard {
    name: String,
    died: Sender<Death>,
    why: Option<String>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let death = Death { name: std::mem::take(&mut self.name), why: self.why.take() };
        // There is room for every thread's one death; only a daemon that is gone does not hear it.
        self.died.try_send(death).ok();
    }
}

fn fatal(death: Option<Death>) -> Fatal {
    let death = death.unwrap_or(Death { name: "all".to_owned(), why: None });
    Fatal::Thread {
        name: death.name,
        why: death.why.unwrap_or_else(|| "it returned though nobody asked it to".to_owned()),
    }
}

/// What cannot be taken over stays where it is, and keeps nothing from being served.
fn take_over_files(home: &Home, store: &mut Store, assistant_name: &str, now: UnixMs) {
    match import::take_over_files(home, store, assistant_name, now) {
        Ok(None) => {}
        Ok(Some(report)) => {
            for line in report.lines {
                let (came, stayed) = (line.came, line.stayed);
                let why = line.why.join("; ");
                log::info!(
                    "taken over from data/*.json: {} came={came} stayed={stayed} {why}",
                    line.what
                );
            }
        }
        Err(error) => log::error!("files of NanoClaw in data/ stay: {}", crate::chain(&error)),
    }
}

/// Where the proxy leads, if there is a key and it is to stay outside.
fn upstream(settings: &Settings) -> Result<Option<Upstream>, credentials::Error> {
    let credential = match settings.credentials {
        CredentialsChoice::Proxy => settings.credential(),
        CredentialsChoice::Stdin => None,
    };
    let base_url = settings.anthropic_base_url.as_deref();
    credential.map(|key| Upstream::here(base_url, &key)).transpose()
}

/// What `status` shows of the daemon itself.
fn about(now: UnixMs) -> String {
    serde_json::json!({
        "pid": std::process::id(),
        "started_at_ms": now.0,
        "version": env!("CARGO_PKG_VERSION"),
    })
    .to_string()
}
