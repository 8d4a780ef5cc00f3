//! What a sandbox can ask for: `NanoClaw`'s shapes, and some of our own.

use super::fields::Fields;
use crate::ids::{ChatJid, GroupFolder, shown};
use crate::limits::{MESSAGE_BYTES_MAX, TASK_TEXT_BYTES_MAX};
use crate::store::{ContainerConfig, ContextMode};

/// Names a request, and the file of its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestId(String);

impl RequestId {
    fn new(text: &str) -> Result<RequestId, &'static str> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if fits { Ok(RequestId(text.to_owned())) } else { Err("1 to 64 letters, digits, `-`, `_`") }
    }

    /// The name of a file without `.json`, if it can be an id.
    pub(super) fn of_file(name: &str) -> Option<RequestId> {
        name.strip_suffix(".json").and_then(|stem| RequestId::new(stem).ok())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// When a task runs, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) kind: String,
    pub(super) value: String,
}

/// What is to be different about a task, or what a new one is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TaskFields {
    pub(super) chat: Option<ChatJid>,
    pub(super) prompt: Option<String>,
    pub(super) times: Option<Times>,
    pub(super) timezone: Option<String>,
    pub(super) context: Option<ContextMode>,
    pub(super) script: Option<String>,
}

/// A group that is to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GroupFields {
    pub(super) jid: ChatJid,
    pub(super) name: String,
    pub(super) folder: GroupFolder,
    pub(super) trigger: Option<String>,
    pub(super) requires_trigger: bool,
    pub(super) attach: bool,
    pub(super) config: ContainerConfig,
}

/// What a sandbox asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    SendMessage { chat: ChatJid, text: String, sender: Option<String> },
    ScheduleTask(TaskFields),
    UpdateTask { task: String, change: TaskFields },
    PauseTask { task: String },
    ResumeTask { task: String },
    CancelTask { task: String },
    RunTaskNow { task: String },
    GetTask { task: String },
    ListTasks,
    RegisterGroup(Box<GroupFields>),
    UnregisterGroup { folder: GroupFolder },
    ListGroups,
    RefreshGroups,
    SearchMessages { query: String, folder: Option<GroupFolder>, count_max: usize },
}

impl Request {
    /// The word in the field `type`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Request::SendMessage { .. } => "message",
            Request::ScheduleTask(_) => "schedule_task",
            Request::UpdateTask { .. } => "update_task",
            Request::PauseTask { .. } => "pause_task",
            Request::ResumeTask { .. } => "resume_task",
            Request::CancelTask { .. } => "cancel_task",
            Request::RunTaskNow { .. } => "run_task_now",
            Request::GetTask { .. } => "get_task",
            Request::ListTasks => "list_tasks",
            Request::RegisterGroup(_) => "register_group",
            Request::UnregisterGroup { .. } => "unregister_group",
            Request::ListGroups => "list_groups",
            Request::RefreshGroups => "refresh_groups",
            Request::SearchMessages { .. } => "search_messages",
        }
    }

    /// Whether it changes something, so that it must not be done twice.
    pub(super) fn is_change(&self) -> bool {
        !matches!(
            self,
            Request::GetTask { .. }
                | Request::ListTasks
                | Request::ListGroups
                | Request::SearchMessages { .. }
        )
    }
}

/// Reads a request. Its id is told even where the rest is of no use, so that whoever waits hears
/// of it; the error is a sentence for the agent.
pub(super) fn parse(bytes: &[u8]) -> (Option<RequestId>, Result<Request, String>) {
    let mut fields = match Fields::parse(bytes) {
        Ok(fields) => fields,
        Err(error) => return (None, Err(error)),
    };
    match fields.optional("requestId", 1024, RequestId::new) {
        Ok(id) => (id, read(fields)),
        Err(error) => (None, Err(error)),
    }
}

const NAME_BYTES_MAX: usize = 400;
const WORD_BYTES_MAX: usize = 100;

fn read(mut fields: Fields) -> Result<Request, String> {
    let kind = fields.text("type", 1..=WORD_BYTES_MAX)?;
    let request = match kind.as_str() {
        "message" => Request::SendMessage {
            chat: fields.chat("chatJid")?,
            text: fields.text("text", 1..=MESSAGE_BYTES_MAX)?,
            sender: fields.optional_text("sender", 1..=WORD_BYTES_MAX)?.filter(|s| is_line(s)),
        },
        "schedule_task" => {
            // NanoClaw's later runners choose an id; ours is in the response.
            fields.take("taskId");
            let asked = task_fields(&mut fields, "targetJid")?;
            if asked.prompt.is_none() {
                return Err("`prompt` is missing".to_owned());
            }
            if asked.times.is_none() {
                return Err("`schedule_type` and `schedule_value` are missing".to_owned());
            }
            Request::ScheduleTask(asked)
        }
        "update_task" => {
            let task = task(&mut fields)?;
            let change = task_fields(&mut fields, "targetJid")?;
            if change == TaskFields::default() {
                return Err("it names nothing to change".to_owned());
            }
            Request::UpdateTask { task, change }
        }
        "pause_task" => Request::PauseTask { task: task(&mut fields)? },
        "resume_task" => Request::ResumeTask { task: task(&mut fields)? },
        "cancel_task" => Request::CancelTask { task: task(&mut fields)? },
        "run_task_now" => Request::RunTaskNow { task: task(&mut fields)? },
        "get_task" => Request::GetTask { task: task(&mut fields)? },
        "list_tasks" => Request::ListTasks,
        "register_group" => Request::RegisterGroup(Box::new(group(&mut fields)?)),
        "unregister_group" => Request::UnregisterGroup { folder: fields.folder("folder")? },
        "list_groups" => Request::ListGroups,
        "refresh_groups" => Request::RefreshGroups,
        "search_messages" => Request::SearchMessages {
            query: fields.text("query", 1..=NAME_BYTES_MAX)?,
            folder: fields.optional_folder("folder")?,
            count_max: fields.count("limit", 1..=50, 20)?,
        },
        other => return Err(format!("there is no request of type `{}`", shown(other))),
    };
    fields.end()?;
    Ok(request)
}

/// What stands before a text must not look like a line of its own.
fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(char::is_control)
}

fn task(fields: &mut Fields) -> Result<String, String> {
    fields.text("taskId", 1..=WORD_BYTES_MAX)
}

fn task_fields(fields: &mut Fields, chat: &str) -> Result<TaskFields, String> {
    let kind = fields.optional_text("schedule_type", 1..=WORD_BYTES_MAX)?;
    let value = fields.optional_text("schedule_value", 1..=NAME_BYTES_MAX)?;
    let times = match (kind, value) {
        (Some(kind), Some(value)) => Some(Times { kind, value }),
        (None, None) => None,
        _ => return Err("`schedule_type` and `schedule_value` go together".to_owned()),
    };
    Ok(TaskFields {
        chat: fields.optional_chat(chat)?,
        prompt: fields.optional_text("prompt", 1..=TASK_TEXT_BYTES_MAX)?,
        times,
        timezone: fields.optional_text("timezone", 1..=WORD_BYTES_MAX)?,
        context: fields.optional("context_mode", WORD_BYTES_MAX, |mode| match mode {
            "group" => Ok(ContextMode::Group),
            "isolated" => Ok(ContextMode::Isolated),
            _ => Err("`group` and `isolated` are known"),
        })?,
        script: fields.optional_text("script", 1..=TASK_TEXT_BYTES_MAX)?,
    })
}

fn group(fields: &mut Fields) -> Result<GroupFields, String> {
    let config = fields.take("containerConfig").map(serde_json::from_value).transpose();
    let config: ContainerConfig =
        config.map_err(|error| format!("`containerConfig`: {error}"))?.unwrap_or_default();
    // Additional mounts are held against the allowlist; for these there is no such list.
    if config.memory_mib.is_some() || config.cpus.is_some() || config.network.is_some() {
        return Err("`containerConfig`: memory, cpus and network are a person's to set \
                    (`rust-claw set-limits`)"
            .to_owned());
    }
    let folder = fields.folder("folder")?;
    Ok(GroupFields {
        jid: fields.chat("jid")?,
        name: fields
            .optional_text("name", 1..=NAME_BYTES_MAX)?
            .unwrap_or_else(|| folder.to_string()),
        folder,
        trigger: fields.optional_text("trigger", 1..=NAME_BYTES_MAX)?,
        requires_trigger: fields.flag("requiresTrigger", true)?,
        attach: fields.flag("attach", false)?,
        config,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<Request, String> {
        parse(json.as_bytes()).1
    }

    fn refused(json: &str, reason: &str) {
        let error = read(json).expect_err(json);
        assert!(error.contains(reason), "{json}: {error}");
    }

    #[test]
    fn nanoclaws_own_requests_are_read() {
        for (json, kind) in [
            (
                r#"{"type":"message","chatJid":"1@g.us","text":"hi","groupFolder":"family","timestamp":"2026-02-19T10:00:00.000Z"}"#,
                "message",
            ),
            (
                r#"{"type":"message","chatJid":"1@g.us","text":"hi","sender":"Researcher","groupFolder":"f","timestamp":"x"}"#,
                "message",
            ),
            (
                r#"{"type":"schedule_task","prompt":"p","schedule_type":"cron","schedule_value":"0 9 * * *","context_mode":"group","targetJid":"1@g.us","createdBy":"f","timestamp":"x"}"#,
                "schedule_task",
            ),
            (
                r#"{"type":"schedule_task","taskId":"task-1","prompt":"p","schedule_type":"once","schedule_value":"2030-01-31T09:00:00","targetJid":"1@g.us","createdBy":"f","timestamp":"x"}"#,
                "schedule_task",
            ),
            (
                r#"{"type":"pause_task","taskId":"task-1-x","groupFolder":"f","isMain":false,"timestamp":"x"}"#,
                "pause_task",
            ),
            (
                r#"{"type":"resume_task","taskId":"task-1-x","groupFolder":"f","isMain":false,"timestamp":"x"}"#,
                "resume_task",
            ),
            (
                r#"{"type":"cancel_task","taskId":"task-1-x","groupFolder":"f","isMain":true,"timestamp":"x"}"#,
                "cancel_task",
            ),
            (
                r#"{"type":"update_task","taskId":"task-1-x","prompt":"q","groupFolder":"f","isMain":"true","timestamp":"x"}"#,
                "update_task",
            ),
            (r#"{"type":"refresh_groups","groupFolder":"main","timestamp":"x"}"#, "refresh_groups"),
            (
                r#"{"type":"register_group","jid":"1@g.us","name":"F","folder":"f","trigger":"@Andy","timestamp":"x"}"#,
                "register_group",
            ),
            (
                r#"{"type":"register_group","jid":"1@g.us","name":"F","folder":"f","trigger":"@Andy","requiresTrigger":false,"containerConfig":{"additionalMounts":[{"hostPath":"~/x"}],"timeout":60000}}"#,
                "register_group",
            ),
        ] {
            let request = read(json).unwrap_or_else(|error| panic!("{json}: {error}"));
            assert_eq!(kind, request.kind());
        }
    }

    #[test]
    fn a_refusal_names_its_field() {
        refused("", "it is not JSON");
        refused("[]", "a list, not a JSON object");
        refused("{}", "`type` is missing");
        refused(r#"{"type":"make_main"}"#, "no request of type `make_main`");
        refused(r#"{"type":"message","text":"x"}"#, "`chatJid` is missing");
        refused(r#"{"type":"message","chatJid":7,"text":"x"}"#, "`chatJid` is a number");
        refused(r#"{"type":"message","chatJid":"1@g.us","text":"a\u0000"}"#, "NUL");
        refused(r#"{"type":"message","chatJid":"1@g.us","text":""}"#, "`text` is empty");
        refused(
            r#"{"type":"message","chatJid":"1@g.us","text":"x","is_main":1}"#,
            "no field `is_main`",
        );
        refused(r#"{"type":"pause_task","requestId":"../x","taskId":"a"}"#, "`requestId`");
        refused(
            r#"{"type":"register_group","jid":"1@g.us","folder":"f","isMain":true,"is_main":true}"#,
            "`is_main`",
        );
        refused(r#"{"type":"register_group","jid":"1@g.us","folder":"../f"}"#, "folder `../f`");
        refused(
            r#"{"type":"register_group","jid":"1@g.us","folder":"f","containerConfig":{"x":1}}"#,
            "`containerConfig`",
        );
        refused(r#"{"type":"search_messages","query":"x","limit":51}"#, "from 1 to 50");
        refused(r#"{"type":"update_task","taskId":"a"}"#, "nothing to change");
        refused(r#"{"type":"update_task","taskId":"a","schedule_type":"cron"}"#, "go together");
        refused(&"[".repeat(10_000), "recursion limit");
    }

    #[test]
    fn the_id_is_told_of_a_request_that_is_of_no_use() {
        let (id, request) = parse(br#"{"type":"nonsense","requestId":"r-1"}"#);
        assert!(request.is_err());
        assert_eq!(Some("r-1"), id.as_ref().map(RequestId::as_str));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_request_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(reason) = parse(&bytes).1 {
                prop_assert!(!reason.is_empty());
            }
        }

        #[test]
        fn any_text_comes_through_or_is_refused(text in any::<String>()) {
            let json = serde_json::json!({"type": "message", "chatJid": "1@g.us", "text": text});
            match read(&json.to_string()) {
                Ok(Request::SendMessage { text: read, .. }) => prop_assert_eq!(text, read),
                other => prop_assert!(text.is_empty() || text.contains('\0'), "{:?}", other),
            }
        }
    }
}
