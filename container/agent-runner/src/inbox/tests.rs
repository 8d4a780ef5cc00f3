use std::fs;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn message(text: &str) -> String {
    serde_json::to_string(&FollowUp::Message { text: text.to_owned() }).expect("serialises")
}

/// Lays `files` into a fresh folder and says which texts a first look hands out.
fn check(files: &[(&str, &str)], expected: &[&str]) -> (tempfile::TempDir, Inbox) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in files {
        fs::write(folder.path().join(name), content).expect("writes");
    }
    let mut inbox = Inbox::watching(folder.path().to_owned());
    let look = inbox.look(64);
    let texts: Vec<&str> = look.letters.iter().map(|letter| letter.text.as_str()).collect();
    assert_eq!(expected, texts);
    (folder, inbox)
}

#[test]
fn follow_ups_come_in_numeric_order() {
    let files = [("10-0.json", "c"), ("9-10.json", "b"), ("9-2.json", "a")];
    let files = files.map(|(name, text)| (name, message(text)));
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    check(&files, &["a", "b", "c"]);
}

#[test]
fn nanoclaws_names_are_follow_ups_too() {
    check(&[("1771459200000-x7f2.json", &message("hi"))], &["hi"]);
}

#[test]
fn names_of_other_things_are_left_alone() {
    let text = message("no");
    let names = [".1-1.json.tmp", "1-1.json.tmp", "1-1", "x-1.json", "1-.json", "note.json"];
    let files: Vec<_> = names.iter().map(|name| (*name, text.as_str())).collect();
    let (folder, _inbox) = check(&files, &[]);
    assert_eq!(names.len(), fs::read_dir(folder.path()).expect("lists").count());
}

#[test]
fn bad_files_are_removed_and_the_good_one_behind_them_is_read() {
    let long = message(&"x".repeat(1024 * 1024));
    let files = [
        ("1-1.json", "not json"),
        ("1-2.json", r#"{"type":"other","text":"x"}"#),
        ("1-3.json", long.as_str()),
        ("1-4.json", r#"{"type":"message","text":"good"}"#),
    ];
    let (folder, _inbox) = check(&files, &["good"]);
    assert_eq!(1, fs::read_dir(folder.path()).expect("lists").count());
}

#[test]
fn links_and_pipes_are_removed_and_neither_followed_nor_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let secret = folder.path().join("secret");
    fs::write(&secret, message("stolen")).expect("writes");
    std::os::unix::fs::symlink(&secret, folder.path().join("1-1.json")).expect("links");
    let fifo = folder.path().join("1-2.json");
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("makes a pipe");
    fs::create_dir(folder.path().join("1-3.json")).expect("makes a folder");
    let mut inbox = Inbox::watching(folder.path().to_owned());
    assert_eq!(Look::default(), inbox.look(64));
    assert!(secret.exists());
    assert!(!fifo.exists());
    assert_eq!(Look::default(), inbox.look(64), "a folder that stays is not looked at again");
}

#[test]
fn h07_a_text_is_used_once_even_where_deleting_fails() {
    let (folder, mut inbox) = check(&[("1-1.json", &message("once"))], &["once"]);
    // The file cannot be deleted: something that is no file stands in its place.
    fs::remove_file(folder.path().join("1-1.json")).expect("removes");
    fs::create_dir(folder.path().join("1-1.json")).expect("makes a folder");
    inbox.taken("1-1.json");
    fs::remove_dir(folder.path().join("1-1.json")).expect("removes");
    fs::write(folder.path().join("1-1.json"), message("once")).expect("writes");
    assert_eq!(Look::default(), inbox.look(64));
}

#[test]
fn a_file_is_deleted_when_taken_and_not_before() {
    let (folder, mut inbox) = check(&[("1-1.json", &message("a"))], &["a"]);
    assert!(folder.path().join("1-1.json").exists());
    assert_eq!(Look::default(), inbox.look(64), "handed out once");
    inbox.taken("1-1.json");
    assert!(!folder.path().join("1-1.json").exists());
}

#[test]
fn h05_nothing_is_handed_out_beside_the_close_file_and_nothing_is_removed() {
    let (folder, mut inbox) = check(&[("1-1.json", &message("late")), (CLOSE_FILE, "")], &[]);
    let closed = Look { is_closing: true, letters: Vec::new() };
    assert_eq!(closed, inbox.look(64));
    assert!(folder.path().join("1-1.json").exists());
    assert!(!folder.path().join(CLOSE_FILE).exists());
}

#[test]
fn h05_in_a_thousand_races_with_close_a_follow_up_is_handed_out_or_still_there() {
    for round in 0..1000 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Not watched: that would cost most of the time.
        let folder_path = folder.path().to_owned();
        let mut inbox = Inbox { folder: folder_path, is_closing: false, ..Inbox::closed() };
        let mut seen = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                fs::write(folder.path().join("tmp"), message("raced")).expect("writes");
                fs::rename(folder.path().join("tmp"), folder.path().join("1-0.json"))
                    .expect("renames");
            });
            scope.spawn(|| fs::write(folder.path().join(CLOSE_FILE), "").expect("writes"));
            loop {
                let look = inbox.look(64);
                for letter in look.letters {
                    seen += 1;
                    inbox.taken(&letter.name);
                }
                if look.is_closing {
                    break;
                }
            }
        });
        let left = usize::from(folder.path().join("1-0.json").exists());
        assert_eq!(1, seen + left, "round {round}: seen {seen}, left {left}");
    }
}

#[test]
fn no_more_than_asked_for_are_handed_out_and_the_rest_comes_next() {
    let files: Vec<_> = (0..5).map(|n| (format!("1-{n}.json"), message(&n.to_string()))).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in &files {
        fs::write(folder.path().join(name), content).expect("writes");
    }
    let mut inbox = Inbox::watching(folder.path().to_owned());
    assert_eq!(3, inbox.look(3).letters.len());
    assert_eq!(2, inbox.look(3).letters.len());
}

#[test]
fn the_bell_rings_for_a_file_that_is_renamed_into_place() {
    let (folder, mut inbox) = check(&[], &[]);
    fs::write(folder.path().join("tmp"), message("hi")).expect("writes");
    fs::rename(folder.path().join("tmp"), folder.path().join("1-1.json")).expect("renames");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while inbox.look(1).letters.is_empty() {
        assert!(inbox.bell().recv_deadline(deadline).is_ok(), "the bell rings");
    }
}

proptest! {
    #[test]
    fn any_name_has_an_order_or_none_and_never_panics(name in ".{0,40}") {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        prop_assert!(order(&name).is_none() || name.chars().all(is_plain));
    }
}
