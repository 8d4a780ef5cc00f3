//! Wakes processes that wait for something new in the database.
//!
//! Who waits has a FIFO in `store/bells`, named `{pid}-{n}`, or `{pid}-{n}-{letters}` where it
//! wants to hear of some [`News`] only; who has committed something writes a byte into every FIFO
//! there that hears of it. Who wants to hear of more for a while gives its FIFO a second name. A
//! doorbell says that there is something to look for, never what: a ring may be lost with its
//! process, so a slow poll stays under it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::home::Home;

/// FIFOs that are rung; more there cannot be, since one process has a handful of them.
const BELLS_MAX: usize = 1024;

/// What happens so often that who has nothing to do with it is not woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A message was accepted.
    Message,
    /// Something is to be sent.
    Answer,
    /// A sandbox started, ended, or is busy or idle now.
    Run,
    /// A task's run ended.
    TaskRun,
}

impl News {
    fn letter(self) -> char {
        match self {
            News::Message => 'm',
            News::Answer => 'a',
            News::Run => 'r',
            News::TaskRun => 't',
        }
    }
}

/// A place to wait. Its FIFO goes when it is dropped.
#[derive(Debug)]
pub struct Doorbell {
    bells: PathBuf,
    path: PathBuf,
    fifo: Arc<OwnedFd>,
}

/// Wakes one [`Doorbell`] of this process from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Doorbell {
    /// Hangs up a bell in the home that hears every ring.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(home: &Home) -> io::Result<Doorbell> {
        Doorbell::hang(home, "")
    }

    /// Hangs up a bell that hears of `news`, and of all that is not said to be news of some kind.
    ///
    /// # Errors
    /// What the file system says.
    pub fn of(home: &Home, news: &[News]) -> io::Result<Doorbell> {
        Doorbell::hang(home, &format!("-{}", letters(news)))
    }

    /// Lets this bell hear of `news` too, until what is returned is dropped. What has happened
    /// before is to be looked for.
    ///
    /// # Errors
    /// What the file system says.
    pub fn hear_of(&self, news: &[News]) -> io::Result<Alias> {
        let path = self.bells.join(name(&format!("-{}", letters(news))));
        remove(&path)?;
        fs::hard_link(&self.path, &path)?;
        Ok(Alias(path))
    }

    fn hang(home: &Home, hears: &str) -> io::Result<Doorbell> {
        let bells = home.bells();
        let name = name(hears);
        // A FIFO that nobody reads is taken for a dead process's, so it gets its name when it is
        // open. It may be there: a process of this id may have died.
        let (hidden, path) = (bells.join(format!(".{name}")), bells.join(&name));
        remove(&hidden)?;
        make_fifo(&hidden)?;
        // Open for writing too, so that it never says that all writers are gone.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = Arc::new(rustix::fs::open(&hidden, flags, Mode::empty())?);
        fs::rename(&hidden, &path)?;
        Ok(Doorbell { bells, path, fifo })
    }

    /// Waits for a ring, at most for `timeout`; takes all that rang until now. Tells whether
    /// somebody did.
    pub fn wait(&self, timeout: Duration) -> bool {
        let waiting_since = Instant::now();
        loop {
            if drain(&self.fifo) {
                return true;
            }
            let rest = timeout.saturating_sub(waiting_since.elapsed());
            if rest.is_zero() {
                return false;
            }
            let mut waiting = [PollFd::new(&self.fifo, PollFlags::IN)];
            // What the system cannot count is as long as for ever.
            let rest = Timespec::try_from(rest).ok();
            if poll(&mut waiting, rest.as_ref()).is_err_and(|errno| errno != Errno::INTR) {
                return false;
            }
        }
    }

    /// Rings at every bell of the home but this.
    pub fn ring_others(&self) {
        ring(&self.bells, Some(&self.path), &[]);
    }

    /// Rings at every bell of the home.
    pub fn ring(home: &Home) {
        ring(&home.bells(), None, &[]);
    }

    /// Rings at those bells of the home that hear of one of `news`.
    pub fn tell(home: &Home, news: &[News]) {
        ring(&home.bells(), None, news);
    }

    /// Something with which other threads wake this one.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.fifo))
    }
}

impl Waker {
    /// Ends the wait, or the next one.
    pub fn wake(&self) {
        strike(&self.0);
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        take_down(&self.path);
    }
}

/// A second name of a [`Doorbell`]. It goes when this is dropped.
#[derive(Debug)]
pub struct Alias(PathBuf);

impl Drop for Alias {
    fn drop(&mut self) {
        take_down(&self.0);
    }
}

fn take_down(path: &Path) {
    if let Err(error) = remove(path) {
        log::debug!("cannot remove bell `{}`: {error}", path.display());
    }
}

/// A new name for one that hears of what `hears` says.
fn name(hears: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}{hears}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn letters(news: &[News]) -> String {
    news.iter().map(|news| news.letter()).collect()
}

/// Whether the bell of that name hears of `news`; nothing said is for all.
fn hears(bell: &str, news: &[News]) -> bool {
    match bell.splitn(3, '-').nth(2) {
        Some(letters) if !news.is_empty() => {
            news.iter().any(|news| letters.contains(news.letter()))
        }
        _ => true,
    }
}

/// Never fails for who rings: what is committed is found by the next poll too.
fn ring(bells: &Path, except: Option<&Path>, news: &[News]) {
    let entries = match fs::read_dir(bells) {
        Ok(entries) => entries,
        Err(error) => return log::debug!("cannot list bells: {error}"),
    };
    for entry in entries.take(BELLS_MAX).flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || !hears(&name, news) {
            continue;
        }
        let path = entry.path();
        if except.is_some_and(|except| path == except) {
            continue;
        }
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fifo) => strike(&fifo),
            // Nobody has it open for reading: its process is dead.
            Err(Errno::NXIO) => take_down(&path),
            Err(errno) => log::debug!("cannot ring at `{}`: {errno}", path.display()),
        }
    }
}

fn strike(fifo: &OwnedFd) {
    match rustix::io::write(fifo, &[1]) {
        // Full: it rings already.
        Ok(_) | Err(Errno::AGAIN) => (),
        // Its process has just gone. The runtime ignores SIGPIPE.
        Err(errno) => log::debug!("a bell did not ring: {errno}"),
    }
}

/// Tells whether there was anything.
fn drain(fifo: &OwnedFd) -> bool {
    let mut bytes = [0; 4096];
    let mut rang = false;
    while rustix::io::read(fifo, &mut bytes).is_ok_and(|count| 0 < count) {
        rang = true;
    }
    rang
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(not(target_vendor = "apple"))]
fn make_fifo(path: &Path) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)?)
}

/// There `rustix` has no call for it, so the system's own program does it.
#[cfg(target_vendor = "apple")]
fn make_fifo(path: &Path) -> io::Result<()> {
    let made = std::process::Command::new("/usr/bin/mkfifo")
        .args(["-m", "600", "--"])
        .arg(path)
        .status()?;
    if made.success() { Ok(()) } else { Err(io::Error::other("`mkfifo` failed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any test may take.
    const LONG: Duration = Duration::from_mins(1);

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path());
        fs::create_dir_all(home.bells()).expect("a directory");
        (dir, home)
    }

    fn bells(home: &Home) -> usize {
        fs::read_dir(home.bells()).expect("a directory").count()
    }

    #[test]
    fn a_ring_reaches_all_but_who_rings_and_is_heard_once() {
        let (_dir, home) = home();
        let (a, b) = (Doorbell::new(&home).expect("a"), Doorbell::new(&home).expect("b"));
        a.ring_others();
        a.ring_others();
        assert!(!a.wait(Duration::ZERO));
        assert!(b.wait(LONG));
        assert!(!b.wait(Duration::ZERO), "both rings were taken at once");
        Doorbell::ring(&home);
        assert!(a.wait(LONG) && b.wait(LONG));
    }

    #[test]
    fn who_wants_some_news_hears_those_and_all_that_is_for_everybody() {
        let (_dir, home) = home();
        let all = Doorbell::new(&home).expect("a bell");
        let none = Doorbell::of(&home, &[]).expect("a bell");
        let some = Doorbell::of(&home, &[News::Message, News::Run]).expect("a bell");
        let heard = || [&all, &none, &some].map(|bell| bell.wait(Duration::ZERO));
        Doorbell::tell(&home, &[News::Run]);
        assert_eq!([true, false, true], heard());
        Doorbell::tell(&home, &[News::Answer, News::Message]);
        assert_eq!([true, false, true], heard());
        Doorbell::tell(&home, &[News::Answer, News::TaskRun]);
        assert_eq!([true, false, false], heard());
        Doorbell::ring(&home);
        assert_eq!([true; 3], heard());
        let alias = none.hear_of(&[News::Answer]).expect("a second name");
        Doorbell::tell(&home, &[News::Answer]);
        assert_eq!([true, true, false], heard());
        drop(alias);
        Doorbell::tell(&home, &[News::Answer]);
        assert_eq!([true, false, false], heard());
        assert_eq!(3, bells(&home));
    }

    #[test]
    fn a_ring_ends_a_wait_that_has_begun() {
        let (_dir, home) = home();
        let bell = Doorbell::new(&home).expect("a bell");
        let waker = bell.waker();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| bell.wait(LONG));
            waker.wake();
            assert!(waiter.join().expect("no panic"));
        });
        assert!(!bell.wait(Duration::from_millis(1)));
    }

    #[test]
    fn a_bell_goes_with_its_owner_and_a_dead_one_with_the_first_ring() {
        let (_dir, home) = home();
        let bell = Doorbell::new(&home).expect("a bell");
        assert_eq!(1, bells(&home));
        drop(bell);
        assert_eq!(0, bells(&home));
        make_fifo(&home.bells().join("1-0")).expect("a dead process's bell");
        fs::write(home.bells().join(".1-1"), "").expect("one that is being made");
        Doorbell::ring(&home);
        assert_eq!(1, bells(&home), "only the one that is being made is left");
    }

    #[test]
    fn a_bell_that_nobody_hears_never_blocks() {
        let (_dir, home) = home();
        let bell = Doorbell::new(&home).expect("a bell");
        for _ in 0..100_000 {
            bell.waker().wake();
        }
        assert!(bell.wait(LONG));
        assert!(!bell.wait(Duration::ZERO));
    }
}
