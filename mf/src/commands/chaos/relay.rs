//! A relay of TCP connections, which can be cut: during a partition no byte passes, and no connection ends.
//!
//! To drop packets between two processes of one machine needs root. So an instance that is to lose a peer is started
//! with the address of a relay in the place of the peer's address.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const BUFFER_BYTES: usize = 16 * 1024;

/// A relay. It ends with all of its connections when it is dropped.
#[derive(Debug)]
pub struct Relay {
    pub port: u16,
    is_cut: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Listens on a free port. `target` is the address of the peer, which may depend on this port.
    pub async fn start(target: impl FnOnce(u16) -> SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let target = target(port);
        let (is_cut, cut) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, cut));
        Ok(Self { port, is_cut, _tasks: tasks })
    }

    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// What was sent meanwhile is delivered now, as TCP does after a partition.
    pub fn repair(&self) {
        self.is_cut.send_replace(false);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, cut: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(connect(client, target, cut.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Relays one connection in both directions. During a partition a new connection waits.
async fn connect(client: TcpStream, target: SocketAddr, mut cut: watch::Receiver<bool>) {
    if !is_repaired(&mut cut).await {
        return;
    }
    let Ok(peer) = TcpStream::connect(target).await else { return };
    let ((from_client, to_client), (from_peer, to_peer)) = (client.into_split(), peer.into_split());
    let _ = tokio::join!(copy(from_client, to_peer, cut.clone()), copy(from_peer, to_client, cut));
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if !is_repaired(&mut cut).await {
            return Ok(());
        }
        match bytes {
            0 => return to.shutdown().await,
            _ => to.write_all(&buffer[..bytes]).await?,
        }
    }
}

/// Waits while there is a partition. Returns false when the relay has ended.
async fn is_repaired(cut: &mut watch::Receiver<bool>) -> bool {
    cut.wait_for(|is_cut| !is_cut).await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const WAIT_MAX: Duration = Duration::from_secs(10);
    /// Long enough for bytes that pass a relay that is not cut.
    const SILENCE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn no_byte_passes_a_cut_relay_no_connection_ends_and_nothing_is_lost() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = server.local_addr().expect("an address");
        let relay = Relay::start(|_| address).await.expect("a relay");
        let mut client = TcpStream::connect(("127.0.0.1", relay.port)).await.expect("connected");
        let (mut peer, _) = server.accept().await.expect("accepted");
        let mut buffer = [0; 6];
        client.write_all(b"before").await.expect("sent");
        timeout(WAIT_MAX, peer.read_exact(&mut buffer)).await.expect("in time").expect("received");

        relay.cut();
        client.write_all(b"during").await.expect("the kernel accepts it");
        peer.write_all(b"answer").await.expect("the kernel accepts it");
        assert!(timeout(SILENCE, peer.read_exact(&mut buffer)).await.is_err(), "it passed");
        assert!(timeout(SILENCE, client.read_exact(&mut buffer)).await.is_err(), "it passed");
        let mut late = TcpStream::connect(("127.0.0.1", relay.port)).await.expect("the kernel accepts it");
        assert!(timeout(SILENCE, server.accept()).await.is_err(), "a new connection passed");

        relay.repair();
        timeout(WAIT_MAX, peer.read_exact(&mut buffer)).await.expect("in time").expect("received");
        assert_eq!(&buffer, b"during");
        timeout(WAIT_MAX, client.read_exact(&mut buffer)).await.expect("in time").expect("received");
        assert_eq!(&buffer, b"answer");
        let (mut accepted, _) = timeout(WAIT_MAX, server.accept()).await.expect("in time").expect("accepted");
        accepted.write_all(b"x").await.expect("sent");
        timeout(WAIT_MAX, late.read_exact(&mut buffer[..1])).await.expect("in time").expect("received");

        drop(relay);
        assert_eq!(timeout(WAIT_MAX, client.read(&mut buffer)).await.expect("in time").unwrap_or(0), 0);
    }
}
