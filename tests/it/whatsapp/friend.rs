//! The test server against a client that is not ours: what Baileys accepts, a server may say.

use rust_claw_fake_whatsapp::friend::Friend;
use rust_claw_fake_whatsapp::{Account, Addressing, Server};
use serde_json::{Value, json};

const ADA: &str = "4915550000001";
const BEN: &str = "4915550000002";
const CAT: &str = "4915550000003";

/// Two friends who are online.
struct World {
    server: Server,
    accounts: [Account; 2],
    friends: [Friend; 2],
}

impl World {
    fn new() -> World {
        let server = Server::start();
        let accounts = [server.account(ADA, "Ada"), server.account(BEN, "Ben")];
        let friends = [linked(&server, ADA), linked(&server, BEN)];
        World { server, accounts, friends }
    }
}

/// Somebody's second device.
fn linked(server: &Server, phone: &str) -> Friend {
    let mut friend = Friend::start();
    friend.connect(&server.url(), &server.root_key(), Some(&server.http_url()));
    let qr = friend.qr();
    server.scan(phone, &qr).expect("the code is good");
    friend.online();
    friend
}

fn is_message(text: &str) -> impl Fn(&Value) -> bool {
    move |event| event["event"] == "message" && event["text"] == text
}

#[test]
fn baileys_is_linked_by_a_scanned_code_and_comes_back_without_one() {
    let server = Server::start();
    let ada = server.account(ADA, "Ada");
    let mut friend = Friend::start();
    friend.connect(&server.url(), &server.root_key(), None);
    let qr = friend.qr();
    server.scan(ADA, &qr).expect("the code is good");
    let me = friend.online();
    assert_eq!((ADA, "Ada"), (number(&me["id"]), me["name"].as_str().expect("a name")));
    assert_eq!(ada.lid.to_string(), me["lid"].as_str().expect("an id"));
    friend.drop_connection();
    friend.reconnect();
    let shown = friend.seen().iter().filter(|event| event["event"] == "qr").count();
    assert_eq!(1, shown, "it is known now");
}

#[test]
fn baileys_is_linked_by_a_typed_code() {
    let server = Server::start();
    server.account(ADA, "Ada");
    let mut friend = Friend::start();
    friend.connect(&server.url(), &server.root_key(), None);
    // The code can be asked for once the server has spoken.
    friend.qr();
    let code = friend.tell(json!({"do": "code", "phone": ADA}));
    server.wait_code_offer(ADA);
    server.type_code(ADA, code.as_str().expect("a code")).expect("the code is good");
    assert_eq!(ADA, number(&friend.online()["id"]));
}

#[test]
fn baileys_talks_to_baileys_by_number_and_by_hidden_id() {
    let mut world = World::new();
    let [ada, ben] = &mut world.friends;
    let [of_ada, of_ben] = &world.accounts;
    for (to, back) in [(&of_ben.pn, &of_ada.pn), (&of_ben.lid, &of_ada.lid)] {
        let (to, back) = (to.to_string(), back.to_string());
        // The first sets a session up, the second uses it, the third and fourth turn the ratchet.
        for round in 0..2 {
            let id = ada.send(&to, &format!("{to} {round}"));
            let came = ben.next("the message", is_message(&format!("{to} {round}")));
            assert_eq!((&json!(id), &json!(back)), (&came["id"], &came["chat"]), "{came}");
            assert_eq!(
                (json!("Ada"), json!(false)),
                (came["name"].clone(), came["from_me"].clone())
            );
            ada.find("its acknowledgement", |event| event["event"] == "ack" && event["id"] == id);
            ada.find("its delivery", |event| event["event"] == "receipt" && event["ids"][0] == id);
            ben.send(&back, &format!("{back} {round}"));
            ada.next("the answer", is_message(&format!("{back} {round}")));
        }
    }
    assert_eq!((0, 0), (ada.unread().len(), ben.unread().len()));
}

#[test]
fn baileys_hears_baileys_type_and_read() {
    let mut world = World::new();
    let [ada, ben] = &mut world.friends;
    let (to_ben, to_ada) = (world.accounts[1].pn.to_string(), world.accounts[0].pn.to_string());
    let id = ada.send(&to_ben, "hello");
    ben.next("the message", is_message("hello"));
    ben.tell(json!({"do": "read", "id": id}));
    ada.next("that it was read", |event| event["event"] == "receipt" && event["type"] == "read");
    ben.tell(json!({"do": "typing", "to": to_ada}));
    let typing = ada.next("that he types", |event| event["event"] == "typing");
    assert_eq!(("composing", &json!(to_ben)), (word(&typing["state"]), &typing["chat"]));
    ben.tell(json!({"do": "typing", "to": to_ada, "state": "paused"}));
    let typing = ada.next("that he stopped", |event| event["event"] == "typing");
    assert_eq!("paused", word(&typing["state"]));
}

#[test]
fn baileys_talks_in_groups_of_both_kinds() {
    let mut world = World::new();
    world.server.account(CAT, "Cat");
    let mut cat = linked(&world.server, CAT);
    let [ada, ben] = &mut world.friends;
    for addressing in [Addressing::Pn, Addressing::Lid] {
        let group = world.server.group("Lunch", &[ADA, BEN, CAT], addressing);
        for round in 0..2 {
            ada.send(&group, &format!("{group} {round}"));
            for other in [&mut *ben, &mut cat] {
                let came = other.next("the message", is_message(&format!("{group} {round}")));
                assert_eq!(json!(group), came["chat"]);
                let account = &world.accounts[0];
                let sender = match addressing {
                    Addressing::Pn => &account.pn,
                    Addressing::Lid => &account.lid,
                };
                assert_eq!(json!(sender.to_string()), came["participant"], "{came}");
            }
            ben.send(&group, &format!("{group} back {round}"));
            ada.next("the answer", is_message(&format!("{group} back {round}")));
            ben.tell(json!({"do": "typing", "to": group}));
            let typing = ada.next("that he types", |event| event["event"] == "typing");
            assert_eq!(json!(group), typing["chat"]);
        }
        let groups = ada.tell(json!({"do": "groups"}));
        let mine = groups.as_array().expect("a list").iter().find(|each| each["id"] == group);
        let mine = mine.expect("it is there");
        assert_eq!(
            ("Lunch", 3),
            (word(&mine["subject"]), mine["members"].as_array().map_or(0, Vec::len))
        );
        world.server.rename_group(&group, "Dinner");
        let told = ben.next("the new subject", |event| event["event"] == "group");
        assert_eq!(("Dinner", &json!(group)), (word(&told["subject"]), &told["id"]));
    }
    assert_eq!((0, 0, 0), (ada.unread().len(), ben.unread().len(), cat.unread().len()));
}

#[test]
fn what_comes_while_baileys_is_away_is_kept_and_given_once() {
    let mut world = World::new();
    let [ada, ben] = &mut world.friends;
    let to_ben = world.accounts[1].pn.to_string();
    let group = world.server.group("Lunch", &[ADA, BEN], Addressing::Lid);
    ben.drop_connection();
    ada.burst(&to_ben, (0..5).map(|number| format!("private {number}")));
    ada.burst(&group, (0..5).map(|number| format!("group {number}")));
    ben.reconnect();
    for chat in ["private", "group"] {
        for number in 0..5 {
            let text = format!("{chat} {number}");
            let came = ben.find("what was kept", is_message(&text));
            assert_eq!(json!(true), came["offline"], "{came}");
        }
    }
    let order: Vec<String> = ben.texts();
    let private: Vec<&String> = order.iter().filter(|text| text.starts_with("private")).collect();
    assert!(private.is_sorted(), "{private:?}");
    ben.drop_connection();
    ben.reconnect();
    // What comes next would come after what was given twice.
    ada.send(&to_ben, "the end");
    ben.next("the end", is_message("the end"));
    assert_eq!(11, ben.delivery_count(), "{:?}", ben.texts());
}

#[test]
fn baileys_asks_again_for_what_it_cannot_read() {
    let mut world = World::new();
    let [ada, ben] = &mut world.friends;
    let (to_ben, to_ada) = (world.accounts[1].pn.to_string(), world.accounts[0].pn.to_string());
    let group = world.server.group("Lunch", &[ADA, BEN], Addressing::Lid);
    for chat in [&to_ben, &group] {
        ada.send(chat, "before");
        ben.next("the message", is_message("before"));
        ben.send(if *chat == to_ben { &to_ada } else { chat }, "back");
        ada.next("the answer", is_message("back"));
        ben.tell(json!({"do": "forget_sessions"}));
        let id = ada.send(chat, "after");
        ben.next("something unreadable", |event| {
            event["event"] == "undecryptable" && event["id"] == id
        });
        let came = ben.next("the repetition", is_message("after"));
        assert_eq!(json!(id), came["id"]);
    }
    assert_eq!(Vec::<String>::new(), ben.unread());
}

#[test]
fn baileys_that_is_unlinked_is_told_so() {
    let mut world = World::new();
    let [ada, ben] = &mut world.friends;
    world.server.unlink(ADA, 1);
    let closed = ada.next("its end", |event| event["event"] == "closed");
    assert_eq!(json!(401), closed["code"], "{closed}");
    ben.tell(json!({"do": "logout"}));
    ben.next("its own end", |event| event["event"] == "closed");
    // It has to be linked again.
    ben.tell(json!({"do": "reconnect"}));
    ben.next("a new code", |event| event["event"] == "qr");
}

#[test]
fn what_wraps_a_text_reaches_baileys() {
    let mut world = World::new();
    let [ada, ben] = &mut world.friends;
    let to = world.accounts[1].pn.to_string();
    let first = ada.send(&to, "first");
    let quoting = ada.send_with(&to, &json!({"text": "second"}), json!({"quoted": first}));
    ada.send_with(&to, &json!({"text": "third"}), json!({"ephemeral": 86400}));
    let mention = json!({"text": "fourth", "mentions": [to]});
    ada.send_with(&to, &mention, json!({}));
    ada.send_with(&to, &json!({"text": "second, mended"}), json!({"edit": quoting}));
    let image = json!({"image": {"base64": PNG}, "caption": "fifth", "viewOnce": true});
    ada.send_with(&to, &image, json!({}));
    ben.next("the first", is_message("first"));
    assert_eq!(json!(first), ben.next("the second", is_message("second"))["quoted"]);
    ben.next("the third", is_message("third"));
    assert_eq!(json!([to]), ben.next("the fourth", is_message("fourth"))["mentions"]);
    ben.next("the second again", is_message("second, mended"));
    assert_eq!("imageMessage", word(&ben.next("the fifth", is_message("fifth"))["kind"]));
}

/// One grey point.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";

/// The number in `NUMBER:DEVICE@s.whatsapp.net`.
fn number(id: &Value) -> &str {
    word(id).split([':', '@']).next().unwrap_or_default()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
