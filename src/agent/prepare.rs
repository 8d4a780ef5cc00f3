//! What a run needs before its sandbox starts: what is asked, the folders, the mounts, the
//! environment, the first words on its standard input.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use rust_claw_protocol::{Input, PROTOCOL, Secrets, env, inside};

use super::run::Error;
use super::task::{self, Doing};
use super::{Job, Shared};
use crate::boundary::{Dir, Rejected};
use crate::config::{AgentEngine, CredentialsChoice};
use crate::credentials::{self, RunUsage, Token};
use crate::home::Home;
use crate::ids::{ChatJid, RunId, Seq, UnixMs};
use crate::ipc::Snapshot;
use crate::queue::Work;
use crate::routing::prompt::{PromptMessage, prompt};
use crate::sandbox::allowlist::Allowlist;
use crate::sandbox::mounts::{self, Allowed, Policy, Refused};
use crate::sandbox::{Limits, Mount, Network, RunLog, SandboxSpec};
use crate::store::{self, AdditionalMount, Batch, Group, NewRun, RunKind, Store};

/// What a run is to answer.
pub(super) struct Asked {
    pub(super) group: Group,
    pub(super) chat: ChatJid,
    pub(super) prompt: String,
    /// The messages in `prompt` reach up to here; `None` for a task.
    pub(super) last_seq: Option<Seq>,
    pub(super) session: Option<String>,
    /// The group's own bound of one turn.
    pub(super) turn_max: Option<Duration>,
    pub(super) zone: Tz,
    /// The task that asks, where no person does.
    pub(super) task: Option<Doing>,
}

/// Everything for the start of a sandbox.
pub(super) struct Prepared {
    pub(super) asked: Asked,
    pub(super) id: RunId,
    pub(super) spec: SandboxSpec,
    pub(super) stdin: Vec<u8>,
    pub(super) log: RunLog,
    pub(super) input: Dir,
    pub(super) token: Option<Token>,
}

/// What can be had before the sandbox has its place.
pub(super) struct Ready {
    pub(super) asked: Asked,
    input: Dir,
    mounts: Vec<Mount>,
}

/// Looks up what the job is to answer, and makes the group's folders and the files in them. `None`
/// when there is nothing to answer any more.
pub(super) fn ready(shared: &Shared, job: &Job) -> Result<Option<Ready>, Error> {
    let Shared { home, settings, .. } = shared;
    let Some(asked) = asked(shared, &shared.store.lock(), job)? else { return Ok(None) };
    let group = &asked.group;
    let folder = &group.folder;
    home.create_group_folders(folder, &group.name, &settings.assistant_name, group.is_main)?;
    let paths = home.group_paths(folder);
    let input = open(&paths.ipc, "input")?;
    clear_input(&input);
    let snapshot = Snapshot::new(&shared.store.lock(), group)?;
    if let Err(error) = snapshot.write(home, folder) {
        // The tools tell the same, and are never stale.
        log::warn!("group={folder} no snapshot: {}", crate::chain(&error));
    }
    let mounts = mounts::mounts(&paths, group.is_main, extra_mounts(shared, group));
    Ok(Some(Ready { asked, input, mounts }))
}

/// Looks up what the job is to answer; `None` when there is nothing any more.
fn asked(shared: &Shared, store: &Store, job: &Job) -> Result<Option<Asked>, Error> {
    let Some(group) = store.group(&job.group)? else {
        let Work::Task(_) = &job.work else { return Ok(None) };
        return Err(Error::NoGroup { folder: job.group.clone() });
    };
    let chat = match &job.work {
        Work::Chat(chat) => chat,
        Work::Task(due) => return task::asked(shared, store, job, due, group),
    };
    let Some(cursor) = store.cursor(chat)? else { return Ok(None) };
    if !store.has_waking_after(chat, cursor)? {
        return Ok(None);
    }
    let batch = store.unsettled(chat, None)?;
    let zone = group.config.zone().unwrap_or(shared.settings.timezone);
    Ok(Some(Asked {
        chat: chat.clone(),
        prompt: words(&batch, zone),
        last_seq: Some(batch.last_seq),
        session: store.session(&job.group)?,
        turn_max: group.config.timeout_ms.map(Duration::from_millis),
        zone,
        group,
        task: None,
    }))
}

impl Asked {
    /// Whom the run serves.
    pub(super) fn kind(&self) -> RunKind {
        if self.task.is_some() { RunKind::Task } else { RunKind::Chat }
    }

    /// The prompt of further messages of the chat.
    pub(super) fn words(&self, batch: &Batch) -> String {
        words(batch, self.zone)
    }
}

fn words(batch: &Batch, zone: Tz) -> String {
    let messages: Vec<PromptMessage<'_>> = batch
        .messages
        .iter()
        .map(|message| PromptMessage {
            sender_name: &message.sender_name,
            text: &message.text,
            sent_at: message.sent_at,
            wakes: message.wakes,
        })
        .collect();
    prompt(&messages, batch.left_out, UnixMs::now(), zone).text
}

/// Commits the row of the run, and puts together what the sandbox is started with. `None`: its task
/// was taken back in the last moment.
pub(super) fn prepare(shared: &Shared, ready: Ready) -> Result<Option<Prepared>, Error> {
    let Shared { home, settings, proxy, .. } = shared;
    let Ready { asked, input, mut mounts } = ready;
    let group = &asked.group;
    let folder = &group.folder;
    let new = NewRun {
        folder: folder.clone(),
        kind: asked.kind(),
        chat: asked.chat.clone(),
        task_id: asked.task.as_ref().map(|doing| doing.task.id.to_string()),
        container_name_prefix: format!("rust-claw-{folder}-{}", &home.label()[..6]),
    };
    let started = match &asked.task {
        Some(doing) => {
            shared.store.durably(|store| store.start_task_run(doing.claim, &new, UnixMs::now()))?
        }
        None => Some(shared.store.lock().start_run(&new, UnixMs::now())?),
    };
    let Some(id) = started else { return Ok(None) };
    crate::crash_point("run_started");
    let log = RunLog::new(home.group_logs(folder));
    let token = proxy.as_ref().map(|proxy| proxy.issue(&id.to_string()));
    if token.is_some() {
        let inside = PathBuf::from(inside::PROXY_DIR);
        mounts.push(Mount { host: home.proxy(), inside, writable: false });
    }
    let spec = SandboxSpec {
        name: new.container_name(id),
        home_label: home.label(),
        folder: folder.clone(),
        mounts,
        env: environment(shared, &asked),
        limits: limits(group),
        network: match group.config.network {
            Some(store::Network::ModelOnly) => Network::ProxyOnly,
            Some(store::Network::Full) | None => Network::Full,
        },
        image: settings.container_image.clone(),
        program: shared.runner.clone(),
        claude: shared.claude.clone(),
        identity: Some(home.identity()),
    };
    let runner_input = Input {
        prompt: asked.prompt.clone(),
        session_id: asked.session.clone(),
        group_folder: folder.to_string(),
        chat_jid: asked.chat.to_string(),
        is_main: group.is_main,
        is_scheduled_task: asked.task.is_some().then_some(true),
        secrets: Some(secrets(shared, token.as_ref())),
        assistant_name: Some(settings.assistant_name.clone()),
        timezone: Some(asked.zone.name().to_owned()),
        protocol: Some(PROTOCOL),
        script: asked.task.as_ref().and_then(|doing| doing.task.script.clone()),
    };
    log::debug!("run={id} prompt={}", asked.prompt);
    let stdin = serde_json::to_vec(&runner_input).expect("strings and flags always serialise");
    Ok(Some(Prepared { asked, id, spec, stdin, log, input, token }))
}

/// Removes what lies in a sandbox's input: left-overs of an earlier one are no messages of this
/// one. What they held is pending in the store.
pub(super) fn clear_input(input: &Dir) {
    let listed = input.list(INPUT_ENTRIES_MAX);
    let names = listed.into_iter().flat_map(|listing| listing.entries);
    // Folders are the sandbox's own doing. All are said in one line: it may have made thousands.
    let kept: Vec<Rejected> = names
        .filter_map(|entry| input.remove_tree(&entry.name, FOLDER_ENTRIES_MAX).err())
        .collect();
    if let Some(error) = kept.first() {
        log::warn!("cannot remove {} old follow-ups: {error}", kept.len());
    }
}

/// Ends the token of a run, with all that still uses it.
pub(super) fn revoke(shared: &Shared, token: Option<&Token>) -> RunUsage {
    match (&shared.proxy, token) {
        (Some(proxy), Some(token)) => proxy.revoke(token),
        _ => RunUsage::default(),
    }
}

/// Names that are read of a sandbox's input; the host writes a few dozen at most.
const INPUT_ENTRIES_MAX: usize = 10_000;
/// Likewise in a folder there, which is none of the host's.
const FOLDER_ENTRIES_MAX: usize = 10;

fn open(parent: &Path, name: &str) -> Result<Dir, Error> {
    let failed = rejected(parent);
    Dir::open(parent).and_then(|dir| dir.create_sub(name, 0o700)).map_err(failed)
}

fn rejected(path: &Path) -> impl FnOnce(Rejected) -> Error {
    let path = path.to_owned();
    |source| Error::Prepare { path, source }
}

/// The group's additional mounts that may be made; the rest is said.
fn extra_mounts(shared: &Shared, group: &Group) -> Vec<Mount> {
    let asked = &group.config.additional_mounts;
    let judged = judge_mounts(&shared.home, &shared.runner, asked, group.is_main);
    asked
        .iter()
        .zip(judged)
        .filter_map(|(asked, judged)| match judged {
            Ok(allowed) => Some(allowed.mount),
            Err(refused) => {
                let path = crate::ids::shown(&asked.host_path);
                log::warn!("group={} mount `{path}` refused: {refused}", group.folder);
                None
            }
        })
        .collect()
}

/// Holds additional mounts of a group against the allowlist, read now: one verdict for each.
pub fn judge_mounts(
    home: &Home,
    runner: &Path,
    asked: &[AdditionalMount],
    is_main: bool,
) -> Vec<Result<Allowed, Refused>> {
    if asked.is_empty() {
        return Vec::new();
    }
    let Some(user_home) = std::env::home_dir() else {
        let reason = "there are no additional mounts: the user has no home folder";
        return vec![Err(Refused { reason: reason.to_owned() }); asked.len()];
    };
    let mut protected = mounts::protected(home.root(), &user_home, Some(runner));
    let ours = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
    protected.extend(ours.as_deref().and_then(Path::parent).map(Path::to_owned));
    let policy = Policy {
        allowlist: &Allowlist::load(&user_home),
        user_home: &user_home,
        protected: &protected,
        is_main,
    };
    mounts::decide_all(asked, policy)
}

/// What the agent's processes see of our settings: no secrets.
fn environment(shared: &Shared, asked: &Asked) -> Vec<(String, String)> {
    let engine = match shared.settings.engine() {
        AgentEngine::Claude => "claude",
        AgentEngine::Demo => "demo",
    };
    [(env::ENGINE, engine), ("TZ", asked.zone.name()), ("CLAUDE_CONFIG_DIR", inside::CLAUDE_CONFIG)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn limits(group: &Group) -> Limits {
    let default = Limits::default();
    Limits {
        memory_mib: group.config.memory_mib.unwrap_or(default.memory_mib),
        cpus: group.config.cpus.unwrap_or(default.cpus),
        ..default
    }
}

/// The proxy's token; or, where the person wants it so, the key itself.
fn secrets(shared: &Shared, token: Option<&Token>) -> Secrets {
    let settings = &shared.settings;
    match (settings.credentials, token) {
        (CredentialsChoice::Proxy, Some(token)) => {
            Secrets { anthropic_api_key: Some(token.as_str().to_owned()), ..Secrets::default() }
        }
        (CredentialsChoice::Proxy, None) => Secrets::default(),
        (CredentialsChoice::Stdin, _) => Secrets {
            anthropic_base_url: settings.anthropic_base_url.clone(),
            ..credentials::stdin_secrets(settings.credential().as_ref())
        },
    }
}
