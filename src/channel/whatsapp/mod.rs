//! `WhatsApp`: two threads, and what the protocol library needs of the world over a few more.
//!
//! | thread | owns | woken by |
//! |---|---|---|
//! | whatsapp | the `link`: connection, states, pairing, typing | doorbell, the library, 4 s |
//! | delivery-whatsapp | the `outbound` messages | doorbell, acknowledgements, 15 s |
//! | whatsapp-pool-1, -timer | the library's tasks | each other |
//! | whatsapp-read | the socket | the network |
//!
//! A message that comes is committed by `inbound`, on the library's thread, before the library may
//! acknowledge it. One of the two threads that panics is made again after a pause; nothing else
//! notices.

mod certificate;
mod connection;
mod content;
mod ears;
pub(crate) mod groups;
mod http;
mod identity;
mod inbound;
mod keys;
mod line;
mod link;
mod outbound;
mod pace;
pub(crate) mod pairing;
mod presence;
mod runtime;
mod session;
mod state;
mod tls;
mod transport;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use self::certificate::{Endpoint, certificates_are_checked};
use self::line::Line;
use self::link::Given;
use self::outbound::{Outbound, Word};
use crate::channel::{self, Ended};
use crate::config::Settings;
use crate::doorbell::{Doorbell, News, Waker};
use crate::home::Home;
use crate::limits::{
    LINK_CLOSE_MAX, LINK_RESTART_FIRST, LINK_RETRY_MAX, POLL_INTERVAL, WHATSAPP_WORDS_MAX,
};
use crate::store::{self, Store};
use crate::threads::join_by;

/// The channel at work. Dropped, it ends the connection and joins its threads.
pub struct WhatsApp {
    is_stopping: Arc<AtomicBool>,
    bells: Vec<Waker>,
    threads: Vec<JoinHandle<()>>,
}

impl WhatsApp {
    /// Starts the threads. Whether there is a device, a network or a server shows later, in the
    /// state that `status` tells of; none of it keeps the program from anything else.
    ///
    /// # Errors
    /// The system has no thread or FIFO to give.
    pub fn start(home: &Home, settings: &Settings) -> io::Result<WhatsApp> {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let mut whatsapp =
            WhatsApp { is_stopping: Arc::clone(&is_stopping), bells: vec![], threads: vec![] };
        let url = &settings.whatsapp_url;
        let endpoint = match Endpoint::parse(url, certificates_are_checked()) {
            Ok(endpoint) => endpoint,
            Err(refused) => {
                let reason = format!("WHATSAPP_URL: `{url}` {refused}");
                log::info!("whatsapp is off: {reason}");
                link::store_refused(home, &reason);
                return Ok(whatsapp);
            }
        };
        let line = Arc::new(Line::default());
        let (to_words, words) = bounded(WHATSAPP_WORDS_MAX);
        let given = Given {
            home: home.clone(),
            settings: settings.clone(),
            endpoint,
            roots: std::env::var_os("SSL_CERT_FILE").map(PathBuf::from),
            line: Arc::clone(&line),
            words: to_words.clone(),
            is_stopping: Arc::clone(&is_stopping),
        };
        let bell = whatsapp.hang_bell(home)?;
        whatsapp.spawn("whatsapp", move || {
            supervise(&given.is_stopping, &bell, || {
                link::run(&given, &bell).map_err(|error| crate::chain(&error))
            });
        })?;
        let (bell, home) = (whatsapp.hang_bell(home)?, home.clone());
        whatsapp.spawn("delivery-whatsapp", move || {
            line.delivery(bell.waker());
            supervise(&is_stopping, &bell, || {
                deliver(&home, &line, (&words, &to_words), &bell, &is_stopping)
            });
        })?;
        Ok(whatsapp)
    }

    /// Who is linked to nobody wants no news.
    fn hang_bell(&mut self, home: &Home) -> io::Result<Doorbell> {
        let bell = Doorbell::of(home, &[])?;
        self.bells.push(bell.waker());
        Ok(bell)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(body)?);
        Ok(())
    }
}

impl Drop for WhatsApp {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        for bell in &self.bells {
            bell.wake();
        }
        let deadline = Instant::now() + 2 * LINK_CLOSE_MAX;
        for thread in self.threads.drain(..) {
            join_by(thread, deadline);
        }
    }
}

/// Runs `body` until it returns because the program stops; after a panic or an error again, with
/// growing pauses.
fn supervise(is_stopping: &AtomicBool, bell: &Doorbell, body: impl Fn() -> Result<(), String>) {
    let name = thread::current().name().unwrap_or_default().to_owned();
    let mut pause = LINK_RESTART_FIRST;
    while !is_stopping.load(Ordering::Relaxed) {
        let began = Instant::now();
        let why = match catch_unwind(AssertUnwindSafe(&body)) {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_) => "it panicked".to_owned(),
        };
        // What has run for long has not failed again and again.
        if LINK_RETRY_MAX < began.elapsed() {
            pause = LINK_RESTART_FIRST;
        }
        log::error!("the thread `{name}` begins again in {} s: {why}", pause.as_secs());
        let until = Instant::now() + pause;
        while !is_stopping.load(Ordering::Relaxed) && Instant::now() < until {
            bell.wait(until.saturating_duration_since(Instant::now()));
        }
        pause = (2 * pause).min(LINK_RETRY_MAX);
    }
}

/// Delivers while the link is online.
fn deliver(
    home: &Home,
    line: &Arc<Line>,
    (words, to_words): (&Receiver<Word>, &Sender<Word>),
    bell: &Doorbell,
    is_stopping: &AtomicBool,
) -> Result<(), String> {
    let failed = |error: store::Error| crate::chain(&error);
    let mut outbound = Outbound::new(Arc::clone(line), words.clone(), to_words.clone());
    let goes_on = || !is_stopping.load(Ordering::Relaxed);
    while goes_on() {
        if line.online().is_none() {
            bell.wait(OFFLINE_WAIT);
            continue;
        }
        let _news = bell.hear_of(&[News::Answer]).map_err(|error| error.to_string())?;
        let mut store = Store::open(&home.database()).map_err(failed)?;
        match channel::deliver(&mut store, bell, &mut outbound, true, &goes_on) {
            Ok(Ended::Done) => {}
            Ok(Ended::Down { why }) => log::debug!("no delivery: {why}"),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// The net under the link's own ring.
const OFFLINE_WAIT: Duration = Duration::from_secs(15 * POLL_INTERVAL.as_secs());

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn what_panics_or_fails_begins_again_with_growing_pauses() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = Home::at(folder.path());
        home.create().expect("a home");
        let bell = Doorbell::new(&home).expect("a bell");
        let (count, began) = (AtomicUsize::new(0), Instant::now());
        supervise(&AtomicBool::new(false), &bell, || match count.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("at first"),
            1 => Err("then".to_owned()),
            _ => Ok(()),
        });
        assert_eq!(3, count.into_inner());
        assert!(3 * LINK_RESTART_FIRST <= began.elapsed(), "5 s, then 10 s");
    }
}
