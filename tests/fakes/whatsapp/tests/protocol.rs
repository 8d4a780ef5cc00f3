//! The servers by themselves, as a client sees them that is written from the protocol alone.

mod client;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use client::{Device, PATIENCE, attr, child, reference};
use rust_claw_fake_whatsapp::{Addressing, Fault, Outcome, Pattern, Server, wa};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

const ROBOT: &str = "15550001";
const ALICE: &str = "15550002";

fn server() -> Server {
    let server = Server::start();
    server.account(ROBOT, "Robot");
    server.account(ALICE, "Alice");
    server
}

fn alice() -> Jid {
    Jid::pn(ALICE)
}

fn ids(stanzas: &[Node]) -> Vec<String> {
    stanzas.iter().map(|node| attr(node, "id")).collect()
}

#[test]
fn each_handshake_is_led_to_its_end() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    drop(device.log_in(&server));
    server.renew_keys();
    drop(device.log_in(&server));
    drop(device.log_in(&server));
    let handshakes: Vec<_> =
        server.connections().iter().filter_map(|info| info.handshake).collect();
    assert_eq!([Pattern::Xx, Pattern::Ik, Pattern::XxFallback, Pattern::Ik], *handshakes);
    assert_eq!(1, server.max_connections_at_once(ROBOT));
}

#[test]
fn a_code_is_good_only_for_the_connection_that_shows_it() {
    let server = server();
    let mut device = Device::new();
    let mut client = device.connect(&server);
    let reference = reference(&client.expect("iq"));
    let refused = |qr: &str| server.scan(ROBOT, qr).expect_err("refused");
    assert!(refused(&Device::new().qr(&reference)).contains("not those of its connection"));
    assert!(refused(&device.qr("other")).contains("nobody shows this code"));
    assert!(refused("https://example.org").contains("not a code"));
    assert!(server.companions(ROBOT).is_empty());
}

#[test]
fn only_the_device_itself_is_let_in() {
    let server = server();
    let device = Device::paired(&server, ROBOT);
    let mut impostor = Device::new();
    impostor.name = device.name;
    let mut client = impostor.connect(&server);
    assert_eq!("401", attr(&client.expect("failure"), "reason"));
    assert!(client.next().is_none());
    assert!(!server.is_online(ROBOT));
}

#[test]
fn a_second_login_takes_the_place_of_the_first() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let (mut first, _) = device.log_in(&server);
    let (mut second, _) = device.log_in(&server);
    let error = first.expect("stream:error");
    assert_eq!("replaced", attr(child(&error, "conflict"), "type"));
    assert!(first.next().is_none());
    assert_eq!(2, server.max_connections_at_once(ROBOT));
    second.ask("w:p", "get", NodeBuilder::new("ping").build());
    second.expect("iq");
}

#[test]
fn messages_wait_until_they_are_confirmed_and_keep_their_order() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let sent: Vec<String> =
        (1..=3).map(|n| server.say_text(ALICE, ROBOT, &format!("text {n}"))).collect();
    let (mut client, waited) = device.log_in(&server);
    assert_eq!(sent, ids(&waited));
    client.confirm(&waited[0]);
    drop(client);
    let (_client, waited) = device.log_in(&server);
    assert_eq!(sent[1..], ids(&waited));
    assert!(waited.iter().all(|node| attr(node, "offline") == "1"));
    assert_eq!(2, server.unconfirmed(ROBOT));
}

#[test]
fn what_was_said_long_ago_says_so() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let message = wa::Message { conversation: Some("old".to_owned()), ..Default::default() };
    let old = server.say_ago(Duration::from_hours(24), ALICE, ROBOT, message);
    let new = server.say_text(ALICE, ROBOT, "new");
    let (_client, waited) = device.log_in(&server);
    assert_eq!([old, new], *ids(&waited));
    let times: Vec<u64> = waited.iter().map(|node| attr(node, "t").parse().expect("t")).collect();
    assert!((86_400..86_410).contains(&(times[1] - times[0])), "{times:?}");
}

#[test]
fn blobs_are_taken_and_handed_out() {
    let server = server();
    let blob = |method: &str, path: &str, body: &str| {
        let host = server.http_url().trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&host).expect("a server");
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}")
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    };
    assert!(blob("GET", "/mms/image/a", "").starts_with("HTTP/1.1 404"));
    assert!(blob("POST", "/mms/image/a?auth=x", "PICTURE").contains(r#""/mms/image/a""#));
    assert!(blob("GET", "/mms/image/a?token=y", "").ends_with("\r\n\r\nPICTURE"));
}

#[test]
fn what_is_delivered_can_come_twice_or_in_the_wrong_order() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let (mut client, _) = device.log_in(&server);
    server.fault_for(ROBOT, Fault::Reorder);
    let first = server.say_text(ALICE, ROBOT, "first");
    let second = server.say_text(ALICE, ROBOT, "second");
    assert_eq!([second, first], *ids(&[client.expect("message"), client.expect("message")]));
    server.fault(Fault::Duplicate);
    let twice = server.say_text(ALICE, ROBOT, "twice");
    let once = server.say_text(ALICE, ROBOT, "once");
    let came: Vec<Node> = (0..3).map(|_| client.expect("message")).collect();
    assert_eq!([twice.clone(), twice, once], *ids(&came));
}

#[test]
fn messages_are_acknowledged_refused_or_lost_as_asked() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let (mut client, _) = device.log_in(&server);
    server.fault(Fault::Nack(479));
    server.fault(Fault::DropNext(2));
    server.fault_for(ALICE, Fault::LoseAcks(1));
    for id in ["A", "B", "C", "D"] {
        client.say(id, &alice());
    }
    let refused = client.expect("ack");
    assert_eq!(("A".to_owned(), "479".to_owned()), (attr(&refused, "id"), attr(&refused, "error")));
    assert_eq!("D", attr(&client.expect("ack"), "id"));
    let outcomes: Vec<Outcome> =
        server.journal(|journal| journal.sent_by(ROBOT).map(|sent| sent.outcome).collect());
    let expected = [Outcome::Nacked(479), Outcome::Dropped, Outcome::Dropped, Outcome::Accepted];
    assert_eq!(expected, *outcomes);
}

#[test]
fn a_phone_asks_again_for_what_it_cannot_open() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let (mut client, _) = device.log_in(&server);
    client.say("A", &alice());
    client.expect("ack");
    let receipt = client.expect("receipt");
    assert_eq!(
        ("A".to_owned(), "retry".to_owned()),
        (attr(&receipt, "id"), attr(&receipt, "type"))
    );
    assert_eq!("1", attr(child(&receipt, "retry"), "count"));
    let seen = server.journal(|journal| journal.seen.len());
    assert_eq!(1, seen);
    assert!(server.journal(|journal| journal.seen[0].message.is_err()));
}

#[test]
fn a_frozen_server_keeps_connections_and_says_nothing() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let (mut client, _) = device.log_in(&server);
    server.fault(Fault::Freeze);
    client.say("A", &alice());
    std::thread::scope(|scope| {
        let ack = scope.spawn(|| client.expect("ack"));
        // Not a synchronisation: a server that answers is to have the time for it.
        std::thread::sleep(Duration::from_millis(200));
        assert!(!ack.is_finished());
        assert_eq!(0, server.journal(|journal| journal.messages.len()));
        server.fault(Fault::Thaw);
        assert_eq!("A", attr(&ack.join().expect("answered"), "id"));
    });
}

#[test]
fn a_refused_connection_counts_as_an_attempt() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let before = server.attempts().len();
    server.fault(Fault::Refuse(true));
    assert!(tungstenite::connect(server.url()).is_err());
    assert_eq!((before + 1, 1), (server.attempts().len(), server.connections().len()));
    server.fault(Fault::Refuse(false));
    let (_client, _) = device.log_in(&server);
    server.wait_online(ROBOT, PATIENCE);
}

#[test]
fn logins_are_refused_for_the_reason_asked_for() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let mut refused = |reason: &str| {
        let mut client = device.connect(&server);
        let failure = client.expect("failure");
        assert_eq!(reason, attr(&failure, "reason"));
        assert!(client.next().is_none());
        failure
    };
    server.fault(Fault::Failure(405));
    refused("405");
    refused("405");
    server.fault(Fault::Heal);
    server.fault_for(ROBOT, Fault::FailureOnce(503));
    refused("503");
    server.fault(Fault::Ban(60));
    assert_eq!("60", attr(&refused("402"), "expire"));
    server.fault(Fault::Heal);
    drop(device.log_in(&server));
}

#[test]
fn an_unlinked_device_is_told_and_stays_out() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let (mut client, _) = device.log_in(&server);
    server.unlink(ROBOT, 1);
    let error = client.expect("stream:error");
    assert_eq!("device_removed", attr(child(&error, "conflict"), "type"));
    let mut client = device.connect(&server);
    assert_eq!("401", attr(&client.expect("failure"), "reason"));
    device.name = None;
    device.pair(&server, ROBOT).expect("paired again");
    assert_eq!(Some((15_550_001, 2)), device.name);
}

#[test]
fn members_are_told_what_becomes_of_their_group() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let (mut client, _) = device.log_in(&server);
    let group = server.group("Old", &[ALICE], Addressing::Lid);
    server.add_member(&group, ROBOT);
    server.rename_group(&group, "New");
    server.remove_member(&group, ROBOT);
    server.rename_group(&group, "Unheard");
    let mut told = || client.expect("notification");
    let created = told();
    assert_eq!("Old", attr(child(child(&created, "create"), "group"), "subject"));
    assert_eq!("New", attr(child(&told(), "subject"), "subject"));
    let removed = told();
    let participant = child(child(&removed, "remove"), "participant");
    assert_eq!("15550001@s.whatsapp.net", attr(participant, "phone_number"));
    client.say("A", &group.parse().expect("a name"));
    assert_eq!("403", attr(&client.expect("ack"), "error"));
}

#[test]
fn others_are_told_of_a_new_device() {
    let server = server();
    let mut device = Device::paired(&server, ROBOT);
    let (mut client, _) = device.log_in(&server);
    let _new = Device::paired(&server, ALICE);
    let notification = client.expect("notification");
    assert_eq!("devices", attr(&notification, "type"));
    let added = child(&notification, "add");
    assert_eq!("15550002:1@s.whatsapp.net", attr(child(added, "device"), "jid"));
}
