//! While a container waits, messages go into it as files.

use super::home;

#[test]
fn follow_ups_go_into_the_running_container() {
    let home = home();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "one");
    home.wait_answers(&chat, &["Andy: said: one"]);
    home.wait_runs("idle", 1);
    home.inject(&chat, "two <&\">");
    home.wait_answers(&chat, &["Andy: said: one", "Andy: said: two <&\">"]);
    assert_eq!(1, home.number("SELECT count(*) FROM runs"));
    // Its runner does not say which files it took; that they are gone says it.
    home.wait_runs("idle", 1);
    let open = "SELECT count(*) FROM group_chats gc JOIN messages m ON m.chat_jid = gc.jid
                WHERE m.seq > gc.cursor_seq";
    assert_eq!(0, home.number(open));
    assert_eq!(Some(0), daemon.stop());
}
