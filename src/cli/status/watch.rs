//! `status --watch`: the status as a screen that is drawn anew whenever something happens.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};

use crate::cli::{Error, out};
use crate::doorbell::{Doorbell, Waker};
use crate::home::Home;

/// A look where nobody rang: ages go on.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Shows what `gather` finds until the person leaves.
///
/// # Errors
/// No terminal; what `gather` fails with. The terminal is as before then.
pub(super) fn watch(
    home: &Home,
    mut gather: impl FnMut() -> Result<Value, Error>,
) -> Result<(), Error> {
    if !out::is_interactive() {
        let next = "`rust-claw status` prints it once";
        return Err(Error::Refused(format!("--watch needs a terminal; {next}")));
    }
    let bell = Doorbell::new(home)?;
    let (to, leaves) = bounded(1);
    listen_to_signals(to.clone(), bell.waker())?;
    listen_to_keys(to, bell.waker())?;
    let _screen = Screen::take()?;
    let mut shown = String::new();
    while !is_left(&leaves) {
        let lines = super::lines::lines(&gather()?);
        let size = tcgetwinsize(std::io::stdout()).map_err(std::io::Error::from)?;
        let frame = frame(&lines, usize::from(size.ws_col), usize::from(size.ws_row));
        if frame != shown {
            write(&frame)?;
            shown = frame;
        }
        bell.wait(LOOK_INTERVAL);
    }
    Ok(())
}

fn is_left(leaves: &Receiver<()>) -> bool {
    leaves.try_recv().is_ok()
}

/// Signals that end it, and the one that tells of another size.
fn listen_to_signals(leave: Sender<()>, bell: Waker) -> Result<(), Error> {
    let wanted = [SIGTERM, SIGINT, SIGHUP, SIGWINCH];
    let mut signals = signal_hook::iterator::Signals::new(wanted)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if signal != SIGWINCH {
                // One word is enough.
                leave.try_send(()).ok();
            }
            bell.wake();
        }
    })?;
    Ok(())
}

/// Ends with the program: nothing can wake it from reading the terminal.
fn listen_to_keys(leave: Sender<()>, bell: Waker) -> Result<(), Error> {
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        for key in std::io::stdin().lock().bytes() {
            // Ctrl-C and Ctrl-D come as bytes here.
            if matches!(key, Ok(b'q' | b'Q' | 3 | 4) | Err(_)) {
                break;
            }
        }
        leave.try_send(()).ok();
        bell.wake();
    })?;
    Ok(())
}

/// The whole screen in one piece, so that it never shows half of it. No line is cleared before it is
/// written over. Source: ECMA-48; `?2026`, which holds the drawing back, is ignored where unknown.
fn frame(lines: &[String], columns: usize, rows: usize) -> String {
    let is_cut = rows < lines.len();
    let kept = if is_cut { rows.saturating_sub(1) } else { lines.len() };
    let mut frame = String::from("\x1b[?2026h\x1b[H");
    for (number, line) in lines[..kept].iter().enumerate() {
        let end = if number + 1 == rows { "" } else { "\r\n" };
        // A string takes all.
        write!(frame, "{}\x1b[K{end}", clipped(line, columns)).ok();
    }
    if is_cut {
        let more = format!("… {} more lines; q leaves", lines.len() - kept);
        write!(frame, "{}\x1b[K", clipped(&more, columns)).ok();
    } else if kept < rows {
        write!(frame, "{}\x1b[K", clipped("q leaves", columns)).ok();
    }
    frame.push_str("\x1b[J\x1b[?2026l");
    frame
}

/// As much of a line as fits. What may be wide is taken for wide: too short is better than broken.
fn clipped(line: &str, columns: usize) -> String {
    let mut used = 0;
    line.chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .take_while(|c| {
            used += if u32::from(*c) < 0x1100 || *c == '…' { 1 } else { 2 };
            used <= columns
        })
        .collect()
}

fn write(text: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// The other screen of the terminal, without a cursor, with keys as they come; given back when
/// dropped.
struct Screen(Termios);

impl Screen {
    fn take() -> Result<Screen, Error> {
        let before = tcgetattr(std::io::stdin()).map_err(std::io::Error::from)?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(std::io::stdin(), OptionalActions::Now, &modes).map_err(std::io::Error::from)?;
        let screen = Screen(before);
        write("\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        write("\x1b[?25h\x1b[?1049l").ok();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("line {number} {}", "x".repeat(100))).collect()
    }

    /// What a terminal of that size would show; `None` where it would have scrolled or wrapped.
    fn screen(frame: &str, columns: usize, rows: usize) -> Option<Vec<String>> {
        let text = frame.replace("\x1b[?2026h", "").replace("\x1b[?2026l", "");
        let text = text.replace("\x1b[H", "").replace("\x1b[K", "").replace("\x1b[J", "");
        let shown: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        let fits = |line: &String| line.chars().count() <= columns && !line.contains('\x1b');
        (shown.len() <= rows && shown.iter().all(fits)).then_some(shown)
    }

    #[test]
    fn a_frame_fits_whatever_the_terminal() {
        for columns in [1, 20, 80, 200] {
            for rows in [1, 2, 24, 60] {
                for count in [0, 1, 23, 24, 25, 500] {
                    let frame = frame(&lines(count), columns, rows);
                    let shown = screen(&frame, columns, rows);
                    assert!(shown.is_some(), "{columns}x{rows} {count}: {frame:?}");
                }
            }
        }
        let shown = screen(&frame(&lines(30), 80, 24), 80, 24).expect("it fits");
        assert_eq!("… 7 more lines; q leaves", shown[23]);
        let shown = screen(&frame(&lines(3), 80, 24), 80, 24).expect("it fits");
        assert_eq!("q leaves", shown[3]);
    }

    #[test]
    fn wide_letters_count_twice() {
        assert_eq!("小助", clipped("小助手", 5));
        assert_eq!("ab c", clipped("ab\tcd", 4));
    }
}
