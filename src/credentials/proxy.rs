//! The proxy's life: the socket, the thread that accepts, and the threads of the connections.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rust_claw_protocol::inside::PROXY_SOCKET;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::registry::Registry;
use super::wire::Stream;
use super::{Error, ProxyHandle, Upstream, exchange};
use crate::limits::{PROXY_CLIENT_WAIT_MAX, PROXY_CONNECTIONS_MAX};

/// After the system refused a connection or a thread, how long no further one is taken.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Where sandboxes find the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A socket in this directory, which becomes ours alone (0700). To be mounted read-only.
    Unix(PathBuf),
    /// A port of 127.0.0.1 that the system chooses.
    Loopback,
}

/// Where the proxy listens, as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The socket.
    Unix(PathBuf),
    /// The port.
    Tcp(SocketAddr),
}

/// The running proxy; it stops, and all its connections with it, when this is dropped.
pub struct Proxy {
    registry: Arc<Registry>,
    address: Address,
    acceptor: Option<JoinHandle<()>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Listens, and passes on to `upstream`.
    ///
    /// # Errors
    /// [`Error::Listen`], [`Error::Start`].
    pub fn start(listen: &Listen, upstream: Upstream) -> Result<Proxy, Error> {
        let (listener, address) = Listener::bind(listen)?;
        let failed = |source| Error::Start { source };
        let (bell, woken) = UnixStream::pair().map_err(failed)?;
        bell.set_nonblocking(true).map_err(failed)?;
        woken.set_nonblocking(true).map_err(failed)?;
        let registry = Arc::new(Registry::new(upstream, bell));
        let mut acceptor =
            Acceptor { registry: registry.clone(), listener, woken, threads: BTreeMap::new() };
        let acceptor = thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || acceptor.run())
            .map_err(failed)?;
        Ok(Proxy { registry, address, acceptor: Some(acceptor) })
    }

    /// Gives out tokens, from any thread.
    pub fn handle(&self) -> ProxyHandle {
        ProxyHandle(self.registry.clone())
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.registry.stop();
        if self.acceptor.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the proxy's thread panicked");
        }
        if let Address::Unix(path) = &self.address
            && let Err(error) = fs::remove_file(path)
        {
            log::debug!("cannot remove `{}`: {error}", path.display());
        }
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    fn bind(listen: &Listen) -> Result<(Listener, Address), Error> {
        let bound = match listen {
            Listen::Unix(folder) => bind_unix(folder),
            Listen::Loopback => bind_tcp(),
        };
        bound.map_err(|source| {
            let place = match listen {
                Listen::Unix(folder) => folder.display().to_string(),
                Listen::Loopback => Ipv4Addr::LOCALHOST.to_string(),
            };
            Error::Listen { place, source }
        })
    }

    /// Takes a connection as [`Stream`].
    fn accept(&self) -> io::Result<Stream> {
        let stream = match self {
            Listener::Unix(listener) => listener.accept()?.0,
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Stream::from(OwnedFd::from(stream))
            }
        };
        // Some systems hand the listener's mode down.
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PROXY_CLIENT_WAIT_MAX))?;
        Ok(stream)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Unix(listener) => listener.as_fd(),
            Listener::Tcp(listener) => listener.as_fd(),
        }
    }
}

fn bind_tcp() -> io::Result<(Listener, Address)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((Listener::Tcp(listener), Address::Tcp(address)))
}

fn bind_unix(folder: &Path) -> io::Result<(Listener, Address)> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    // The name under which the sandbox knows it.
    let name = Path::new(PROXY_SOCKET).file_name().expect("a constant path with a name");
    let path = folder.join(name);
    // What a daemon left that was killed. Anything but a socket is not ours: bind then fails.
    if fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(&path)?;
    }
    let listener = bind_short(folder, Path::new(name))?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok((Listener::Unix(listener), Address::Unix(path)))
}

/// A socket's path has room for 107 bytes (`sun_path`, unix(7)); a home may be deeper. So it is
/// named by way of the open folder.
#[cfg(target_os = "linux")]
fn bind_short(folder: &Path, name: &Path) -> io::Result<UnixListener> {
    use rustix::fs::{Mode, OFlags, open};
    use std::os::fd::AsRawFd;

    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(folder, flags, Mode::empty())?;
    UnixListener::bind(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

#[cfg(not(target_os = "linux"))]
fn bind_short(folder: &Path, name: &Path) -> io::Result<UnixListener> {
    UnixListener::bind(folder.join(name))
}

/// The thread `proxy`.
struct Acceptor {
    registry: Arc<Registry>,
    listener: Listener,
    woken: UnixStream,
    threads: BTreeMap<u64, JoinHandle<()>>,
}

impl Acceptor {
    fn run(&mut self) {
        let mut accepts = true;
        let mut pause = None;
        while !self.registry.is_stopping() {
            let is_asked = self.wait(accepts, pause.as_ref());
            while matches!(self.woken.read(&mut [0; 64]), Ok(1..)) {}
            self.join_ended();
            (accepts, pause) = (true, None);
            if !is_asked {
                continue;
            }
            if PROXY_CONNECTIONS_MAX <= self.threads.len() {
                // Until the bell rings: when the spared one has ended, or one can be spared.
                accepts = false;
                self.registry.evict();
            } else if let Err(error) = self.accept()
                && error.kind() != io::ErrorKind::WouldBlock
            {
                log::warn!("the proxy cannot take a connection: {error}");
                (accepts, pause) = (false, Some(PAUSE));
            }
        }
        // What was accepted while the stop was said.
        self.registry.stop();
        std::mem::take(&mut self.threads).into_values().for_each(join);
    }

    /// Sleeps until the bell rings, someone hangs up (and is cut), or someone asks for a connection,
    /// if one is to be had; whether that was it.
    fn wait(&self, accepts: bool, pause: Option<&Timespec>) -> bool {
        // A half that is closed counts as hung up, as it does for other servers: a client that has
        // asked and gone must not cost tokens. Elsewhere than on Linux, HUP says it.
        #[cfg(target_os = "linux")]
        let gone = PollFlags::RDHUP;
        #[cfg(not(target_os = "linux"))]
        let gone = PollFlags::empty();
        let uncut = self.registry.uncut();
        let mut fds = vec![
            PollFd::new(&self.woken, PollFlags::IN),
            PollFd::new(&self.listener, if accepts { PollFlags::IN } else { PollFlags::empty() }),
        ];
        fds.extend(uncut.iter().map(|(_, stream)| PollFd::new(stream, gone)));
        if poll(&mut fds, pause).is_err() {
            return false;
        }
        let has_news = |fd: &PollFd<'_>| !fd.revents().is_empty();
        for ((id, _), _) in uncut.iter().zip(&fds[2..]).filter(|(_, fd)| has_news(fd)) {
            self.registry.cut(*id);
        }
        has_news(&fds[1])
    }

    fn accept(&mut self) -> io::Result<()> {
        let stream = Arc::new(self.listener.accept()?);
        let id = self.registry.open(stream.clone());
        let ended = Ended { registry: self.registry.clone(), id };
        let thread = thread::Builder::new().name(format!("proxy-conn-{id}")).spawn(move || {
            exchange::serve(&ended.registry, id, stream);
        })?;
        self.threads.insert(id, thread);
        Ok(())
    }

    fn join_ended(&mut self) {
        let has_ended = |id: &u64| !self.registry.is_open(*id);
        let ended: Vec<u64> = self.threads.keys().copied().filter(has_ended).collect();
        ended.iter().filter_map(|id| self.threads.remove(id)).for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        log::error!("a connection of the proxy panicked");
    }
}

/// Says that a connection's thread ended, however it did.
struct Ended {
    registry: Arc<Registry>,
    id: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.registry.close(self.id);
    }
}
