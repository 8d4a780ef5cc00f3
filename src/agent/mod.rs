//! One run: a prompt goes into a sandbox, turns come out. A worker of the pool takes a job, looks
//! into the store what is asked, starts the sandbox, and until it ends commits each answer
//! together with the move of the cursor past what it answers. What is not answered when the
//! sandbox ends is pending again, by that alone.

mod live;
pub mod notice;
mod places;
mod prepare;
mod progress;
mod run;
mod task;
mod verdict;

pub use places::Places;
pub use prepare::judge_mounts;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::config::Settings;
use crate::credentials::ProxyHandle;
use crate::dispatcher::Word;
use crate::home::{Home, HomeError};
use crate::ids::GroupFolder;
use crate::queue::{Event, RunKey, Work};
use crate::sandbox::{Engine, find_program};
use crate::store::SharedStore;

/// What the dispatcher hands to the pool.
#[derive(Debug)]
pub struct Job {
    /// The queue's name of the run.
    pub run: RunKey,
    /// Whose sandbox.
    pub group: GroupFolder,
    /// What to answer.
    pub work: Work,
    /// In what.
    pub engine: Engine,
    /// Words for the run while it lives; hung up: end at once.
    pub control: Receiver<Control>,
}

/// A word to a run that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Look into the store for more messages of your chat and hand them in.
    Feed,
    /// Ask the runner to finish.
    Close,
    /// End it now.
    Kill,
}

/// What all workers share; nothing in it changes while they live but the database.
pub struct Shared {
    /// The home folder.
    pub home: Home,
    /// The settings of this start.
    pub settings: Settings,
    /// The proxy that keeps the secrets outside, where it is in use.
    pub proxy: Option<ProxyHandle>,
    /// `claw-agent-runner` on the host.
    pub runner: PathBuf,
    /// The Claude Code CLI on the host, if there is one.
    pub claude: Option<PathBuf>,
    /// For the sandboxes that may live.
    pub places: Places,
    /// For all workers, and the dispatcher.
    pub(crate) store: SharedStore,
}

impl Shared {
    /// Looks around on the host, and writes the files that lie read-only in every sandbox.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn new(home: &Home, settings: Settings, store: SharedStore) -> Result<Shared, HomeError> {
        home.write_shared_files()?;
        let runner = runner(&settings);
        let claude = settings.claude_cli.clone().or_else(|| find_program("claude"));
        let places = Places::new(settings.concurrent_runs_max);
        Ok(Shared { home: home.clone(), settings, proxy: None, runner, claude, places, store })
    }
}

/// `claw-agent-runner` on the host.
pub fn runner(settings: &Settings) -> PathBuf {
    settings.runner.clone().unwrap_or_else(beside_us)
}

/// Where `make` and `make install` put the runner, seen from our own program.
fn beside_us() -> PathBuf {
    let ours = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let folder = ours.parent().unwrap_or(Path::new("/"));
    let places = ["../lib/rust-claw/claw-agent-runner", "claw-agent-runner"];
    let found = places.iter().map(|place| folder.join(place)).find(|path| path.is_file());
    let path = found.unwrap_or_else(|| folder.join(places[0]));
    path.canonicalize().unwrap_or(path)
}

/// Takes jobs until the dispatcher hangs up.
pub fn work(shared: &Arc<Shared>, jobs: &Receiver<Job>, words: &Sender<Word>) {
    for job in jobs {
        let key = job.run;
        let (outcome, pending) = run::run(shared, words, &job).unwrap_or_else(|error| {
            let error = crate::chain(&error);
            log::error!("run={key:?} {error}");
            if let Work::Task(task) = &job.work {
                task::failed(shared, task, &error);
            }
            (run::failed(false, &error), true)
        });
        if words.send(Event::RunEnded { run: key, outcome, pending }.into()).is_err() {
            return;
        }
    }
}
