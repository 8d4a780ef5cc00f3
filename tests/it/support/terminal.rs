//! A program at a terminal, and a person who types.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{PATIENCE, end};

/// Killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    /// The beginning of a character whose rest is still to come.
    begun: Vec<u8>,
}

impl Terminal {
    /// Starts `command` at a terminal of 80 columns.
    pub(crate) fn start(command: Command) -> Terminal {
        Terminal::start_at(command, 80, 24)
    }

    /// Starts `command` at a terminal of that size.
    pub(crate) fn start_at(mut command: Command, ws_col: u16, ws_row: u16) -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("it is ours");
        unlockpt(&ours).expect("it is ours");
        let size = rustix::termios::Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&ours, size).expect("a size");
        let name = ptsname(&ours, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let theirs = rustix::fs::open(name, flags, Mode::empty()).expect("it opens");
        let stdio = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a descriptor"));
        command.stdin(stdio(&theirs)).stdout(stdio(&theirs)).stderr(stdio(&theirs));
        command.env("TERM", "xterm");
        let child = command.spawn().expect("it starts");
        drop((command, theirs));
        let keyboard = File::from(ours);
        let mut from = keyboard.try_clone().expect("a descriptor");
        let (to, screen) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The read fails when the other side is gone.
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                if to.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keyboard, screen, shown: String::new(), begun: Vec::new() }
    }

    /// Types.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("it takes keys");
    }

    /// Waits until `text` is shown after all that was waited for before.
    pub(crate) fn expect(&mut self, text: &str) {
        self.until(text);
    }

    /// Whether what is typed is shown.
    pub(crate) fn is_echoing(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.keyboard).expect("it is a terminal");
        modes.local_modes.contains(rustix::termios::LocalModes::ECHO)
    }

    /// All that is shown until `text`, after all that was waited for before.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let mut all = String::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown.find(text) {
                all.extend(self.shown.drain(..at + text.len()));
                return all;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.show(&bytes),
                Err(error) => panic!("`{text}` is not shown ({error}): {:?}", self.shown),
            }
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.begun) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.begun.len(),
        };
        let whole: Vec<u8> = self.begun.drain(..whole).collect();
        self.shown.push_str(&String::from_utf8_lossy(&whole));
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Option<i32> {
        end(&mut self.child).expect("it ends").code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
