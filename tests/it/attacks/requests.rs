//! What the agent asks the host for. Who asks is known by the folder that the request lies in; what
//! the request says of itself counts for nothing.

use super::{Arena, EVIL, OTHER};
use crate::support::Kind;

impl Arena {
    /// The host's response to a request of the agent of `chat`; `folder` is `messages` or `tasks`.
    fn ask(&self, chat: &str, folder: &str, request: &str) -> String {
        let id = format!("r{}", request.len() + self.attack_count.get() * 100_000);
        let request = request.replacen('{', &format!("{{\"requestId\":\"{id}\","), 1);
        let script = format!(
            "sh\ncd /workspace/ipc && printf %s '{request}' >{folder}/.new && \
             mv {folder}/.new {folder}/{id}.json && \
             for i in $(seq 600); do test -e responses/{id}.json && break; sleep 0.05; done; \
             cat responses/{id}.json && rm -f responses/{id}.json"
        );
        let begun = self.begin(chat, &script);
        self.end(chat, begun)
    }

    fn refused(&self, chat: &str, folder: &str, request: &str) {
        let said = self.ask(chat, folder, request);
        assert!(said.contains("\"ok\":false"), "{request}: {said}");
    }
}

const BOSS: &str = "script:boss";

#[test]
fn h53_h54_requests_reach_no_further_than_their_folder_bwrap() {
    let arena = Arena::new(Kind::Bwrap);
    // It can ask: its own chat is served.
    let own = format!(r#"{{"type":"message","chatJid":"{EVIL}","text":"said by tool"}}"#);
    assert!(arena.ask(EVIL, "messages", &own).contains("\"ok\":true"));
    let groups = arena.home.texts("SELECT folder || is_main FROM groups ORDER BY folder");

    for chat in [OTHER, "local:main", BOSS, "script:stranger", "49151@s.whatsapp.net"] {
        for lie in ["", r#","groupFolder":"main","isMain":true"#, r#","sourceGroup":"main""#] {
            let request =
                format!(r#"{{"type":"message","chatJid":"{chat}","text":"forged"{lie}}}"#);
            arena.refused(EVIL, "messages", &request);
        }
        let task = format!(
            r#"{{"type":"schedule_task","prompt":"forged","schedule_type":"interval","schedule_value":"60000","targetJid":"{chat}","groupFolder":"main","isMain":true}}"#
        );
        arena.refused(EVIL, "tasks", &task);
    }
    for request in [
        r#"{"type":"register_group","jid":"script:new","name":"x","folder":"new"}"#,
        r#"{"type":"register_group","jid":"script:new","name":"x","folder":"main","isMain":true}"#,
        r#"{"type":"unregister_group","folder":"other"}"#,
        r#"{"type":"list_groups"}"#,
        r#"{"type":"refresh_groups"}"#,
        r#"{"type":"cancel_task","taskId":"../../../store/messages.db"}"#,
        r#"{"type":"get_task","taskId":"\u0027 OR 1=1 --"}"#,
        r#"{"type":"search_messages","query":"phrase","folder":"other"}"#,
        r#"{"type":"search_messages","query":"phrase","folder":"../other"}"#,
    ] {
        arena.refused(EVIL, "tasks", request);
    }
    // Nor can main's agent make what no agent may.
    for request in [
        r#"{"type":"register_group","jid":"script:new","name":"x","folder":"../../etc"}"#,
        r#"{"type":"register_group","jid":"script:new","name":"x","folder":"main"}"#,
        r#"{"type":"register_group","jid":"script:new","name":"x","folder":"MAIN"}"#,
        r#"{"type":"register_group","jid":"script:new","name":"x","folder":"global"}"#,
        r#"{"type":"register_group","jid":"script:new","name":"x","folder":"errors"}"#,
        r#"{"type":"register_group","jid":"script:other","name":"x","folder":"new"}"#,
        r#"{"type":"register_group","jid":"script:new","name":"x","folder":"new","containerConfig":{"memory":"900g"}}"#,
        r#"{"type":"register_group","jid":"script:new","name":"x","folder":"new","containerConfig":{"cpus":256}}"#,
        r#"{"type":"register_group","jid":"script:new","name":"x","folder":"new","containerConfig":{"network":"full"}}"#,
        r#"{"type":"unregister_group","folder":"main"}"#,
        r#"{"type":"message","chatJid":"49151@s.whatsapp.net","text":"forged"}"#,
    ] {
        arena.refused(BOSS, "tasks", request);
    }
    assert_eq!(groups, arena.home.texts("SELECT folder || is_main FROM groups ORDER BY folder"));
    assert_eq!(0, arena.home.number("SELECT count(*) FROM tasks"));
    assert_eq!(0, arena.home.number("SELECT count(*) FROM outbox WHERE text LIKE '%forged%'"));
    arena.is_served();
}

#[test]
fn h49_h50_names_in_requests_are_no_paths_bwrap() {
    let arena = Arena::new(Kind::Bwrap);
    let before = arena.sh("true");
    for id in ["../../../../store/x", "/tmp/x", "..", ".", "a/b", "a\\u0000b", ""] {
        let request = format!(r#"{{"requestId":"{id}","type":"list_tasks"}}"#);
        let said = arena.sh(&format!(
            "cd /workspace/ipc/tasks && printf %s '{request}' >.new && mv .new bad.json && \
             for i in $(seq 600); do test -e bad.json || break; sleep 0.05; done; ls"
        ));
        assert_eq!("[0]", said, "{id}: it is taken away");
    }
    assert_eq!(before, arena.sh("true"));
    for place in ["store/x.json", "store/x", "data/x.json", "data/ipc/x.json"] {
        assert!(!arena.home.at(place).exists(), "{place}");
    }
    arena.is_served();
}

#[test]
fn h58_a_group_that_is_cut_off_makes_no_group_that_is_not_bwrap() {
    let arena = Arena::new(Kind::Bwrap);
    arena.home.run(&["set-limits", "--group", "main", "--network", "model-only"]).ok();
    let request = r#"{"type":"register_group","jid":"script:new","name":"x","folder":"new"}"#;
    let said = arena.ask(BOSS, "tasks", request);
    assert!(said.contains("\"ok\":true"), "{said}");
    let config = arena.home.texts("SELECT container_config FROM groups WHERE folder = 'new'");
    assert_eq!(vec![r#"{"network":"model-only"}"#], config);
    arena.is_served();
}
