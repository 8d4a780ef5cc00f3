//! A sandbox that writes one file: shows that there can be one, that the host sees what is written
//! inside, and whose it is.

use std::io;
use std::time::{Duration, Instant};

use rust_claw_protocol::{Input, PROTOCOL, env};

use crate::agent;
use crate::boundary::{Dir, Rejected};
use crate::config::Settings;
use crate::home::{Home, HomeError};
use crate::ids::GroupFolder;
use crate::sandbox::{
    Engine, Limits, Network, RunLog, SandboxEvent, SandboxSpec, SpawnError, mounts,
};
use crate::store::random_hex;

/// How long it may take.
const TRIAL_MAX: Duration = Duration::from_secs(20);
const FILE: &str = "written-inside";
const TEXT: &str = "yes";
/// Made in the home for one trial, and removed after it.
const FOLDER: &str = "trial";
/// What is in it; a sandbox could put no more there than its own script does.
const ENTRIES_MAX: usize = 1000;

/// Why the trial failed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// There is no place for it; this says nothing of the sandbox.
    #[error("the sandbox cannot be tried")]
    Prepare(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine would not make it.
    #[error("no sandbox can be made")]
    Spawn(#[from] SpawnError),
    /// It ended without having done its one thing.
    #[error("a sandbox wrote no file: {0}")]
    NotWritten(String),
    /// The file is somebody else's.
    #[error("what a sandbox writes belongs to user {owner}, and you are {wanted}")]
    NotOurs {
        /// Whose it is.
        owner: u32,
        /// Who we are.
        wanted: u32,
    },
    /// The file cannot be read.
    #[error("what a sandbox writes cannot be read")]
    Unreadable(#[source] Rejected),
}

fn unprepared(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TrialError {
    TrialError::Prepare(error.into())
}

/// Makes a sandbox as for an agent, without one: its script writes a file and ends.
///
/// To be called by a thread that outlives the sandbox.
///
/// # Errors
/// [`TrialError`].
pub fn trial(engine: &Engine, home: &Home, settings: &Settings) -> Result<(), TrialError> {
    let name = format!("{FOLDER}-{}", random_hex::<4>());
    // In a home that is only half made there is no such folder yet.
    home.create().map_err(unprepared)?;
    let data = home.root().join("data");
    let dir = Dir::open(&data).map_err(unprepared)?;
    let place = Home::at(&data.join(&name));
    let tried = try_in(engine, &place, settings);
    match dir.remove_tree(&name, ENTRIES_MAX) {
        Err(rejected) if tried.is_ok() => Err(TrialError::Unreadable(rejected)),
        _ => tried,
    }
}

fn try_in(engine: &Engine, place: &Home, settings: &Settings) -> Result<(), TrialError> {
    let folder = GroupFolder::main();
    let prepare = || -> Result<_, HomeError> {
        place.create()?;
        place.create_group_folders(&folder, "trial", "trial", true)?;
        place.write_shared_files()
    };
    prepare().map_err(unprepared)?;
    let paths = place.group_paths(&folder);
    let text = |text: &str| text.to_owned();
    let spec = SandboxSpec {
        name: format!("rust-claw-trial-{}", random_hex::<4>()),
        home_label: place.label(),
        folder: folder.clone(),
        mounts: mounts::mounts(&paths, true, []),
        env: vec![(text(env::ENGINE), text("demo"))],
        limits: Limits::default(),
        network: Network::ProxyOnly,
        image: settings.container_image.clone(),
        program: agent::runner(settings),
        claude: None,
        identity: Some(place.identity()),
    };
    let input = Input {
        prompt: String::new(),
        session_id: None,
        group_folder: folder.to_string(),
        chat_jid: text("local:main"),
        is_main: true,
        is_scheduled_task: Some(true),
        secrets: None,
        assistant_name: None,
        timezone: None,
        protocol: Some(PROTOCOL),
        script: Some(format!("printf {TEXT} > {FILE} && echo '{{\"wakeAgent\":false}}'")),
    };
    let stdin = serde_json::to_vec(&input).expect("strings and flags always serialise");
    let complaint = run(engine, &spec, stdin, &RunLog::new(paths.logs), settings.output_bytes_max)?;
    let group = Dir::open(&paths.group).map_err(unprepared)?;
    let wanted = rustix::process::geteuid().as_raw();
    match group.owner(FILE) {
        Err(_) => Err(TrialError::NotWritten(complaint)),
        Ok(owner) if owner != wanted => Err(TrialError::NotOurs { owner, wanted }),
        Ok(_) => match group.read(FILE, TEXT.len() as u64) {
            Ok(read) if read == TEXT.as_bytes() => Ok(()),
            Ok(_) => Err(TrialError::NotWritten(complaint)),
            Err(rejected) => Err(TrialError::Unreadable(rejected)),
        },
    }
}

/// Waits for the end of the sandbox; gives what it complained about.
fn run(
    engine: &Engine,
    spec: &SandboxSpec,
    stdin: Vec<u8>,
    log: &RunLog,
    output_bytes_max: u64,
) -> Result<String, TrialError> {
    let mut running = engine.spawn(spec, stdin, log, output_bytes_max, || ())?;
    let deadline = Instant::now() + TRIAL_MAX;
    let mut said = String::new();
    loop {
        match running.events.recv_deadline(deadline) {
            Ok(SandboxEvent::Exited(ended)) if said.is_empty() && ended.complaint.is_empty() => {
                return Ok(format!("it ended with {}", ended.by));
            }
            Ok(SandboxEvent::Exited(ended)) if said.is_empty() => return Ok(ended.complaint),
            Ok(SandboxEvent::Exited(_)) => return Ok(said),
            Ok(SandboxEvent::Frame { output, .. }) => {
                said = output.error.map(|error| crate::ids::shown(&error)).unwrap_or_default();
            }
            Ok(_) => {}
            Err(_) => {
                running.stop(Duration::ZERO);
                return Ok(io::Error::from(io::ErrorKind::TimedOut).to_string());
            }
        }
    }
}
