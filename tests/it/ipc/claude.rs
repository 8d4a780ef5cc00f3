//! Each tool as the real Claude Code CLI calls it, in a real sandbox; the model is a script.

use crate::support::{Home, Kind, Model};

struct World {
    api: Model,
    home: Home,
}

impl World {
    fn new(kind: Kind) -> World {
        let mut home = Home::with(kind);
        let api = Model::start(&mut home);
        home.set("AGENT_ENGINE", "claude");
        home.set("TZ", "Europe/Berlin");
        home.register("family");
        World { api, home }
    }

    /// Asks a group's agent, whose model calls these tools and then says `said`.
    fn ask(&self, group: &str, calls: &[(&str, &str)], said: &str) -> String {
        use std::fmt::Write as _;
        let mut program = String::new();
        for (tool, arguments) in calls {
            writeln!(program, "TOOL mcp__nanoclaw__{tool} {arguments}").expect("a string");
        }
        writeln!(program, "SAY {said}").expect("a string");
        self.home.run_with(&["ask", "--group", group], &program).ok()
    }

    /// What the model was told of the tools' results, last.
    fn told(&self) -> String {
        self.api.requests().last().expect("a request")["body"].to_string()
    }

    fn task_id(&self) -> String {
        self.home.texts("SELECT id FROM tasks ORDER BY created_at_ms DESC LIMIT 1").remove(0)
    }
}

fn all_tools(kind: Kind) {
    let world = World::new(kind);
    let home = &world.home;
    home.inject("script:family", "the cheese is in the fridge");
    let schedule =
        r#"{"prompt":"water the plants","schedule_type":"cron","schedule_value":"0 9 * * 1-5"}"#;
    assert_eq!(
        "done\n",
        world.ask(
            "family",
            &[
                ("send_message", r#"{"text":"a <internal>b</internal>word"}"#),
                ("schedule_task", schedule),
                ("list_tasks", "{}"),
                ("search_messages", r#"{"query":"cheese"}"#),
                ("list_groups", "{}"),
            ],
            "done"
        )
    );
    let told = world.told();
    assert_eq!(vec!["a word", "done"], home.answers("local:family"));
    let task = "SELECT folder || ' ' || chat_jid || ' ' || prompt || ' ' || schedule_value || ' '
                || context_mode || ' ' || created_by FROM tasks";
    assert_eq!(
        vec!["family local:family water the plants 0 9 * * 1-5 isolated family"],
        home.texts(task)
    );
    let id = world.task_id();
    for part in ["queued", id.as_str(), "Europe/Berlin", "in the fridge", "No such tool"] {
        assert!(told.contains(part), "`{part}`: {told}");
    }

    let one = format!("{{\"task_id\":\"{id}\"}}");
    let change = format!("{{\"task_id\":\"{id}\",\"prompt\":\"feed the cat\"}}");
    world.ask(
        "family",
        &[("get_task", &one), ("update_task", &change), ("pause_task", &one)],
        "ok",
    );
    assert_eq!(vec!["paused feed the cat"], home.texts("SELECT state || ' ' || prompt FROM tasks"));
    world.ask("family", &[("resume_task", &one), ("run_task_now", &one)], "ok");
    assert_eq!(vec!["active"], home.texts("SELECT state FROM tasks"));
    assert_eq!(vec!["hand"], home.texts("SELECT asked_by FROM task_runs"));
    world.ask("family", &[("cancel_task", &one), ("cancel_task", &one)], "ok");
    assert_eq!(vec!["cancelled"], home.texts("SELECT state FROM tasks"));
    assert!(world.told().contains("refused: "), "{}", world.told());

    world.ask(
        "main",
        &[
            ("refresh_groups", "{}"),
            ("list_groups", "{}"),
            ("register_group", r#"{"jid":"9@g.us","name":"Nine","folder":"nine"}"#),
            ("send_message", r#"{"text":"to all","chat_jid":"9@g.us"}"#),
            ("register_group", r#"{"jid":"8@g.us","name":"x","folder":"main"}"#),
        ],
        "ok",
    );
    let told = world.told();
    assert!(told.contains("script:family") && told.contains("belongs to group"), "{told}");
    assert_eq!(vec!["nine"], home.texts("SELECT folder FROM groups WHERE folder = 'nine'"));
    assert_eq!(vec!["Andy: to all"], home.answers("9@g.us"));
    world.ask("main", &[("unregister_group", r#"{"folder":"nine"}"#)], "ok");
    assert_eq!(0, home.number("SELECT count(*) FROM groups WHERE folder = 'nine'"));
}

#[test]
fn h10_h46_h47_h53_h55_bwrap_claude_cli_calls_every_tool() {
    all_tools(Kind::Bwrap);
}

#[test]
fn docker_claude_cli_calls_every_tool() {
    all_tools(Kind::Docker);
}

#[test]
fn h45_bwrap_claude_cli_says_by_tool_and_at_the_end_what_is_one_message() {
    let world = World::new(Kind::Bwrap);
    let chat = "local:family";
    world.home.register("other");
    world.ask("family", &[("send_message", r#"{"text":"same"}"#)], "same");
    assert_eq!(vec!["same"], world.home.answers(chat));
    // The next turn may say it again.
    world.ask("family", &[("send_message", r#"{"text":"first"}"#)], "same");
    assert_eq!(vec!["same", "first", "same"], world.home.answers(chat));
}

#[test]
fn h32_bwrap_claude_cli_sees_skills_with_folders_in_them() {
    let world = World::new(Kind::Bwrap);
    let command = "cat /home/node/.claude/skills/agent-browser/references/commands.md; \
                   touch /home/node/.claude/skills/x";
    let program = format!("TOOL Bash {{\"command\":\"{command}\"}}\nSAY read");
    assert_eq!("read\n", world.home.run_with(&["ask"], &program).ok());
    let told = world.told();
    assert!(told.contains("snapshot -i") && told.contains("Read-only file system"), "{told}");
    assert!(told.contains("whatsapp-formatting"), "the skills are told of");
}
