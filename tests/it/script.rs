//! The script channel: `inject` and `outbox`.

use std::io::Write;
use std::process::Stdio;

use crate::support::{Follower, Home, line, program, wait_for};

#[test]
fn h17_h19_each_line_stands_alone() {
    let home = Home::new();
    let chat = home.register("a");
    let with = |field: &str, value: serde_json::Value| {
        let mut line = line(&chat, "never");
        line[field] = value;
        line.to_string()
    };
    let mut without = line(&chat, "never");
    without.as_object_mut().expect("an object").remove("sender");
    let bad = [
        ("{".to_owned(), "not usable"),
        ("[1]".to_owned(), "not usable"),
        ("\u{0}".to_owned(), "not usable"),
        (without.to_string(), "sender"),
        (with("more", 1.into()), "unknown field `more`"),
        (with("chat_jid", "x".into()), "field `chat_jid`"),
        (with("chat_jid", "local:main".into()), "script:"),
        (with("chat_jid", "script:other".into()), "register-group"),
        (with("text", " \n\t".into()), "field `text`"),
        (with("text", 5.into()), "not usable"),
        (with("id", "".into()), "field `id`"),
        (with("sender", "x".repeat(256).into()), "field `sender`"),
        (with("sent_at_ms", (-1).into()), "field `sent_at_ms`"),
        (with("text", "x".repeat(65_537).into()), "field `text`: 65537 bytes; up to 65536 are"),
        (with("text", "x".repeat(300_000).into()), "longer than 262144 bytes"),
    ];
    let mut lines = vec![line(&chat, "first").to_string(), String::new()];
    lines.extend(bad.iter().map(|(line, _)| line.clone()));
    lines.push(line(&chat, "last").to_string());
    let done = home.run_with(&["inject"], &lines.join("\n"));
    assert_eq!(Some(1), done.code, "{done:?}");
    assert_eq!("accepted=2 already_there=0 dropped=0 refused=15\n", done.stdout);
    // Some are refused as they are read, others when they are stored.
    for (number, (_, why)) in (3..).zip(&bad) {
        let told = done.stderr.lines().find(|told| told.contains(&format!("line {number}: ")));
        assert!(told.is_some_and(|told| told.contains(why)), "line {number}: {why}: {done:?}");
    }
    assert_eq!(bad.len(), done.stderr.lines().count(), "{done:?}");
    let texts = home.texts("SELECT text FROM messages ORDER BY seq");
    assert_eq!(["first", "last"], *texts);
}

#[test]
fn input_that_cannot_be_read_is_not_called_output() {
    let home = Home::new();
    let program = program("rust-claw");
    let inject = format!("{} --home {} inject", program.display(), home.path("home").display());
    home.shell(&format!("{inject} < /"), "").refused(1, &["cannot read standard input: Is a dir"]);
}

#[test]
fn a_repeated_id_is_taken_once_and_own_messages_wake_nobody() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    let mut message = line(&chat, "once");
    message["id"] = "m1".into();
    let mut own = line(&chat, "my own fake:all");
    own["is_from_me"] = true.into();
    let lines = format!("{message}\n{message}\n{own}\n");
    let done = home.run_with(&["inject"], &lines).ok();
    assert_eq!("accepted=2 already_there=1 dropped=0 refused=0\n", done);
    assert_eq!("Andy: echo: once", follower.text());
    home.run_with(&["inject"], &message.to_string()).ok();
    home.inject(&chat, "after fake:all");
    assert_eq!("Andy: echo: after fake:all", follower.text());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn what_has_come_is_served_before_the_input_ends() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    let mut command = home.command(&["inject"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut inject = command.spawn().expect("it starts");
    let mut input = inject.stdin.take().expect("was asked for");
    for text in ["one", "two"] {
        writeln!(input, "{}", line(&chat, text)).expect("it reads");
        assert_eq!(format!("Andy: echo: {text}"), follower.text());
    }
    drop(input);
    assert!(inject.wait().expect("it is our child").success());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn outbox_shows_and_only_ack_takes() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "hi");
    home.wait_answers(&chat, &["Andy: echo: hi"]);
    for _ in 0..2 {
        assert_eq!("script:a: Andy: echo: hi\n", home.run(&["outbox"]).ok());
    }
    let status = home.json(&["status", "--json"]);
    assert_eq!(serde_json::json!([{"channel": "script", "pending": 1}]), status["outbox"]);
    let row = home.json(&["outbox", "--json", "--ack"]);
    assert_eq!(
        ("script:a", "Andy: echo: hi", "answer"),
        (
            row["jid"].as_str().expect("jid"),
            row["text"].as_str().expect("text"),
            row["kind"].as_str().expect("kind"),
        )
    );
    let id = row["message_id"].as_str().expect("an id");
    assert!(id.starts_with("3EB0") && id.len() == 22, "{id}");
    assert_eq!("", home.run(&["outbox"]).ok());
    home.run(&["outbox", "--channel", "fax"]).refused(1, &["`fax`", "script, local, whatsapp"]);
    home.run(&["outbox", "--channel", "whatsapp", "--ack"]).refused(1, &["--ack"]);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h09_a_reader_that_dies_gets_the_rest_in_order() {
    let home = Home::new();
    let chat = home.register("a");
    let other = home.register("b");
    let daemon = home.start();
    // One run, five rows; and another chat, which waits for nobody.
    home.inject(&chat, "last fake:partial=4");
    home.inject(&other, "other");
    wait_for("six rows", || home.number("SELECT count(*) FROM outbox") == 6);
    // Dies between the third printed line and the note of it.
    home.edit(
        "CREATE TRIGGER third BEFORE UPDATE OF state ON outbox
         WHEN new.state = 'sent' AND new.text LIKE '%part 3' BEGIN SELECT RAISE(ABORT, 'cut'); END;",
    );
    let first = Follower::start(&home);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|row: &serde_json::Value| {
        !row["text"].as_str().expect("a text").ends_with("part 3")
    }) {
        seen.push(first.next());
    }
    seen.extend(first.kill());
    home.edit("DROP TRIGGER third;");
    let second = Follower::start(&home);
    while seen.len() < 7 {
        seen.push(second.next());
    }
    wait_for("the note of the last", || {
        home.number("SELECT count(*) FROM outbox WHERE state <> 'sent'") == 0
    });
    assert!(second.kill().is_empty());
    let mut rows: Vec<(String, String)> = seen
        .iter()
        .filter(|row| row["jid"] == "script:a")
        .map(|row| (row["text"].to_string(), row["message_id"].to_string()))
        .collect();
    let shown: Vec<String> = rows.iter().map(|(text, _)| text.replace('"', "")).collect();
    // The third was printed before the reader died: it comes again, under the same id.
    assert_eq!(
        [
            "Andy: part 1",
            "Andy: part 2",
            "Andy: part 3",
            "Andy: part 3",
            "Andy: part 4",
            "Andy: echo: last fake:partial=4"
        ],
        *shown
    );
    rows.dedup();
    assert_eq!(5, rows.len(), "a repeat has the same message_id: {rows:?}");
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn a_reader_that_leaves_loses_nothing() {
    let home = Home::new();
    let chat = home.register("a");
    let daemon = home.start();
    let follower = Follower::start(&home);
    home.inject(&chat, "one");
    assert_eq!("Andy: echo: one", follower.text());
    wait_for("the note of it", || {
        home.number("SELECT count(*) FROM outbox WHERE state = 'sent'") == 1
    });
    assert!(follower.kill().is_empty());
    home.inject(&chat, "two");
    home.wait_answers(&chat, &["Andy: echo: one", "Andy: echo: two"]);
    let follower = Follower::start(&home);
    assert_eq!("Andy: echo: two", follower.text());
    assert_eq!(Some(0), daemon.stop());
}
