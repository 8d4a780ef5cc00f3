//! The handle that a test holds: starts the servers, asks what happened, waits for it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wacore_binary::Jid;

use crate::fault::Fault;
use crate::journal::{ConnectionInfo, Journal};
use crate::link::{self, Link, LinkId};
use crate::state::{Address, Addressing, State, now_seconds};
use crate::xml::el;
use crate::{Account, http};

/// Lines of the trace that are shown where something waited for did not happen.
const TRACE_SHOWN: usize = 60;

/// WhatsApp's servers on loopback, with the phones of their users; stops when dropped.
///
/// All methods may be called from any thread. Phone numbers are given as digits (`15550001`).
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

/// The state, and a bell that rings whenever it has changed.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock has failed already; others still need it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    /// Waits for something; nothing where it did not come in time.
    pub(crate) fn poll<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits while a connection stands still.
    pub(crate) fn pass(&self, id: LinkId) {
        self.wait_while(|state| {
            let user = state.links.get(&id).and_then(Link::address).map(|of| of.user);
            state.faults.is_frozen(user)
        });
    }

    fn wait_while(&self, holds: impl Fn(&State) -> bool) {
        let waits = |state: &mut State| !state.stopping && holds(state);
        drop(self.changed.wait_while(self.lock(), waits));
    }
}

impl Server {
    /// Listens on loopback.
    ///
    /// # Panics
    /// No port is free.
    pub fn start() -> Server {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let (listener, blobs) = (bind(), bind());
        let local = |of: &TcpListener| of.local_addr().expect("a bound listener has an address");
        let (address, blob_address) = (local(&listener), local(&blobs));
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(blob_address.to_string())),
            changed: Condvar::new(),
        });
        let for_links = Arc::clone(&shared);
        let for_blobs = Arc::clone(&shared);
        let threads = vec![
            spawn("wa-accept", move || accept(&for_links, &listener)),
            spawn("wa-blobs", move || http::serve(&for_blobs, &blobs)),
        ];
        Server { shared, address, threads }
    }

    /// Where clients connect to.
    pub fn url(&self) -> String {
        format!("ws://{}/ws/chat", self.address)
    }

    /// Where media and history are served.
    pub fn http_url(&self) -> String {
        self.shared.look(|state| format!("http://{}", state.blob_host))
    }

    /// Public key of the root of the certificates, which a client has to be told to trust.
    pub fn root_key(&self) -> [u8; 32] {
        self.shared.look(|state| state.identity.root_key())
    }

    /// New static keys below the same root, as after a restart with another certificate: what
    /// clients remember for the fast handshake is wrong from now on.
    pub fn renew_keys(&self) {
        self.shared.change(|state| state.identity = Arc::new(state.identity.renewed()));
    }

    /// Opens an account, with its phone as the first device.
    pub fn account(&self, number: &str, name: &str) -> Account {
        self.shared.change(|state| state.open_account(number, name))
    }

    /// Whether companions of this account are told, when they are paired, to address chats by LID.
    pub fn set_lid_migrated(&self, number: &str, is_lid_migrated: bool) {
        self.shared.change(|state| {
            let user = state.user_by_number(number);
            state.users[user].is_lid_migrated = is_lid_migrated;
        });
    }

    /// The person writes another name of theirs on the phone.
    ///
    /// # Panics
    /// There is no such account.
    pub fn rename(&self, number: &str, name: &str) {
        self.shared.change(|state| {
            let user = state.user_by_number(number);
            name.clone_into(&mut state.users[user].name);
            for device in state.devices(user).into_iter().skip(1) {
                let notification = el("notification")
                    .attr("from", state.jid(Address { user, device: 0 }, Addressing::Pn))
                    .attr("type", "account_sync")
                    .attr("id", state.next_id())
                    .attr("t", now_seconds())
                    .attr("pushname", name);
                state.deliver(device, notification.build());
            }
        });
    }

    /// Causes a fault for all clients.
    pub fn fault(&self, fault: Fault) {
        self.shared.change(|state| state.cause(fault, None));
    }

    /// Causes a fault for the linked devices of one account.
    pub fn fault_for(&self, number: &str, fault: Fault) {
        self.shared.change(|state| {
            let user = state.user_by_number(number);
            state.cause(fault, Some(user));
        });
    }

    /// Looks at what was recorded.
    pub fn journal<T>(&self, look: impl FnOnce(&Journal) -> T) -> T {
        self.shared.look(|state| look(&state.journal))
    }

    /// Waits until `look` finds what it looks for in what was recorded.
    ///
    /// # Panics
    /// It did not within `patience`; the message has the end of the trace.
    #[track_caller]
    pub fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&Journal) -> Option<T>,
    ) -> T {
        self.shared
            .poll(Instant::now() + patience, |state| look(&state.journal))
            .unwrap_or_else(|| panic!("{what} did not happen in {patience:?}\n{}", self.trace()))
    }

    /// The end of the stanza trace, for a person.
    pub fn trace(&self) -> String {
        self.journal(|journal| {
            let lines: Vec<&str> = journal.trace_lines().collect();
            lines[lines.len().saturating_sub(TRACE_SHOWN)..].join("\n")
        })
    }

    /// Connections so far.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.journal(|journal| journal.connections.clone())
    }

    /// When connections came so far, refused ones too.
    pub fn attempts(&self) -> Vec<Instant> {
        self.journal(|journal| journal.attempts.clone())
    }

    /// The most connections that a device (`number` or `number:device`) had at the same time.
    pub fn max_connections_at_once(&self, device: &str) -> usize {
        self.journal(|journal| journal.max_connections_at_once(device))
    }

    /// Whether a companion of this account is logged in and has asked for what waited.
    pub fn is_online(&self, number: &str) -> bool {
        self.shared.look(|state| state.is_online(state.user_by_number(number)))
    }

    /// Waits until a companion of this account is logged in and has asked for what waited.
    ///
    /// # Panics
    /// It did not within `patience`.
    #[track_caller]
    pub fn wait_online(&self, number: &str, patience: Duration) {
        let online = |state: &State| state.is_online(state.user_by_number(number)).then_some(());
        let came = self.shared.poll(Instant::now() + patience, online);
        assert!(came.is_some(), "{number} was not online within {patience:?}\n{}", self.trace());
    }

    /// Linked devices of an account, by phone number.
    pub fn companions(&self, number: &str) -> Vec<Jid> {
        self.shared.look(|state| {
            let user = state.user_by_number(number);
            let devices = state.devices(user).into_iter().skip(1);
            devices.map(|device| state.jid(device, Addressing::Pn)).collect()
        })
    }

    /// Stanzas that wait for the account's linked devices to confirm them.
    pub fn unconfirmed(&self, number: &str) -> usize {
        self.shared.look(|state| {
            let user = &state.users[state.user_by_number(number)];
            user.companions.values().map(|companion| companion.queue.len()).sum()
        })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let blobs = self.shared.change(|state| {
            state.stopping = true;
            for link in state.links.values() {
                link.cut();
            }
            state.blob_host.clone()
        });
        // Wakes the threads that accept; where that fails they are awake or gone already.
        TcpStream::connect(self.address).ok();
        TcpStream::connect(blobs).ok();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            thread.join().ok();
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut count = 0;
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for stream in listener.incoming() {
        shared.wait_while(|state| state.faults.is_frozen(None));
        if shared.look(|state| state.stopping) {
            break;
        }
        // A client that is gone before it was accepted is no matter.
        let Ok(stream) = stream else { continue };
        threads.retain(|thread| !thread.is_finished());
        count += 1;
        match admit(shared, stream, LinkId(count)) {
            Ok(thread) => threads.extend(thread),
            Err(why) => shared.change(|state| state.journal.note(format!("-- c{count}: {why}"))),
        }
    }
    for thread in threads {
        thread.join().ok();
    }
}

/// Takes a connection in, or refuses it; the thread that serves it.
fn admit(
    shared: &Arc<Shared>,
    stream: TcpStream,
    id: LinkId,
) -> io::Result<Option<JoinHandle<()>>> {
    let kept = stream.try_clone()?;
    let now = Instant::now();
    let refused = shared.change(|state| {
        state.journal.attempts.push(now);
        if state.faults.refusing || state.stopping {
            return true;
        }
        state.links.insert(id, Link::new(kept));
        state.journal.connections.push(ConnectionInfo {
            link: id,
            device: None,
            opened: now,
            closed: None,
            handshake: None,
            logged_in: false,
            at_once: 0,
        });
        false
    });
    if refused {
        return Ok(None);
    }
    let shared = Arc::clone(shared);
    let serve = move || link::serve(&shared, &stream, id);
    thread::Builder::new().name(format!("wa-{id}")).spawn(serve).map(Some)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread can be started")
}
