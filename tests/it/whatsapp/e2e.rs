//! From a phone to the model and back, with nothing of ours in between but the program: Baileys,
//! the daemon, bubblewrap, the Claude Code CLI. The model is a script, the server is ours.

use rust_claw_fake_whatsapp::Addressing;
use rust_claw_fake_whatsapp::friend::Friend;
use serde_json::json;

use super::World;
use crate::support::{Kind, Model, wait_for};

/// A linked home whose sandboxes run the real CLI.
fn real() -> (World, Model) {
    let mut world = World::linked(Kind::Bwrap);
    let model = Model::start(&mut world.home);
    (world, model)
}

/// Says `text` in `chat`, and expects typing and then `answer` where the friend sees the chat as
/// `seen_as`.
pub(super) fn check(friend: &mut Friend, chat: &str, seen_as: &str, text: &str, answer: &str) {
    let id = friend.send(chat, text);
    let typing = friend.next("that it types", |event| {
        event["event"] == "typing" || event["event"] == "message" && event["text"].is_string()
    });
    assert_eq!(
        (json!("typing"), json!("composing")),
        (typing["event"].clone(), typing["state"].clone())
    );
    assert_eq!(json!(seen_as), typing["chat"]);
    assert_eq!(answer, friend.text_in(seen_as));
    friend.find("our message was delivered", |event| {
        event["event"] == "receipt" && event["ids"][0] == id
    });
    // That may overtake the answer, which waits for its turn to go out.
    wait_for("that it stopped typing", || {
        let seen = friend.seen();
        seen.iter()
            .rfind(|event| event["event"] == "typing")
            .is_some_and(|last| last["state"] == "paused")
    });
}

fn check_group(addressing: Addressing) {
    let (world, model) = real();
    let group = world.group(addressing);
    let mut friend = world.friend();
    let daemon = world.start();
    check(&mut friend, &group, &group, "@Andy\nSAY Soup.", "Andy: Soup.");
    // Without its name it listens, and remembers.
    friend.send(&group, "I take the soup");
    check(
        &mut friend,
        &group,
        &group,
        "@Andy and now?\nSLOW 300\nSAY Bread and butter.",
        "Andy: Bread and butter.",
    );
    let told = model.requests().pop().expect("requests")["body"]["messages"].to_string();
    assert!(told.contains("I take the soup") && told.contains("Ada"), "{told}");
    assert_eq!(2, friend.texts().len(), "{:?}", friend.texts());
    assert_eq!(Vec::<String>::new(), friend.unread());
    wait_for("that both are known to have arrived", || {
        world.home.number("SELECT count(*) FROM outbox WHERE state = 'sent'") == 2
    });
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn baileys_claude_cli_under_bwrap_answers_in_a_group_by_numbers() {
    check_group(Addressing::Pn);
}

#[test]
fn baileys_claude_cli_under_bwrap_answers_in_a_group_by_hidden_ids() {
    check_group(Addressing::Lid);
}

#[test]
fn baileys_claude_cli_under_bwrap_answers_in_private_by_number_and_by_hidden_id() {
    let (world, _model) = real();
    let mut friend = world.friend();
    world.private(&world.ada.pn.to_string());
    let daemon = world.start();
    let (pn, lid) = (world.owner.pn.to_string(), world.owner.lid.to_string());
    check(&mut friend, &pn, &pn, "SAY One.", "Andy: One.");
    // The same person in the same chat, whatever the phone calls it.
    friend.send(&lid, "SAY Two.");
    let answer = friend.message();
    assert_eq!(json!("Andy: Two."), answer["text"]);
    assert!([&pn, &lid].contains(&&answer["chat"].as_str().expect("a chat").to_owned()));
    assert_eq!(1, world.home.number("SELECT count(DISTINCT chat_jid) FROM messages"));
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn baileys_claude_cli_under_bwrap_answers_the_owner_in_the_chat_with_oneself() {
    let (world, _model) = real();
    let mut phone = world.phone();
    let daemon = world.start();
    let own = world.owner.pn.to_string();
    // No server tells a person that they type themselves, but ours knows what it was told.
    let typed = |state: &str| {
        let of = |state_seen: &rust_claw_fake_whatsapp::ChatState| state_seen.state == state;
        world.server.journal(|journal| journal.chat_states.iter().filter(|seen| of(seen)).count())
    };
    phone.send(&own, "SAY One.");
    assert_eq!("Andy: One.", phone.text_in(&own));
    // What begins like an answer of the assistant is still the owner's (hazard 15).
    phone.send(&own, "Andy: really?\nSLOW 300\nSAY Two or three.");
    assert_eq!("Andy: Two or three.", phone.text_in(&own));
    assert_eq!(2, typed("composing"));
    wait_for("that it stopped typing", || typed("paused") == 2);
    assert_eq!(2, phone.texts().len(), "{:?}", phone.texts());
    assert_eq!(Some(0), daemon.stop());
}
