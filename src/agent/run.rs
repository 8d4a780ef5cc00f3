//! One run, from the first look into the store to the outcome.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::live::Live;
use super::places::Place;
use super::prepare::{self, Prepared, Ready};
use super::{Job, Shared};
use crate::boundary::Rejected;
use crate::dispatcher::Word;
use crate::doorbell::{Doorbell, News};
use crate::home::HomeError;
use crate::ids::{self, GroupFolder, UnixMs};
use crate::queue::{Event, FailureKind, Outcome};
use crate::sandbox::SpawnError;
use crate::store::{self, RunState, TaskError};

/// Why a run could not be, or could not be followed to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The sandbox could not be started.
    #[error("cannot start the sandbox")]
    Spawn {
        /// Why not.
        source: SpawnError,
    },
    /// The group's folders are not as they should be.
    #[error("cannot prepare `{path}`")]
    Prepare {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: Rejected,
    },
    /// The home folder is not as it should be.
    #[error("cannot prepare the group's folders")]
    Home {
        /// Why not.
        #[from]
        source: HomeError,
    },
    /// The group of a task is gone.
    #[error("there is no group `{folder}` any more")]
    NoGroup {
        /// The group.
        folder: GroupFolder,
    },
    /// The task cannot be read.
    #[error("cannot read the task")]
    Task {
        /// Why not.
        #[from]
        source: TaskError,
    },
    /// The queue was told of a task that can have no row.
    #[error("cannot look for the task")]
    TaskId {
        /// What is wrong with its id.
        #[from]
        source: ids::Invalid,
    },
    /// The database refused.
    #[error("the database refused")]
    Store {
        /// Why.
        #[from]
        source: store::Error,
    },
}

/// A failure of no particular kind.
pub(super) fn failed(progress: bool, error: &str) -> Outcome {
    Outcome::Failed { progress, kind: FailureKind::Other, error: error.to_owned() }
}

/// Runs `job` to its end. Says how it ended and whether its chat still waits for an answer.
pub(super) fn run(
    shared: &Arc<Shared>,
    words: &Sender<Word>,
    job: &Job,
) -> Result<(Outcome, bool), Error> {
    loop {
        let Some((ready, place)) = get_ready(shared, words, job)? else { break };
        let Some(prepared) = prepare::prepare(shared, ready)? else { break };
        if let Some(ended) = live(shared, words, job, prepared, place)? {
            return Ok(ended);
        }
    }
    Ok((Outcome::NothingToDo, false))
}

/// Gets ready while others have the places, and waits for one. `None`: there is nothing to do any
/// more.
fn get_ready(
    shared: &Shared,
    words: &Sender<Word>,
    job: &Job,
) -> Result<Option<(Ready, Place)>, Error> {
    let begun = Instant::now();
    let Some(mut ready) = prepare::ready(shared, job)? else { return Ok(None) };
    let is_stale = Cell::new(false);
    let feed = || {
        is_stale.set(true);
        say(words, Event::Fed { run: job.run, idle: false });
    };
    let Some(place) = shared.places.take(&job.control, feed) else { return Ok(None) };
    if is_stale.get() || READY_MAX < begun.elapsed() {
        let Some(again) = prepare::ready(shared, job)? else { return Ok(None) };
        ready = again;
    }
    Ok(Some((ready, place)))
}

/// One sandbox from its start to its end. `None`: the same is to be asked again.
fn live(
    shared: &Arc<Shared>,
    words: &Sender<Word>,
    job: &Job,
    prepared: Prepared,
    place: Place,
) -> Result<Option<(Outcome, bool)>, Error> {
    let Prepared { asked, id, spec, stdin, log, input, token } = prepared;
    let output_bytes_max = shared.settings.output_bytes_max;
    let place = Arc::new(place);
    let free = Arc::clone(&place);
    let running = match job.engine.spawn(&spec, stdin, &log, output_bytes_max, move || free.free())
    {
        Ok(running) => running,
        Err(source) => {
            prepare::revoke(shared, token.as_ref());
            let error = crate::chain(&source);
            shared.store.lock().end_run(id, RunState::Failed, Some(&error), UnixMs::now())?;
            return Err(Error::Spawn { source });
        }
    };
    log::info!("run={id} group={} container={} started", job.group, spec.name);
    // Who shows that somebody types.
    Doorbell::tell(&shared.home, &[News::Run]);
    let mut live = Live::new(shared, words, job, &asked, id, input, token);
    match live.follow(running, &place) {
        Ok(end) => live.end(end),
        Err(error) => {
            prepare::revoke(shared, live.token.as_ref());
            let why = crate::chain(&error);
            shared.store.lock().end_run(id, RunState::Failed, Some(&why), UnixMs::now())?;
            Err(error)
        }
    }
}

/// The dispatcher hangs up only when all ends; then our own control channel says so too.
pub(super) fn say(words: &Sender<Word>, event: Event) {
    if words.send(event.into()).is_err() {
        log::debug!("nobody listens any more");
    }
}

/// What was made ready longer ago than this is made ready again, so that the agent reads how things
/// stand. Messages that come in between reach it as follow-ups.
const READY_MAX: Duration = Duration::from_secs(1);
