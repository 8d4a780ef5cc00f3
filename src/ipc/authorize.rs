//! Who may do what. Pure, and all of it is [`authorize`].
//!
//! Who asks is known by the folder that the request lies in, by nothing that it says. Being main
//! is a column of the database that no request can name, so nobody makes a group main; the store
//! refuses folders and chats that are taken, to everybody.

use super::request::Request;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The owner's own group.
    Main,
    /// Any other group.
    Group,
    /// A folder without a group.
    Unregistered,
}

/// Whom a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The group that asks.
    Own,
    /// Another group.
    Other,
    /// No group: an address or a folder that is registered nowhere.
    Unregistered,
}

/// Whether the request may be done; if not, why, for the agent.
pub(super) fn authorize(
    request: &Request,
    asker: Asker,
    target: Target,
) -> Result<(), &'static str> {
    use Request::{
        CancelTask, GetTask, ListGroups, ListTasks, PauseTask, RefreshGroups, RegisterGroup,
        ResumeTask, RunTaskNow, ScheduleTask, SearchMessages, SendMessage, UnregisterGroup,
        UpdateTask,
    };
    match (request, asker, target) {
        (_, Asker::Unregistered, _) => Err("this folder belongs to no registered group"),

        (SendMessage { .. }, _, Target::Unregistered) => {
            Err("this chat belongs to no registered group, so nothing can be sent there")
        }
        (ScheduleTask(_), _, Target::Unregistered) => {
            Err("this chat belongs to no registered group, so no task can answer there")
        }
        (SearchMessages { .. }, _, Target::Unregistered) => Err("there is no such group"),

        (
            SendMessage { .. } | ScheduleTask(_) | SearchMessages { .. },
            Asker::Group,
            Target::Other,
        ) => Err("this is another group's; only the main group may do this"),

        // An id of another group's task is as unknown as one that does not exist.
        (
            UpdateTask { .. }
            | PauseTask { .. }
            | ResumeTask { .. }
            | CancelTask { .. }
            | RunTaskNow { .. }
            | GetTask { .. },
            Asker::Group,
            Target::Other | Target::Unregistered,
        ) => Err("there is no such task in this group"),

        (
            RegisterGroup(_) | UnregisterGroup { .. } | ListGroups | RefreshGroups,
            Asker::Group,
            _,
        ) => Err("only the main group may do this"),

        // What is left: what groups do with their own, and main with all.
        (
            SendMessage { .. }
            | ScheduleTask(_)
            | SearchMessages { .. }
            | UpdateTask { .. }
            | PauseTask { .. }
            | ResumeTask { .. }
            | CancelTask { .. }
            | RunTaskNow { .. }
            | GetTask { .. }
            | ListTasks
            | RegisterGroup(_)
            | UnregisterGroup { .. }
            | ListGroups
            | RefreshGroups,
            _,
            _,
        ) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{GroupFields, TaskFields};
    use super::*;
    use crate::ids::{ChatJid, GroupFolder};
    use crate::store::ContainerConfig;

    /// Every type of request.
    fn requests() -> Vec<Request> {
        let folder = GroupFolder::new("family").expect("a folder");
        let chat = ChatJid::new("1@g.us").expect("an address");
        let task = || "k3v9x2aa".to_owned();
        vec![
            Request::SendMessage { chat: chat.clone(), text: "x".to_owned(), sender: None },
            Request::ScheduleTask(TaskFields::default()),
            Request::SearchMessages { query: "x".to_owned(), folder: None, count_max: 1 },
            Request::UpdateTask { task: task(), change: TaskFields::default() },
            Request::PauseTask { task: task() },
            Request::ResumeTask { task: task() },
            Request::CancelTask { task: task() },
            Request::RunTaskNow { task: task() },
            Request::GetTask { task: task() },
            Request::ListTasks,
            Request::RegisterGroup(Box::new(GroupFields {
                jid: chat,
                name: "x".to_owned(),
                folder: folder.clone(),
                trigger: None,
                requires_trigger: true,
                attach: false,
                config: ContainerConfig::default(),
            })),
            Request::UnregisterGroup { folder },
            Request::ListGroups,
            Request::RefreshGroups,
        ]
    }

    #[test]
    fn h54_the_matrix() {
        // For main, another group, a folder without a group; each for own, other, unregistered.
        let matrix = [
            ("message", "yy- yn- nnn"),
            ("schedule_task", "yy- yn- nnn"),
            ("search_messages", "yy- yn- nnn"),
            ("update_task", "yyy ynn nnn"),
            ("pause_task", "yyy ynn nnn"),
            ("resume_task", "yyy ynn nnn"),
            ("cancel_task", "yyy ynn nnn"),
            ("run_task_now", "yyy ynn nnn"),
            ("get_task", "yyy ynn nnn"),
            ("list_tasks", "yyy yyy nnn"),
            ("register_group", "yyy nnn nnn"),
            ("unregister_group", "yyy nnn nnn"),
            ("list_groups", "yyy nnn nnn"),
            ("refresh_groups", "yyy nnn nnn"),
        ];
        let requests = requests();
        assert_eq!(matrix.len(), requests.len());
        for ((kind, row), request) in matrix.into_iter().zip(requests) {
            assert_eq!(kind, request.kind());
            let mut cells = row.chars().filter(|c| *c != ' ');
            for asker in [Asker::Main, Asker::Group, Asker::Unregistered] {
                for target in [Target::Own, Target::Other, Target::Unregistered] {
                    let is_allowed = cells.next() == Some('y');
                    let decided = authorize(&request, asker, target);
                    assert_eq!(is_allowed, decided.is_ok(), "{kind} {asker:?} {target:?}");
                }
            }
        }
    }
}
