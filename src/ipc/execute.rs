//! Does what a sandbox asked for, as far as it may: looks up whom the request is about, has
//! [`authorize`] decide, and lets the store do the rest. What comes back is what happened.

use serde_json::{Value, json};

use super::authorize::{Asker, Target, authorize};
use super::request::{GroupFields, Request, TaskFields};
use super::{Ipc, Snapshot, show};
use crate::doorbell::Doorbell;
use crate::ids::{ChatJid, GroupFolder, UnixMs};
use crate::limits::{SEARCH_CATCH_UP_MAX, SEARCH_STEP_MAX};
use crate::store::{
    self, ContainerConfig, ContextMode, Group, NewGroup, NewTask, RegisterError, Registered, Task,
    TaskChange, TaskError,
};

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Failed {
    /// It must not or cannot be; the reason is for the agent.
    Refused(String),
    /// The database did not answer: nothing was done, and later it may be.
    Store(store::Error),
}

impl From<store::Error> for Failed {
    fn from(source: store::Error) -> Failed {
        Failed::Store(source)
    }
}

impl From<RegisterError> for Failed {
    fn from(error: RegisterError) -> Failed {
        match error {
            RegisterError::Store(source) => Failed::Store(source),
            RegisterError::FolderTaken { folder, name } => Failed::Refused(format!(
                "folder `{folder}` belongs to group `{name}` already; with `attach` the chat joins \
                 that group"
            )),
            refused => Failed::Refused(crate::chain(&refused)),
        }
    }
}

impl From<TaskError> for Failed {
    fn from(error: TaskError) -> Failed {
        match error {
            TaskError::Store(source) => Failed::Store(source),
            TaskError::NoSuchTask { id } => Failed::Refused(format!(
                "there is no task `{id}` in this group; list_tasks shows those that exist"
            )),
            TaskError::NoSuchGroup { folder } => {
                Failed::Refused(format!("there is no group with folder `{folder}`"))
            }
            TaskError::NotOfGroup { chat, folder } => {
                Failed::Refused(format!("chat `{chat}` is none of group `{folder}`"))
            }
            refused => Failed::Refused(crate::chain(&refused)),
        }
    }
}

/// What was changed, so that the snapshots of it are to be written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) tasks: bool,
    pub(super) groups: bool,
}

type Done = Result<Value, Failed>;

/// The group whose folder a request lies in.
pub(super) struct Requester<'a> {
    pub(super) folder: &'a GroupFolder,
    pub(super) group: Option<&'a Group>,
}

impl Requester<'_> {
    fn asker(&self) -> Asker {
        match self.group {
            None => Asker::Unregistered,
            Some(group) if group.is_main => Asker::Main,
            Some(_) => Asker::Group,
        }
    }

    fn target(&self, folder: Option<&GroupFolder>) -> Target {
        match folder {
            None => Target::Unregistered,
            Some(folder) if folder == self.folder => Target::Own,
            Some(_) => Target::Other,
        }
    }
}

impl Ipc {
    /// Whether the group may say something in the chat, and what exactly.
    pub(super) fn said(
        &self,
        from: &Requester<'_>,
        request: &Request,
        chat: &ChatJid,
        text: &str,
        sender: Option<&str>,
    ) -> Result<String, Failed> {
        permit(from, request, self.target_of_chat(from, chat)?)?;
        let settings = &self.shared.settings;
        let said = settings.words_for(chat, text, sender);
        let nothing = "there is nothing to send outside of `<internal>`";
        said.ok_or_else(|| Failed::Refused(nothing.to_owned()))
    }

    /// Does any other request.
    pub(super) fn execute(&mut self, from: &Requester<'_>, request: &Request, now: UnixMs) -> Done {
        match request {
            Request::SendMessage { .. } => unreachable!("messages are queued in batches"),
            Request::ScheduleTask(fields) => {
                let chat = fields.chat.clone().unwrap_or_else(|| ChatJid::local(from.folder));
                permit(from, request, self.target_of_chat(from, &chat)?)?;
                self.schedule_task(from, chat, fields.clone(), now)
            }
            Request::UpdateTask { task, change } => {
                let task = self.task(from, request, task)?;
                let zone = self.shared.settings.timezone;
                let change = task_change(change.clone());
                let task = self.store.update_task(&task.id, change, zone, now)?;
                Ok(self.changed_task(&task, now))
            }
            Request::PauseTask { task } => {
                let task = self.task(from, request, task)?;
                let task = self.store.pause_task(&task.id, now)?;
                Ok(self.changed_task(&task, now))
            }
            Request::ResumeTask { task } => {
                let task = self.task(from, request, task)?;
                let zone = self.shared.settings.timezone;
                let task = self.store.resume_task(&task.id, zone, now)?;
                Ok(self.changed_task(&task, now))
            }
            Request::CancelTask { task } => {
                let task = self.task(from, request, task)?;
                let task = self.store.cancel_task(&task.id, now)?;
                Ok(self.changed_task(&task, now))
            }
            Request::RunTaskNow { task } => {
                let task = self.task(from, request, task)?;
                let claim = self.store.claim_now(&task.id, now)?;
                self.changed.tasks = true;
                Ok(json!({ "task_id": task.id.as_str(), "task_run_id": claim.id.0,
                           "state": "queued: it starts when its sandbox can" }))
            }
            Request::GetTask { task } => {
                let task = self.task(from, request, task)?;
                let runs = self.store.task_history(&task.id, HISTORY_MAX)?;
                let mut shown = self.show_task(&task, now);
                let zone = self.zone(&task);
                shown["runs"] = runs.iter().map(|run| show::task_run(run, zone)).collect();
                Ok(shown)
            }
            Request::ListTasks => {
                permit(from, request, Target::Own)?;
                let (tasks, corrupt) = self.store.tasks(from.within())?;
                for row in corrupt {
                    log::error!("{row}");
                }
                let shown = tasks.iter().take(LIST_MAX).map(|task| self.list_task(task, now));
                let left_out = tasks.len().saturating_sub(LIST_MAX);
                Ok(json!({ "tasks": shown.collect::<Vec<_>>(), "left_out": left_out }))
            }
            Request::RegisterGroup(fields) => {
                permit(from, request, self.target_of_folder(from, &fields.folder)?)?;
                self.register_group(from, fields, now)
            }
            Request::UnregisterGroup { folder } => {
                permit(from, request, self.target_of_folder(from, folder)?)?;
                self.store.unregister_group(folder, now)?;
                self.changed = Changed { groups: true, tasks: true };
                Ok(json!({ "folder": folder.as_str(), "state": "unregistered; its files stay" }))
            }
            Request::ListGroups => {
                permit(from, request, Target::Own)?;
                self.list_groups()
            }
            Request::RefreshGroups => {
                permit(from, request, Target::Own)?;
                self.store.set_state("groups_refresh_asked_at_ms", &now.to_string())?;
                self.changed.groups = true;
                let chats = self.store.all_chats()?.len();
                let state = "asked for; the list is as good as what the channels have told so far";
                Ok(json!({ "chats": chats, "state": state }))
            }
            Request::SearchMessages { query, folder, count_max } => {
                let is_known = match folder {
                    Some(folder) => self.target_of_folder(from, folder)?,
                    None => Target::Own,
                };
                permit(from, request, is_known)?;
                self.search(from, query, folder.as_ref(), *count_max)
            }
        }
    }

    fn target_of_chat(&self, from: &Requester<'_>, chat: &ChatJid) -> Result<Target, Failed> {
        let group = self.store.group_of_chat(chat)?;
        Ok(from.target(group.as_ref().map(|group| &group.folder)))
    }

    fn target_of_folder(
        &self,
        from: &Requester<'_>,
        folder: &GroupFolder,
    ) -> Result<Target, Failed> {
        let group = self.store.group(folder)?;
        Ok(from.target(group.as_ref().map(|group| &group.folder)))
    }

    /// The one task that is meant, if the group may touch it.
    fn task(&self, from: &Requester<'_>, request: &Request, id: &str) -> Result<Task, Failed> {
        if from.asker() == Asker::Unregistered {
            permit(from, request, Target::Unregistered)?;
        }
        let found = self.store.task(id, from.within());
        if let Err(TaskError::NoSuchTask { .. }) = &found
            && from.within().is_some()
            && let Ok(other) = self.store.task(id, None)
        {
            permit(from, request, from.target(Some(&other.folder)))?;
        }
        let task = found?;
        permit(from, request, from.target(Some(&task.folder)))?;
        Ok(task)
    }

    fn schedule_task(
        &mut self,
        from: &Requester<'_>,
        chat: ChatJid,
        fields: TaskFields,
        now: UnixMs,
    ) -> Done {
        let group = self.store.group_of_chat(&chat)?;
        let folder = group.map_or_else(|| from.folder.clone(), |group| group.folder);
        let times = fields.times.expect("a request without is refused when it is read");
        let new = NewTask {
            folder,
            chat,
            prompt: fields.prompt.expect("a request without is refused when it is read"),
            script: fields.script,
            schedule_kind: times.kind,
            schedule_value: times.value,
            timezone: fields.timezone,
            context: fields.context.unwrap_or(ContextMode::Isolated),
            created_by: from.folder.to_string(),
        };
        let task = self.store.create_task(&new, self.shared.settings.timezone, now)?;
        Ok(self.changed_task(&task, now))
    }

    fn register_group(&mut self, from: &Requester<'_>, fields: &GroupFields, now: UnixMs) -> Done {
        // A group that is cut off makes none that is not.
        let network = from.group.and_then(|asker| asker.config.network);
        let new = NewGroup {
            jid: fields.jid.clone(),
            name: fields.name.clone(),
            folder: fields.folder.clone(),
            trigger_name: fields.trigger.clone(),
            requires_trigger: fields.requires_trigger,
            // Never on the word of a sandbox.
            is_main: false,
            attach: fields.attach,
            config: ContainerConfig { network, ..fields.config.clone() },
        };
        let registered = self.store.register_group(&new, now)?;
        self.changed.groups = true;
        let Some(group) = self.store.group(&fields.folder)? else {
            return Err(Failed::Refused("the group was removed at the same moment".to_owned()));
        };
        let (home, settings) = (&self.shared.home, &self.shared.settings);
        let name = &settings.assistant_name;
        if let Err(error) =
            home.create_group_folders(&group.folder, &group.name, name, group.is_main)
        {
            // Its first run tries again, and says so where it cannot.
            log::error!("group={} {}", group.folder, crate::chain(&error));
        }
        let trigger = if group.requires_trigger {
            format!("@{}", group.trigger_name.as_ref().unwrap_or(name))
        } else {
            "every message".to_owned()
        };
        let state = match registered {
            Registered::Created => "registered; messages there are answered from now on",
            Registered::Attached => "the chat joined the group",
        };
        Ok(json!({ "folder": group.folder.as_str(), "jid": fields.jid.as_str(),
                   "name": group.name, "trigger": trigger, "state": state }))
    }

    fn list_groups(&self) -> Done {
        let (groups, corrupt) = self.store.groups()?;
        for row in corrupt {
            log::error!("{row}");
        }
        let name = &self.shared.settings.assistant_name;
        let shown = groups.iter().take(LIST_MAX).map(|group| {
            let chats = self.store.chats_of_group(&group.folder)?;
            Ok(show::group(group, &chats, name))
        });
        let shown: Vec<Value> = shown.collect::<Result<_, store::Error>>()?;
        let chats = self.store.all_chats()?;
        let others = chats.iter().filter(|chat| chat.folder.is_none()).take(LIST_MAX);
        let zone = self.shared.settings.timezone;
        let others: Vec<Value> = others.map(|chat| show::chat(chat, zone)).collect();
        Ok(json!({ "groups": shown, "chats_without_a_group": others }))
    }

    fn search(
        &mut self,
        from: &Requester<'_>,
        query: &str,
        folder: Option<&GroupFolder>,
        count_max: usize,
    ) -> Done {
        let mut indexed = SEARCH_STEP_MAX;
        let mut left = SEARCH_CATCH_UP_MAX;
        while indexed == SEARCH_STEP_MAX && 0 < left {
            indexed = self.store.index_messages(SEARCH_STEP_MAX)?;
            left = left.saturating_sub(indexed);
        }
        let within = folder.or(from.within());
        let found = self.store.search(query, within, count_max)?;
        let found =
            found.ok_or_else(|| Failed::Refused("`query` has no word to look for".to_owned()))?;
        let zone = from.group.and_then(|group| group.config.zone());
        let zone = zone.unwrap_or(self.shared.settings.timezone);
        let messages: Vec<Value> =
            found.iter().map(|found| show::found(found, query, zone)).collect();
        let mut data = json!({ "messages": messages });
        if indexed == SEARCH_STEP_MAX {
            data["note"] = "the newest messages are not searchable yet; try again later".into();
        }
        Ok(data)
    }

    fn zone(&self, task: &Task) -> chrono_tz::Tz {
        task.zone_or(self.shared.settings.timezone)
    }

    fn show_task(&self, task: &Task, now: UnixMs) -> Value {
        show::task(task, self.zone(task), now)
    }

    fn list_task(&self, task: &Task, now: UnixMs) -> Value {
        let mut shown = self.show_task(task, now);
        show::shorten(&mut shown);
        shown
    }

    /// Its answer is remembered for a while: who asked knows the texts.
    fn changed_task(&mut self, task: &Task, now: UnixMs) -> Value {
        self.changed.tasks = true;
        self.list_task(task, now)
    }

    /// Tells whoever waits, and writes the snapshots of what was changed.
    pub(super) fn spread(&mut self, from: &GroupFolder) {
        let Changed { tasks, groups } = std::mem::take(&mut self.changed);
        if !tasks && !groups {
            return;
        }
        Doorbell::ring(&self.shared.home);
        let main = self.store.groups().map(|(groups, _)| groups.into_iter().find(|g| g.is_main));
        let asking = self.store.group(from);
        let affected = [main, asking].into_iter().filter_map(|group| match group {
            Ok(group) => group,
            Err(error) => {
                log::warn!("no snapshot: {}", crate::chain(&error));
                None
            }
        });
        let mut last = None;
        for group in affected {
            if last.as_ref() == Some(&group.folder) {
                continue;
            }
            let written = Snapshot::new(&self.store, &group)
                .map_err(|error| crate::chain(&error))
                .and_then(|snapshot| {
                    let written = snapshot.write(&self.shared.home, &group.folder);
                    written.map_err(|error| error.to_string())
                });
            if let Err(why) = written {
                log::warn!("group={} no snapshot: {why}", group.folder);
            }
            last = Some(group.folder);
        }
    }
}

impl Requester<'_> {
    /// What the asking group sees: all, or its own.
    fn within(&self) -> Option<&GroupFolder> {
        (self.asker() != Asker::Main).then_some(self.folder)
    }
}

/// Lets [`authorize`] decide; a refusal is logged.
fn permit(from: &Requester<'_>, request: &Request, target: Target) -> Result<(), Failed> {
    authorize(request, from.asker(), target).map_err(|reason| {
        log::warn!("group={} request={} refused: {reason}", from.folder, request.kind());
        Failed::Refused(reason.to_owned())
    })
}

/// Runs of a task that are shown.
const HISTORY_MAX: usize = 10;
/// Rows of a list that an agent can make use of.
pub(super) const LIST_MAX: usize = 500;

fn task_change(fields: TaskFields) -> TaskChange {
    TaskChange {
        chat: fields.chat,
        prompt: fields.prompt,
        script: fields.script.map(Some),
        schedule: fields.times.map(|times| (times.kind, times.value)),
        timezone: fields.timezone.map(Some),
        context: fields.context,
    }
}
