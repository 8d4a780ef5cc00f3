//! The way to the credential proxy: connections to a port on loopback go on to the proxy's socket.
//!
//! The CLI speaks TCP only, and a sandbox without network has nothing else to offer than a socket
//! of the file system. Bytes pass unread.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::Failed;
use crate::limits::RELAY_CONNECTIONS_MAX;
use crate::report::note;
use crate::worker::Worker;

/// Starts the relay to `socket` and gives its address; `None` where the socket is not there.
///
/// It is not stopped: it holds nothing of ours, and the program's end is its end.
///
/// # Errors
/// No loopback, or no further thread.
pub(crate) fn start(socket: &'static Path) -> Result<Option<SocketAddr>, Failed> {
    let failed = |source| Failed::System { doing: "offer the credential proxy", source };
    if !socket.exists() {
        return Ok(None);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Builder::new()
        .name("relay".to_owned())
        .spawn(move || accept(&listener, socket))
        .map_err(failed)?;
    Ok(Some(address))
}

fn accept(listener: &TcpListener, socket: &'static Path) {
    // A slot is held from before a connection is accepted until it ends: who comes when all are
    // taken waits in the kernel's queue.
    let (slots, ended) = bounded(RELAY_CONNECTIONS_MAX);
    loop {
        if slots.send(()).is_err() {
            return;
        }
        let slot = Slot(ended.clone());
        let connection = match listener.accept() {
            Ok((connection, _)) => connection,
            Err(error) => {
                note(format_args!("the relay could not accept: {error}"));
                // Files that run out come back when others are closed.
                std::thread::sleep(ACCEPT_PAUSE);
                continue;
            }
        };
        if let Err(error) = serve(Builder::new(), connection, socket, slot) {
            note(format_args!("the relay could not serve: {error}"));
        }
    }
}

/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Room for one connection, free again when this is dropped.
struct Slot(Receiver<()>);

impl Drop for Slot {
    fn drop(&mut self) {
        // It is there: it was taken before this was made.
        self.0.recv().unwrap_or(());
    }
}

/// Relays on a thread of its own, which has the slot until it ends.
fn serve(thread: Builder, client: TcpStream, socket: &'static Path, slot: Slot) -> io::Result<()> {
    let serving = thread.name("relay-conn".to_owned()).spawn(move || {
        let _slot = slot;
        if let Err(error) = relay(&client, socket) {
            note(format_args!("a connection to the proxy failed: {error}"));
        }
    });
    serving.map(drop)
}

/// Passes bytes both ways until both sides have ended.
fn relay(client: &TcpStream, socket: &Path) -> io::Result<()> {
    client.set_nodelay(true)?;
    let proxy = UnixStream::connect(socket)?;
    let (up_from, up_to) = (client.try_clone()?, proxy.try_clone()?);
    // Joined at the end of this function: by then each side has been told that the other ended.
    let _up = Worker::spawn("relay-up", move || {
        let copied = io::copy(&mut &up_from, &mut &up_to);
        // The other direction may go on only if this one ended in order.
        hang_up(up_to.shutdown(if copied.is_ok() { Shutdown::Write } else { Shutdown::Both }));
    })?;
    let copied = io::copy(&mut &proxy, &mut &*client);
    hang_up(client.shutdown(if copied.is_ok() { Shutdown::Write } else { Shutdown::Both }));
    // The proxy has said all it will; whatever the client still sends has no reader.
    hang_up(client.shutdown(Shutdown::Both));
    hang_up(proxy.shutdown(Shutdown::Both));
    Ok(())
}

/// Takes the outcome of a hang-up: one that fails was not needed, the other side was faster.
fn hang_up(outcome: io::Result<()>) {
    drop(outcome);
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A proxy that sends back what it got, when it got all of it.
    fn echo() -> (tempfile::TempDir, SocketAddr) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path: &'static Path = Box::leak(folder.path().join("proxy.sock").into_boxed_path());
        let listener = UnixListener::bind(path).expect("binds");
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut bytes = Vec::new();
                    (&connection).read_to_end(&mut bytes).expect("reads");
                    (&connection).write_all(&bytes).expect("writes");
                });
            }
        });
        let address = start(path).expect("starts").expect("the socket is there");
        (folder, address)
    }

    fn ask(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        let mut client = TcpStream::connect(address).expect("connects");
        client.write_all(bytes).expect("writes");
        client.shutdown(Shutdown::Write).expect("ends its side");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("reads");
        answer
    }

    #[test]
    fn bytes_and_both_ends_pass_through() {
        let (_folder, address) = echo();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        assert!(bytes == ask(address, &bytes));
    }

    #[test]
    fn more_clients_than_slots_are_all_served() {
        let (_folder, address) = echo();
        // All are connected before the first of them ends.
        let mut clients: Vec<TcpStream> = (0..2 * RELAY_CONNECTIONS_MAX)
            .map(|_| TcpStream::connect(address).expect("connects"))
            .collect();
        for client in &mut clients {
            client.write_all(b"x").expect("writes");
            client.shutdown(Shutdown::Write).expect("ends its side");
        }
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("reads");
            assert_eq!("x", answer);
        }
    }

    #[test]
    fn a_thread_that_cannot_be_started_keeps_no_slot() {
        let (_folder, address) = echo();
        let client = TcpStream::connect(address).expect("connects");
        let (slots, ended) = bounded(1);
        slots.send(()).expect("there is room");
        // No machine has memory for that stack.
        let thread = Builder::new().stack_size(1 << 60);
        serve(thread, client, Path::new("/nonexistent"), Slot(ended.clone()))
            .expect_err("no thread");
        assert_eq!(Ok(()), slots.try_send(()), "{} slots are taken", ended.len());
    }

    #[test]
    fn without_a_socket_there_is_no_relay() {
        assert_eq!(None, start(Path::new("/nonexistent/proxy.sock")).expect("is no error"));
    }
}
