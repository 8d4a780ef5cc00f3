//! Each result between the markers is said at once, however it is cut into pieces.

use super::home;

#[test]
fn several_results_are_several_messages() {
    let home = home();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "hi nano:results=3");
    home.wait_answers(&chat, &["Andy: result 1", "Andy: result 2", "Andy: result 3"]);
    assert_eq!(Some(0), daemon.stop());
}

#[test]
fn a_frame_in_single_bytes_is_whole() {
    let home = home();
    let chat = home.register("a");
    let daemon = home.start();
    home.inject(&chat, "päck 📦 nano:bytes");
    home.wait_answers(&chat, &["Andy: said: päck 📦 nano:bytes"]);
    assert_eq!(Some(0), daemon.stop());
}
