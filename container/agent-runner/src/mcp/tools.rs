//! The tools: what the model is told of each, what it may say, and the request that it becomes.

use rust_claw_protocol::env;
use serde_json::{Map, Value, json};

/// What an argument may be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// At most so many bytes.
    Text(usize),
    Choice(&'static [&'static str]),
    Flag,
    Count(u64, u64),
}

/// An argument of a tool.
#[derive(Clone, Copy, Debug)]
struct Argument {
    name: &'static str,
    /// The field of the request.
    field: &'static str,
    kind: Kind,
    is_required: bool,
    /// Only main is told of it, and may use it.
    is_for_main: bool,
    about: &'static str,
}

/// A tool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// Where its requests are put.
    pub(super) folder: &'static str,
    /// The request's type.
    request: &'static str,
    is_for_main: bool,
    only_reads: bool,
    /// The field that is the chat of this conversation where the agent names none.
    chat_field: Option<&'static str>,
    about: &'static str,
    arguments: &'static [Argument],
}

const fn argument(
    name: &'static str,
    field: &'static str,
    kind: Kind,
    about: &'static str,
) -> Argument {
    Argument { name, field, kind, is_required: false, is_for_main: false, about }
}

const fn required(argument: Argument) -> Argument {
    Argument { is_required: true, ..argument }
}

const fn for_main(argument: Argument) -> Argument {
    Argument { is_for_main: true, ..argument }
}

const fn tool(name: &'static str, about: &'static str, arguments: &'static [Argument]) -> Tool {
    Tool {
        name,
        folder: "tasks",
        request: name,
        is_for_main: false,
        only_reads: false,
        chat_field: None,
        about,
        arguments,
    }
}

const fn reads(tool: Tool) -> Tool {
    Tool { only_reads: true, ..tool }
}

const fn of_main(tool: Tool) -> Tool {
    Tool { is_for_main: true, ..tool }
}

const TEXT_MAX: usize = 65_536;
const SCHEDULE_TYPES: &[&str] = &["cron", "interval", "once"];
const CONTEXT_MODES: &[&str] = &["isolated", "group"];

const TASK_ID: Argument = required(argument(
    "task_id",
    "taskId",
    Kind::Text(100),
    "id of the task, as list_tasks shows it; the beginning is enough where it is unique",
));
const SCHEDULE_TYPE: Argument = argument(
    "schedule_type",
    "schedule_type",
    Kind::Choice(SCHEDULE_TYPES),
    "cron: at certain times; interval: again and again; once: one time",
);
const SCHEDULE_VALUE: Argument = argument(
    "schedule_value",
    "schedule_value",
    Kind::Text(400),
    "cron: five fields, `minute hour day-of-month month day-of-week`, for example `0 9 * * 1-5`; \
     interval: `30m`, `2h`, `1d`, or milliseconds; once: `2030-01-31T09:00`. All of it is local \
     time; give no `Z` and no offset",
);
const PROMPT: Argument = argument(
    "prompt",
    "prompt",
    Kind::Text(TEXT_MAX),
    "what the agent is to do when the task runs. With context_mode `isolated` it knows nothing of \
     this conversation, so say all that it needs",
);
const CONTEXT_MODE: Argument = argument(
    "context_mode",
    "context_mode",
    Kind::Choice(CONTEXT_MODES),
    "isolated, the default: a conversation of its own each time. group: it continues this group's \
     conversation and knows what was said here",
);
const SCRIPT: Argument = argument(
    "script",
    "script",
    Kind::Text(TEXT_MAX),
    "optional shell script that runs first. Its last line must be {\"wakeAgent\": true or false, \
     \"data\": …}; on false the agent is not woken",
);
const TIMEZONE: Argument = argument(
    "timezone",
    "timezone",
    Kind::Text(100),
    "IANA zone of schedule_value, for example Europe/Berlin; default: the group's",
);

/// All of them. Descriptions may say `{TZ}`.
const TOOLS: [Tool; 14] = [
    Tool {
        folder: "messages",
        request: "message",
        chat_field: Some("chatJid"),
        ..tool(
            "send_message",
            "Sends a message to the chat at once, while you go on working: progress, or several \
             messages. Your final answer of this turn is delivered by itself, so do not send it \
             with this tool too. In a scheduled task likewise: what you answer at the end is sent. \
             Text between <internal> and </internal> is left out.",
            &[
                required(argument("text", "text", Kind::Text(TEXT_MAX), "the message")),
                argument(
                    "sender",
                    "sender",
                    Kind::Text(100),
                    "name or role to speak as, for example Researcher; default: the assistant's",
                ),
                for_main(argument(
                    "chat_jid",
                    "chatJid",
                    Kind::Text(255),
                    "another registered chat, as list_groups shows it; default: this chat",
                )),
            ],
        )
    },
    Tool {
        chat_field: Some("targetJid"),
        ..tool(
            "schedule_task",
            "Schedules a task: at its time an agent with the group's files and all tools does what \
             `prompt` says, and its final answer is sent to the chat. Times are local time in \
             {TZ}. Returns the task with its id and its next run; read that back to the user.",
            &[
                required(PROMPT),
                required(SCHEDULE_TYPE),
                required(SCHEDULE_VALUE),
                CONTEXT_MODE,
                TIMEZONE,
                SCRIPT,
                for_main(argument(
                    "target_group_jid",
                    "targetJid",
                    Kind::Text(255),
                    "chat of another group, whose agent is to do it; default: this chat",
                )),
            ],
        )
    },
    reads(tool(
        "list_tasks",
        "Lists the scheduled tasks as they are now, with ids and next runs: those of this group; \
         in main those of all groups.",
        &[],
    )),
    reads(tool(
        "get_task",
        "Shows one task and its last runs, with results and errors.",
        &[TASK_ID],
    )),
    tool(
        "update_task",
        "Changes a task; what you leave out stays. schedule_type and schedule_value go together. \
         Times are local time in {TZ}.",
        &[
            TASK_ID,
            PROMPT,
            SCHEDULE_TYPE,
            SCHEDULE_VALUE,
            CONTEXT_MODE,
            TIMEZONE,
            SCRIPT,
            argument(
                "target_jid",
                "targetJid",
                Kind::Text(255),
                "another chat of the same group for the result",
            ),
        ],
    ),
    tool("pause_task", "Pauses a task until it is resumed.", &[TASK_ID]),
    tool(
        "resume_task",
        "Resumes a paused task: it runs at its next time, not at once.",
        &[TASK_ID],
    ),
    tool("cancel_task", "Cancels a task for good.", &[TASK_ID]),
    tool(
        "run_task_now",
        "Runs a task once now, whatever its schedule says. It starts soon after, maybe when this \
         conversation rests; its answer is sent to its chat.",
        &[TASK_ID],
    ),
    reads(of_main(tool(
        "list_groups",
        "Lists the registered groups with their chats, and the chats that belong to no group yet.",
        &[],
    ))),
    of_main(tool(
        "register_group",
        "Lets the assistant answer in a chat: it gets a group with a folder, memory and sandbox of \
         its own. Only when the owner asks for it here. The address of the chat comes from \
         list_groups.",
        &[
            required(argument("jid", "jid", Kind::Text(255), "address of the chat")),
            required(argument("name", "name", Kind::Text(400), "name of the group")),
            required(argument(
                "folder",
                "folder",
                Kind::Text(64),
                "folder of the group: letters, digits, - and _, for example family-chat",
            )),
            argument(
                "trigger",
                "trigger",
                Kind::Text(400),
                "word that calls the assistant there, for example @Andy; default: its name",
            ),
            argument(
                "requires_trigger",
                "requiresTrigger",
                Kind::Flag,
                "false: it answers every message; default true",
            ),
            argument(
                "attach",
                "attach",
                Kind::Flag,
                "true: the folder's group exists, and the chat becomes a further one of it",
            ),
        ],
    )),
    of_main(tool(
        "unregister_group",
        "The assistant no longer answers in any chat of this group. Its files stay.",
        &[required(argument("folder", "folder", Kind::Text(64), "folder of the group"))],
    )),
    of_main(tool(
        "refresh_groups",
        "Asks the channels again for the names of their chats; list_groups shows what they told.",
        &[],
    )),
    reads(tool(
        "search_messages",
        "Searches what people wrote in this group's chats, newest first. Every word must occur; a \
         word also finds longer ones that begin with it.",
        &[
            required(argument("query", "query", Kind::Text(400), "words to look for")),
            argument("limit", "limit", Kind::Count(1, 50), "most messages to show; default 20"),
            for_main(argument(
                "group_folder",
                "folder",
                Kind::Text(64),
                "search in this group alone; default: all groups",
            )),
        ],
    )),
];

/// The tools of one conversation.
pub(super) struct Tools {
    is_main: bool,
    chat: Option<String>,
    timezone: String,
}

impl Tools {
    /// As the runner has told the CLI, and the CLI us.
    pub(super) fn from_env() -> Tools {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Tools {
            is_main: variable(env::IS_MAIN).is_some_and(|value| value == "1"),
            chat: variable(env::CHAT_JID),
            timezone: variable("TZ").unwrap_or_else(|| "UTC".to_owned()),
        }
    }

    #[cfg(test)]
    pub(super) fn new(is_main: bool) -> Tools {
        Tools { is_main, chat: Some("1@g.us".to_owned()), timezone: "Europe/Berlin".to_owned() }
    }

    /// The tool of this name, if there is one here.
    pub(super) fn find(&self, name: &str) -> Option<&'static Tool> {
        TOOLS.iter().find(|tool| tool.name == name && (self.is_main || !tool.is_for_main))
    }

    /// As `tools/list` shows them.
    pub(super) fn list(&self) -> Vec<Value> {
        TOOLS
            .iter()
            .filter(|tool| self.is_main || !tool.is_for_main)
            .map(|tool| {
                json!({
                    "name": tool.name,
                    "description": tool.about.replace("{TZ}", &self.timezone),
                    "inputSchema": self.schema(tool),
                    "annotations": { "readOnlyHint": tool.only_reads, "openWorldHint": false },
                })
            })
            .collect()
    }

    fn arguments(&self, tool: &Tool) -> impl Iterator<Item = &'static Argument> + use<> {
        let is_main = self.is_main;
        tool.arguments.iter().filter(move |argument| is_main || !argument.is_for_main)
    }

    fn schema(&self, tool: &Tool) -> Value {
        let mut properties = Map::new();
        for argument in self.arguments(tool) {
            let mut schema = match argument.kind {
                Kind::Text(_) => json!({ "type": "string" }),
                Kind::Choice(words) => json!({ "type": "string", "enum": words }),
                Kind::Flag => json!({ "type": "boolean" }),
                Kind::Count(min, max) => {
                    json!({ "type": "integer", "minimum": min, "maximum": max })
                }
            };
            schema["description"] = argument.about.into();
            properties.insert(argument.name.to_owned(), schema);
        }
        let required: Vec<&str> = self
            .arguments(tool)
            .filter(|argument| argument.is_required)
            .map(|argument| argument.name)
            .collect();
        json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    }

    /// The request for a call.
    ///
    /// # Errors
    /// What is wrong with the arguments, so that the model can mend it.
    pub(super) fn request(
        &self,
        tool: &Tool,
        arguments: &Value,
    ) -> Result<Map<String, Value>, String> {
        let nothing = Map::new();
        let given = match arguments {
            Value::Null => &nothing,
            Value::Object(given) => given,
            _ => return Err("`arguments` must be an object".to_owned()),
        };
        let mut request = Map::new();
        request.insert("type".to_owned(), tool.request.into());
        for argument in self.arguments(tool) {
            match given.get(argument.name).filter(|value| !value.is_null()) {
                Some(value) => {
                    check(argument, value)?;
                    request.insert(argument.field.to_owned(), value.clone());
                }
                None if argument.is_required => {
                    return Err(format!("`{}` is missing: {}", argument.name, argument.about));
                }
                None => {}
            }
        }
        let mut names = given.keys();
        let is_known = |name: &&String| self.arguments(tool).any(|known| known.name == **name);
        if let Some(unknown) = names.find(|name| !is_known(name)) {
            let known: Vec<&str> = self.arguments(tool).map(|known| known.name).collect();
            let unknown = unknown.escape_debug();
            return Err(format!("there is no argument `{unknown}`; known: {}", known.join(", ")));
        }
        if let (Some(field), Some(chat)) = (tool.chat_field, &self.chat) {
            request.entry(field).or_insert_with(|| chat.clone().into());
        }
        Ok(request)
    }
}

fn check(argument: &Argument, value: &Value) -> Result<(), String> {
    let name = argument.name;
    match (argument.kind, value) {
        (Kind::Text(_), Value::String(text)) if text.trim().is_empty() => {
            Err(format!("`{name}` is empty: {}", argument.about))
        }
        (Kind::Text(max), Value::String(text)) if max < text.len() => {
            Err(format!("`{name}` has {} bytes; at most {max} are allowed", text.len()))
        }
        (Kind::Text(_), Value::String(text)) if text.contains('\0') => {
            Err(format!("`{name}` has a NUL character; leave it out"))
        }
        (Kind::Text(_), Value::String(_)) | (Kind::Flag, Value::Bool(_)) => Ok(()),
        (Kind::Text(_), _) => Err(format!("`{name}` must be a string")),
        (Kind::Flag, _) => Err(format!("`{name}` must be true or false")),
        (Kind::Choice(words), Value::String(text)) if words.contains(&text.as_str()) => Ok(()),
        (Kind::Choice(words), _) => Err(format!("`{name}` must be one of {}", words.join(", "))),
        (Kind::Count(min, max), value) => {
            let is_within = value.as_u64().is_some_and(|number| (min..=max).contains(&number));
            let expected = || format!("`{name}` must be a whole number from {min} to {max}");
            if is_within { Ok(()) } else { Err(expected()) }
        }
    }
}
