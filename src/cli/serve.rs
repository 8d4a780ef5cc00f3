//! Somebody who serves the home folder while a command waits: a daemon that runs already, or one
//! of our own for as long as the command lasts.

use std::cell::Cell;

use crossbeam_channel::{Receiver, bounded};

use super::Error;
use crate::config::Settings;
use crate::daemon::{Daemon, Duty};
use crate::home::{Home, LockError, Purpose};
use crate::sandbox::keeper;
use crate::store::Store;

/// Who serves.
pub(super) struct Server {
    own: Option<Daemon>,
    purpose: Purpose,
    duty: Duty,
    /// Words of SIGINT and SIGTERM.
    signals: Receiver<()>,
    was_interrupted: Cell<bool>,
}

impl Server {
    /// Becomes the daemon, with `duty`, where none serves the home folder. From now on signals wait
    /// for who asks: what was begun must not go on without us.
    ///
    /// # Errors
    /// A daemon that cannot start.
    pub(super) fn find(
        home: &Home,
        settings: &Settings,
        purpose: Purpose,
        duty: Duty,
    ) -> Result<Server, Error> {
        let signals = super::run::signals()?;
        let was_interrupted = Cell::new(false);
        let mut server = Server { own: None, purpose, duty, signals, was_interrupted };
        server.stand_in(home, settings)?;
        Ok(server)
    }

    /// Becomes the daemon, should nobody be it any more.
    ///
    /// # Errors
    /// A daemon that cannot start.
    pub(super) fn stand_in(&mut self, home: &Home, settings: &Settings) -> Result<(), Error> {
        if self.own.is_some() {
            return Ok(());
        }
        match home.lock(self.purpose) {
            Ok(lock) => {
                super::run::log_to_file(home, settings)?;
                self.own = Some(Daemon::start(home, settings.clone(), lock, self.duty)?);
                Ok(())
            }
            Err(LockError::Held { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the daemon is our own.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// # Errors
    /// [`Error::Interrupted`] once a signal has asked us to end.
    pub(super) fn check_signals(&self) -> Result<(), Error> {
        if self.signals.try_recv().is_ok() {
            self.was_interrupted.set(true);
        }
        if self.was_interrupted.get() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Ends a daemon of our own: politely, but after a signal, or with one, at once.
    ///
    /// # Errors
    /// A core thread that died.
    pub(super) fn close(self) -> Result<(), Error> {
        match self.own {
            Some(mut daemon) if self.was_interrupted.get() => {
                let (say, at_once) = bounded(1);
                say.try_send(()).ok();
                Ok(daemon.stop(&at_once)?)
            }
            Some(mut daemon) => Ok(daemon.stop(&self.signals)?),
            None => Ok(()),
        }
    }
}

/// Why nothing can run at the moment, and what mends it.
///
/// # Errors
/// The database.
pub(super) fn engine_down(store: &Store) -> Result<Option<(String, String)>, Error> {
    let engine = store.get_state(keeper::STATE_KEY)?;
    let engine: Option<serde_json::Value> =
        engine.and_then(|text| serde_json::from_str(&text).ok());
    let Some(engine) = engine.filter(|engine| engine["state"] == "down") else { return Ok(None) };
    let text = |key: &str| engine[key].as_str().unwrap_or_default().to_owned();
    Ok(Some((text("why"), text("mend"))))
}
