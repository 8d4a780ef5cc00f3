//! Linking a phone by the commands, as a person does it.

use std::io::read_to_string;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use rust_claw_fake_whatsapp::{Addressing, Fault};
use rustix::process::Signal;

use super::{ADA, OWNER, World};
use crate::support::{Done, Kind, Terminal, end, wait_for, wait_longer};

/// How long the first QR code is shown. Source: the protocol library.
const FIRST_CODE: Duration = Duration::from_mins(1);

/// `pair`, while it waits for a person; killed when dropped.
struct Pair(Child);

impl Drop for Pair {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl World {
    fn begin(&self, args: &[&str]) -> Pair {
        let mut command = self.home.command(&[&["pair"], args].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Pair(command.spawn().expect("it starts"))
    }

    /// What `pair` shows now, once it shows it.
    pub(super) fn shown(&self, key: &str) -> String {
        let mut shown = None;
        wait_for(key, || {
            shown = self.state("whatsapp.pairing")[key].as_str().map(str::to_owned);
            shown.is_some()
        });
        shown.expect("waited for")
    }

    /// What it shows instead of `old`, which takes `time`.
    fn shown_after(&self, time: Duration, key: &str, old: &str) -> String {
        let mut new = old.to_owned();
        wait_longer(time, &format!("another {key}"), || {
            let shown = self.state("whatsapp.pairing")[key].as_str().map(str::to_owned);
            new = shown.unwrap_or_else(|| old.to_owned());
            new != old
        });
        new
    }

    /// The picture, once it is there.
    fn picture(&self) -> Option<Vec<u8>> {
        std::fs::read(self.home.path("code.png")).ok().filter(|file| !file.is_empty())
    }

    fn linked_devices(&self) -> usize {
        self.server.companions(OWNER).len()
    }
}

/// The end of `pair`, and all that it said.
fn done(mut pair: Pair) -> Done {
    let status = end(&mut pair.0).expect("it ends");
    let stdout = read_to_string(pair.0.stdout.take().expect("was asked for")).expect("text");
    let stderr = read_to_string(pair.0.stderr.take().expect("was asked for")).expect("text");
    Done { code: status.code(), stdout, stderr }
}

fn interrupt(pair: &Pair) {
    let pid = rustix::process::Pid::from_child(&pair.0);
    rustix::process::kill_process(pid, Signal::INT).expect("it runs");
}

#[test]
fn h68_a_scan_links_without_a_daemon_and_the_next_start_is_online() {
    let world = World::new(Kind::Fake);
    let pair = world.begin(&["--png", "code.png"]);
    // By then the code is on the screen, or will be before anything else.
    wait_for("a picture", || world.home.path("code.png").metadata().is_ok_and(|at| 0 < at.len()));
    world.server.scan(OWNER, &world.shown("qr")).expect("the code is good");
    let said = done(pair).ok();
    for part in [
        "WhatsApp > Settings > Linked devices",
        "██████",
        &format!("linked as +{OWNER} (Olga)\n"),
        "What you write to yourself on the phone now reaches the group main.",
        "`rust-claw run` keeps it online.",
    ] {
        assert!(said.contains(part), "`{part}` is missing: {said}");
    }
    assert!(world.state("whatsapp.pairing").is_null(), "a secret that nobody needs any more");
    assert_eq!(1, world.linked_devices());
    let own = world.home.texts("SELECT jid FROM group_chats WHERE folder = 'main' ORDER BY jid");
    assert_eq!([&format!("{OWNER}@s.whatsapp.net"), "local:main"], own[..]);
    let daemon = world.start();
    assert_eq!(Some(0), daemon.stop());
    assert_eq!(1, world.server.max_connections_at_once(OWNER));
}

#[test]
fn h68_the_code_stands_on_the_terminal_until_it_is_scanned() {
    let world = World::new(Kind::Fake);
    let mut terminal = Terminal::start(world.home.command(&["pair"]));
    terminal.expect("Scan this with the phone");
    // White on black, whatever the theme.
    terminal.expect("\x1b[38;5;231;48;5;16m");
    terminal.expect("the next follows by itself");
    world.server.scan(OWNER, &world.shown("qr")).expect("the code is good");
    terminal.expect("linked as +");
    assert_eq!(Some(0), terminal.end());
}

#[test]
fn h64_h68_a_code_links_a_running_daemon_and_links_it_again_after_it_was_unlinked() {
    let world = World::new(Kind::Fake);
    let mut daemon = world.home.start();
    let pair = world.begin(&["--phone", "+49 (1555) 000-0001"]);
    let code = world.shown("code");
    world.server.type_code(OWNER, &code).expect("the code is good");
    let said = done(pair).ok();
    assert!(said.contains(&code) && said.contains("valid for 1"), "{said}");
    assert!(!said.contains("keeps it online"), "it is online already: {said}");
    world.wait_online();

    let device = world.server.companions(OWNER)[0].device;
    world.server.unlink(OWNER, device);
    wait_for("the need of a person", || world.state("whatsapp")["state"] == "needs-pairing");
    assert!(daemon.is_alive());
    let pair = world.begin(&[]);
    world.server.scan(OWNER, &world.shown("qr")).expect("the code is good");
    done(pair).ok();
    world.wait_online();
    assert!(daemon.is_alive());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h68_who_gives_up_leaves_nothing_behind() {
    let world = World::new(Kind::Fake);
    let pair = world.begin(&[]);
    world.shown("qr");
    interrupt(&pair);
    done(pair).refused_somehow(1);
    assert_eq!(0, world.linked_devices());

    let mut daemon = world.home.start();
    for method in [&[][..], &["--phone", OWNER]] {
        let pair = world.begin(method);
        world.shown(if method.is_empty() { "qr" } else { "code" });
        interrupt(&pair);
        let told = done(pair);
        assert!(told.stderr.contains("given up; nothing was linked"), "{told:?}");
        wait_for("the end of it", || {
            world.state("whatsapp.pairing").is_null()
                && world.state("whatsapp")["state"] == "unpaired"
        });
    }
    // One that was killed could not say so. The next takes over.
    let killed = world.begin(&[]);
    let old = world.shown("qr");
    drop(killed);
    let pair = world.begin(&[]);
    let new = world.shown_after(Duration::ZERO, "qr", &old);
    world.server.scan(OWNER, &new).expect("the code is good");
    done(pair).ok();
    world.wait_online();
    assert!(daemon.is_alive());
}

#[test]
fn h68_the_next_code_follows_by_itself_and_links_and_the_expired_one_does_not() {
    let world = World::new(Kind::Fake);
    let pair = world.begin(&["--png", "code.png"]);
    let first = world.shown("qr");
    wait_for("a picture", || world.picture().is_some());
    let picture = world.picture();
    let second = world.shown_after(FIRST_CODE, "qr", &first);
    wait_for("another picture", || world.picture().is_some_and(|new| Some(new) != picture));
    assert_eq!(1, world.server.attempts().len(), "it is the same connection");
    let refused = world.server.scan(OWNER, &first).expect_err("too late");
    assert!(refused.contains("expired"), "{refused}");
    assert_eq!(0, world.linked_devices());
    world.server.scan(OWNER, &second).expect("the code is good");
    let said = done(pair).ok();
    assert_eq!(2, said.matches("Scan this with the phone").count(), "{said}");
    assert_eq!(1, world.linked_devices());
    assert_eq!(None, world.picture());
}

#[test]
fn h68_new_codes_are_asked_for_when_all_are_used_up_until_a_person_gives_up() {
    // One whose daemon runs, one that serves itself.
    let worlds = [World::new(Kind::Fake), World::new(Kind::Fake)];
    let mut daemon = worlds[0].home.start();
    let pairs = worlds.each_ref().map(|world| {
        world.server.set_refs(1);
        let pair = world.begin(&["--png", "code.png"]);
        let code = world.shown("qr");
        wait_for("a picture", || world.picture().is_some());
        (pair, code, world.picture())
    });
    for (world, (pair, first, picture)) in worlds.iter().zip(pairs) {
        let second = world.shown_after(FIRST_CODE, "qr", &first);
        wait_for("another picture", || world.picture().is_some_and(|new| Some(new) != picture));
        assert_eq!(2, world.server.attempts().len(), "it came again");
        world.server.scan(OWNER, &first).expect_err("too late");
        if world.server.url() == worlds[0].server.url() {
            interrupt(&pair);
            let told = done(pair);
            assert!(told.stderr.contains("given up; nothing was linked"), "{told:?}");
            wait_for("the end of it", || world.state("whatsapp")["state"] == "unpaired");
            assert_eq!(None, world.picture());
            world.server.scan(OWNER, &second).expect_err("nobody shows it");
        } else {
            world.server.scan(OWNER, &second).expect("the code is good");
            done(pair).ok();
        }
    }
    assert_eq!([0, 1], worlds.each_ref().map(World::linked_devices));
    assert!(daemon.is_alive());
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn h68_a_code_to_type_is_renewed_when_the_server_ends_it() {
    let ends: [fn(&World); 2] = [
        |world| world.server.refresh_code(OWNER),
        // A code is as good as the connection that it was made for.
        |world| world.server.fault(Fault::Hangup),
    ];
    for (number, end) in ends.iter().enumerate() {
        let world = World::new(Kind::Fake);
        let pair = world.begin(&["--phone", OWNER]);
        let first = world.shown("code");
        end(&world);
        let second = world.shown_after(Duration::ZERO, "code", &first);
        world.server.wait_code_offer(OWNER);
        world.server.type_code(OWNER, &first).expect_err("it is another now");
        assert_eq!(0, world.linked_devices(), "{number}");
        world.server.type_code(OWNER, &second).expect("the code is good");
        let said = done(pair).ok();
        assert!(said.contains(&first) && said.contains(&second), "{said}");
        assert_eq!(1, world.linked_devices(), "{number}");
    }
}

#[test]
fn h68_a_code_to_type_outlasts_the_qr_codes_beside_it() {
    let world = World::new(Kind::Fake);
    world.server.set_refs(1);
    let pair = world.begin(&["--phone", OWNER]);
    let code = world.shown("code");
    std::thread::sleep(FIRST_CODE + Duration::from_secs(2));
    assert_eq!(code, world.shown("code"));
    world.server.type_code(OWNER, &code).expect("the code is good");
    done(pair).ok();
    assert_eq!(1, world.linked_devices());
}

#[test]
fn a_link_is_ended_before_another_is_made() {
    let world = World::linked(Kind::Fake);
    for is_running in [true, false] {
        let daemon = is_running.then(|| world.start());
        world.home.run(&["pair"]).refused(1, &[&format!("linked as +{OWNER}"), "rust-claw unpair"]);
        let said = world.home.run(&["unpair"]).ok();
        assert!(said.contains("the phone does not list this device any more"), "{said}");
        assert_eq!(0, world.linked_devices());
        world.home.run(&["unpair"]).refused(1, &["not linked", "rust-claw pair"]);
        world.pair();
        assert_eq!(1, world.linked_devices());
        assert!(daemon.is_none_or(|daemon| daemon.stop() == Some(0)));
    }
}

#[test]
fn who_was_linked_before_is_not_the_owner_any_more() {
    let world = World::linked(Kind::Fake);
    let chats = || {
        let sql = "SELECT jid FROM group_chats WHERE folder = 'main' AND jid NOT LIKE 'local:%'";
        world.home.texts(sql)
    };
    assert_eq!([world.owner.pn.to_string()], *chats());
    world.home.run(&["unpair"]).ok();
    world.pair_as(ADA);
    assert_eq!([world.ada.pn.to_string()], *chats());
    // A chat that a person gave to main stays, whoever is linked.
    let args = ["register-group", "--attach", "--jid", "1203@g.us", "--folder", "main"];
    world.home.run(&args).ok();
    world.home.run(&["unpair"]).ok();
    world.pair();
    assert_eq!(["1203@g.us"], *chats());
}

#[test]
fn a_link_is_ended_here_where_the_server_cannot_be_reached() {
    let mut world = World::linked(Kind::Fake);
    world.home.set("WHATSAPP_URL", "ws://127.0.0.1:1/ws/chat");
    let said = world.home.run(&["unpair"]).ok();
    assert!(said.contains("remove `rust-claw` on the phone"), "{said}");
    world.home.set("WHATSAPP_URL", &world.server.url());
    world.pair();
}

#[test]
fn a_new_connection_is_made_when_a_person_asks_for_it() {
    let world = World::linked(Kind::Fake);
    world.home.run(&["reconnect"]).refused(1, &["rust-claw run"]);
    let daemon = world.start();
    let before = world.server.connections().len();
    assert_eq!("online\n", world.home.run(&["reconnect"]).ok());
    assert_eq!(before + 1, world.server.connections().len());
    assert_eq!(1, world.server.max_connections_at_once(OWNER));
    assert_eq!(Some(0), daemon.stop());
    let unlinked = World::new(Kind::Fake);
    unlinked.home.run(&["reconnect"]).refused(1, &["not linked", "rust-claw pair"]);
}

#[test]
fn h68_what_cannot_work_is_refused_before_anything_is_asked() {
    let world = World::new(Kind::Fake);
    let refused = |number: &str, part: &str| {
        world.home.run(&["pair", "--phone", number]).refused(1, &[number, part, "+49"]);
    };
    refused("0170 1234567", "the country is missing");
    refused("+49 (0)170 1234567", "leave it out");
    refused("-491701234567", "a minus");
    refused("Andy", "other than digits");
    let picture = world.home.path("code.png");
    std::fs::write(&picture, "mine").expect("written");
    let path = picture.to_str().expect("text");
    world.home.run(&["pair", "--png", path]).refused(1, &["code.png", "exists"]);
    world.home.run(&["pair", "--png", path, "--phone", OWNER]).refused(1, &["--png"]);
    assert_eq!("mine", std::fs::read_to_string(&picture).expect("still there"));
    assert!(world.server.attempts().is_empty());
}

#[test]
fn the_picture_lies_there_as_long_as_its_code() {
    let world = World::new(Kind::Fake);
    let picture = world.home.path("code.png");
    let pair = world.begin(&["--png", picture.to_str().expect("text")]);
    let qr = world.shown("qr");
    wait_for("a picture", || {
        std::fs::read(&picture)
            .is_ok_and(|file| file.starts_with(b"\x89PNG") && file.ends_with(b"IEND\xaeB`\x82"))
    });
    let mode = picture.metadata().expect("there").permissions().mode();
    assert_eq!(0o600, mode & 0o777);
    world.server.scan(OWNER, &qr).expect("the code is good");
    done(pair).ok();
    assert!(!picture.exists());
}

#[test]
fn groups_are_known_by_name_and_looked_up_at_once_when_asked() {
    let world = World::linked(Kind::Fake);
    world.home.run(&["list-groups", "--refresh"]).refused(1, &["not online"]);
    let early = world.server.group("Early", &[OWNER, ADA], Addressing::Lid);
    let daemon = world.start();
    let name_of = |group: &str| {
        let names = world.home.texts(&format!("SELECT name FROM chats WHERE jid = '{group}'"));
        names.first().cloned().unwrap_or_default()
    };
    wait_for("the names at start", || name_of(&early) == "Early");
    let late = world.server.group("Late", &[OWNER, ADA], Addressing::Pn);
    let listed = world.home.run(&["list-groups", "--refresh"]).ok();
    assert!(
        listed.contains(&late) && listed.contains("Late") && listed.contains(&early),
        "{listed}"
    );
    world.server.rename_group(&late, "Later");
    wait_for("the new name", || name_of(&late) == "Later");
    let listed = world.home.json(&["list-groups", "--all", "--json"]);
    let found = listed.as_array().expect("a list").iter().find(|row| row["chats"][0] == *late);
    assert_eq!("Later", found.expect("listed")["name"]);
    assert!(!world.home.run(&["list-groups"]).ok().contains(&late), "nobody serves it");
    assert_eq!(Some(0), daemon.stop());
}
