use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use tempfile::TempDir;
use wacore::store::traits::{
    Backend, DeviceInfo, DeviceListRecord, DeviceStore, LidPnMappingEntry, MsgSecretEntry,
    MsgSecretStore, PendingInboundKey, PendingInboundRow, ProtocolStore, SignalStore, TcTokenEntry,
};

use super::super::runtime::block_on;
use super::*;

fn keys() -> (TempDir, Arc<Keys>) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let keys = Keys::open(&folder.path().join("whatsapp.db")).expect("opens");
    (folder, keys)
}

/// The outcome of a call.
macro_rules! ok {
    ($call:expr) => {
        block_on($call).expect("the store works")
    };
}

fn mapping(lid: &str, phone: &str) -> LidPnMappingEntry {
    LidPnMappingEntry {
        lid: lid.to_owned(),
        phone_number: phone.to_owned(),
        created_at: 1,
        updated_at: 2,
        learning_source: "test".to_owned(),
    }
}

#[test]
fn it_is_all_that_the_library_asks_for_and_for_its_owner_alone() {
    let (folder, keys) = keys();
    let backend: Arc<dyn Backend> = keys.clone();
    assert!(!ok!(backend.exists()));
    assert!(ok!(backend.load()).is_none());
    ok!(backend.create());
    assert!(ok!(backend.exists()));
    let mut device = ok!(backend.load()).expect("made");
    device.push_name = "Andy".to_owned();
    ok!(backend.save(&device));
    assert_eq!("Andy", ok!(backend.load()).expect("kept").push_name);
    for entry in std::fs::read_dir(folder.path()).expect("folder") {
        let mode = entry.expect("entry").metadata().expect("there").permissions().mode();
        assert_eq!(0o600, mode & 0o777);
    }
}

#[test]
fn what_the_library_gives_comes_back_and_goes_when_it_says_so() {
    let (_folder, keys) = keys();
    ok!(keys.put_session("1@s.whatsapp.net", b"a"));
    ok!(keys.put_session("1@s.whatsapp.net", b"b"));
    assert_eq!(Some(Bytes::from_static(b"b")), ok!(keys.get_session("1@s.whatsapp.net")));
    assert!(ok!(keys.has_session("1@s.whatsapp.net")));
    ok!(keys.delete_session("1@s.whatsapp.net"));
    assert_eq!(None, ok!(keys.get_session("1@s.whatsapp.net")));

    ok!(keys.put_identity("2:5@lid", [9; 32]));
    assert_eq!(Some([9; 32]), ok!(keys.load_identity("2:5@lid")));
    for (user, known) in [("2", true), ("2:5", true), ("5", false), ("", false), ("2@", false)] {
        assert_eq!(known, ok!(keys.has_signal_state_for_user(user)), "{user}");
    }
    ok!(keys.delete_identity("2:5@lid"));
    assert_eq!(None, ok!(keys.load_identity("2:5@lid")));

    assert_eq!(0, ok!(keys.get_max_prekey_id()));
    let made: Vec<(u32, Bytes)> =
        [1, 256, 300].map(|id: u32| (id, Bytes::copy_from_slice(&id.to_le_bytes()))).into();
    ok!(keys.store_prekeys_batch(&made, false));
    assert_eq!(300, ok!(keys.get_max_prekey_id()));
    ok!(keys.remove_prekey(256));
    ok!(keys.mark_prekeys_uploaded(&[1, 256]));
    assert_eq!(
        [made[0].clone(), made[2].clone()],
        ok!(keys.load_prekeys_batch(&[1, 256, 300]))[..]
    );

    ok!(keys.store_signed_prekey(2, b"y"));
    ok!(keys.store_signed_prekey(1, b"x"));
    let all = ok!(keys.load_all_signed_prekeys());
    assert_eq!([(1, b"x".to_vec()), (2, b"y".to_vec())], all[..]);

    let record = DeviceListRecord {
        user: "1".to_owned(),
        devices: vec![DeviceInfo::new(3, None)],
        timestamp: 5,
        phash: None,
        raw_id: Some(8),
    };
    ok!(keys.update_device_lists(vec![record]));
    assert_eq!(Some(8), ok!(keys.get_devices("1")).and_then(|record| record.raw_id));
    ok!(keys.delete_devices("1"));
    assert!(ok!(keys.get_devices("1")).is_none());
}

#[test]
fn a_groups_devices_are_its_own() {
    let (_folder, keys) = keys();
    ok!(keys.set_sender_key_status("a@g.us", &[("1:1@lid", true), ("2:1@lid", false)]));
    ok!(keys.set_sender_key_status("b@g.us", &[("1:1@lid", true)]));
    let listed = |group| ok!(keys.get_sender_key_devices(group));
    assert_eq!([("1:1@lid".to_owned(), true), ("2:1@lid".to_owned(), false)], listed("a@g.us")[..]);
    ok!(keys.delete_sender_key_device_rows(&["1:1@lid"]));
    assert_eq!([("2:1@lid".to_owned(), false)], listed("a@g.us")[..]);
    assert!(listed("b@g.us").is_empty());
    ok!(keys.set_sender_key_status("b@g.us", &[("1:1@lid", true)]));
    ok!(keys.clear_sender_key_devices("a@g.us"));
    assert_eq!((0, 1), (listed("a@g.us").len(), listed("b@g.us").len()));
    ok!(keys.clear_all_sender_key_devices());
    assert!(listed("b@g.us").is_empty());
}

#[test]
fn a_person_is_found_by_both_names_and_by_no_old_one() {
    let (_folder, keys) = keys();
    ok!(keys.put_lid_mappings(&[mapping("10", "1"), mapping("20", "2")]));
    let phone_of = |lid| ok!(keys.get_lid_mapping(lid)).map(|found| found.phone_number);
    let lid_of = |phone| ok!(keys.get_pn_mapping(phone)).map(|found| found.lid);
    assert_eq!((Some("1"), Some("10")), (phone_of("10").as_deref(), lid_of("1").as_deref()));
    // A new number.
    ok!(keys.put_lid_mapping(&mapping("10", "3")));
    assert_eq!((None, Some("10")), (lid_of("1"), lid_of("3").as_deref()));
    // The number goes to somebody else; what its old owner gets next does not take it away.
    ok!(keys.put_lid_mapping(&mapping("30", "3")));
    ok!(keys.put_lid_mapping(&mapping("10", "4")));
    assert_eq!((Some("30"), Some("10")), (lid_of("3").as_deref(), lid_of("4").as_deref()));
    assert_eq!(3, ok!(keys.get_all_lid_mappings()).len());
}

#[test]
fn what_was_sent_is_taken_once() {
    let (_folder, keys) = keys();
    ok!(keys.store_sent_message("a@g.us", "1", b"text"));
    assert_eq!(None, ok!(keys.take_sent_message("b@g.us", "1")));
    assert_eq!(Some(b"text".to_vec()), ok!(keys.take_sent_message("a@g.us", "1")));
    assert_eq!(None, ok!(keys.take_sent_message("a@g.us", "1")));
    ok!(keys.store_sent_message("a@g.us", "2", b"text"));
    assert_eq!(0, ok!(keys.delete_expired_sent_messages(1)));
}

#[test]
fn what_came_is_kept_by_chat_sender_and_id() {
    let (_folder, keys) = keys();
    let row = |sender, id| PendingInboundRow { chat: "c", sender, id, message: b"m" };
    ok!(keys.store_pending_inbound_batch(&[row("ab", "c"), row("a", "bc")]));
    assert!(ok!(keys.get_pending_inbound("c", "ab", "c")).is_some());
    let key = PendingInboundKey { chat: "c", sender: "ab", id: "c" };
    ok!(keys.delete_pending_inbound_batch(&[key]));
    assert!(ok!(keys.get_pending_inbound("c", "ab", "c")).is_none());
    assert!(ok!(keys.get_pending_inbound("c", "a", "bc")).is_some());
}

#[test]
fn newer_tokens_win_and_dates_only_grow() {
    let (_folder, keys) = keys();
    let dates = |keys: &Keys| {
        let found = ok!(keys.get_tc_token("1@lid")).expect("kept");
        (found.token, found.token_timestamp, found.sender_timestamp)
    };
    ok!(keys.touch_tc_token_sender_timestamp("1@lid", 5));
    ok!(keys.touch_tc_token_sender_timestamp("1@lid", 3));
    assert_eq!((vec![], 5, Some(5)), dates(&keys));
    ok!(keys.store_received_tc_token("1@lid", b"new", 4));
    ok!(keys.store_received_tc_token("1@lid", b"old", 3));
    assert_eq!((b"new".to_vec(), 4, Some(5)), dates(&keys));
    assert_eq!(0, ok!(keys.delete_expired_tc_tokens(5, 5)));
    assert_eq!(0, ok!(keys.delete_expired_tc_tokens(4, 6)));
    assert_eq!(1, ok!(keys.delete_expired_tc_tokens(5, 6)));
    let bare = TcTokenEntry { token: vec![1], token_timestamp: 0, sender_timestamp: None };
    ok!(keys.put_tc_token("2@lid", &bare));
    assert_eq!(["2@lid"], ok!(keys.get_all_tc_token_jids())[..]);
}

#[test]
fn secrets_of_messages_live_as_long_as_the_longest_was_said() {
    let (_folder, keys) = keys();
    let put = |ends_at, sent_at| {
        ok!(keys.put_msg_secrets(vec![MsgSecretEntry {
            chat: "c".into(),
            sender: "s".into(),
            msg_id: "m".into(),
            secret: [7; 32],
            expires_at: ends_at,
            message_ts: sent_at,
        }]))
    };
    assert_eq!(1, put(20, 0));
    put(10, 5);
    put(10, 0);
    assert_eq!(Some((vec![7; 32], 5)), ok!(keys.get_msg_secret_with_ts("c", "s", "m")));
    assert_eq!(0, ok!(keys.delete_expired_msg_secrets(19)));
    put(0, 0);
    put(20, 0);
    assert_eq!(0, ok!(keys.delete_expired_msg_secrets(i64::MAX)));
    assert_eq!(Some(vec![7; 32]), ok!(keys.get_msg_secret("c", "s", "m")));
}

#[test]
fn a_batch_is_stored_whole_or_not_at_all() {
    let (_folder, keys) = keys();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON entry WHEN NEW.value = x'ff'
                  BEGIN SELECT RAISE(ABORT, 'no'); END";
    keys.with(|conn| conn.execute_batch(refuse)).expect("made");
    let batch = [("a".into(), Bytes::from_static(b"1")), ("b".into(), Bytes::from_static(b"\xff"))];
    block_on(keys.put_sessions_batch(&batch)).expect_err("refused");
    assert_eq!(None, ok!(keys.get_session("a")));
    let row = |id, message| PendingInboundRow { chat: "c", sender: "s", id, message };
    block_on(keys.store_pending_inbound_batch(&[row("1", b"1"), row("2", b"\xff")]))
        .expect_err("refused");
    assert_eq!(None, ok!(keys.get_pending_inbound("c", "s", "1")));
}

/// What a process had committed when it was killed is there for the next: nothing was closed.
#[test]
fn another_process_finds_what_a_killed_one_committed() {
    let (folder, keys) = keys();
    ok!(keys.put_session("a", b"1"));
    ok!(keys.put_lid_mapping(&mapping("10", "1")));
    let killed = tempfile::tempdir().expect("temporary folder");
    for entry in std::fs::read_dir(folder.path()).expect("folder") {
        let entry = entry.expect("entry");
        // A kill leaves the database and its log, not the memory that readers share.
        if entry.file_name() != "whatsapp.db-shm" {
            std::fs::copy(entry.path(), killed.path().join(entry.file_name())).expect("copied");
        }
    }
    let next = Keys::open(&killed.path().join("whatsapp.db")).expect("opens");
    assert_eq!(Some(Bytes::from_static(b"1")), ok!(next.get_session("a")));
    assert!(ok!(next.get_pn_mapping("1")).is_some());
}

#[test]
fn h66_what_was_sent_can_be_sealed_again_as_long_as_the_server_waits_for_a_phone() {
    let (_folder, keys) = keys();
    let day = 24 * 60 * 60;
    for (id, age) in [("young", 0), ("hours", 3 * 60 * 60), ("weeks", 29 * day), ("old", 31 * day)]
    {
        ok!(keys.store_sent_message("a@g.us", id, b"text"));
        let sql = "UPDATE entry SET at = at - ? WHERE key = CAST(? AS BLOB)";
        keys.with(|conn| conn.execute(sql, (age, id))).expect("no fault");
    }
    // The library would have all gone that is older than two hours.
    ok!(keys.delete_expired_sent_messages(i64::MAX));
    for (id, is_there) in [("young", true), ("hours", true), ("weeks", true), ("old", false)] {
        assert_eq!(is_there, ok!(keys.take_sent_message("a@g.us", id)).is_some(), "{id}");
    }
}

#[test]
fn keys_move_on_only_with_the_messages_that_they_opened() {
    let (_folder, keys) = keys();
    ok!(keys.put_session("a", b"before"));
    let row = PendingInboundRow { chat: "c", sender: "s", id: "m", message: b"text" };
    let refuse =
        "CREATE TRIGGER full BEFORE INSERT ON entry BEGIN SELECT RAISE(ABORT, 'full'); END";
    keys.with(|conn| conn.execute_batch(refuse)).expect("a trigger");
    block_on(keys.store_pending_inbound_batch(&[row])).expect_err("no room");
    keys.with(|conn| conn.execute_batch("DROP TRIGGER full")).expect("it is there");
    assert!(keys.is_spent());
    block_on(keys.put_session("a", b"after")).expect_err("the message was not kept");
    assert_eq!(Some(Bytes::from_static(b"before")), ok!(keys.get_session("a")));
}

#[test]
fn wiped_keys_are_gone_and_an_old_client_cannot_bring_them_back() {
    let (folder, keys) = keys();
    let path = folder.path().join("whatsapp.db");
    ok!(keys.create());
    let old = ok!(keys.load()).expect("made");
    ok!(keys.put_session("a", b"a planted secret"));
    Keys::open(&path).expect("opens").wipe().expect("wiped");
    for entry in std::fs::read_dir(folder.path()).expect("folder") {
        let bytes = std::fs::read(entry.expect("entry").path()).expect("readable");
        assert_eq!(None, memchr::memmem::find(&bytes, b"planted"));
    }
    block_on(keys.save(&old)).expect_err("not paired any more");
    let new = Keys::open(&path).expect("opens");
    block_on(keys.save(&old)).expect_err("not paired any more");
    block_on(keys.store_sent_message("c", "m", b"text")).expect_err("not paired any more");
    keys.wipe().expect_err("not its keys any more");
    assert!(!ok!(new.exists()));
    ok!(new.create());
    drop(keys);
    assert!(ok!(new.exists()));
    assert!(ok!(Keys::open(&path).expect("opens").exists()));
}

#[test]
fn keys_of_a_newer_program_are_left_alone() {
    let (folder, keys) = keys();
    let path = folder.path().join("whatsapp.db");
    keys.with(|conn| conn.pragma_update(None, "user_version", 2)).expect("set");
    drop(keys);
    let before = std::fs::read(&path).expect("readable");
    let Err(error) = Keys::open(&path) else { panic!("opened") };
    assert!(matches!(error, store::Error::SchemaTooNew { found: 2, known: 1 }), "{error}");
    assert_eq!(before, std::fs::read(&path).expect("readable"));
}
