//! Websockets, as the balancer sees them: connections that both sides use freely after an answer 101.

use std::time::{Duration, Instant};

use flack_common::registry::{InstanceEntry, keys};
use flack_testing::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::support::{OTHER, Stack, connect, send};

const UPGRADE: [&str; 6] = [
    "GET /ws HTTP/1.1",
    "Host: localhost",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const READY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
/// A write that does not proceed for this time is blocked.
const BLOCKED: Duration = Duration::from_millis(500);
/// The time within which a client that does not read, or does not follow the end, is gone.
const GONE_MAX: Duration = Duration::from_secs(13);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// What the kernel may buffer for one client: twice `SOCKET_BUFFER_BYTES`, and its own overhead.
const BUFFERED_BYTES_MAX: u64 = 600_000;

/// Starts a service that answers upgrades with 101, and hands the connections over.
async fn service(stack: &Stack) -> mpsc::Receiver<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address").to_string();
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(connection.read_u8().await?);
                }
                let is_upgrade = request.starts_with(b"GET /ws");
                connection.write_all(if is_upgrade { SWITCHING } else { READY }.as_bytes()).await?;
                if is_upgrade {
                    let _ = sender.send(connection).await;
                }
                std::io::Result::Ok(())
            });
        }
    });
    let entry = InstanceEntry::new(address, "0.1.0");
    let entry = serde_json::to_string(&entry).expect("an entry is plain data");
    stack.registry.put(&keys::instance("monolith", "monolith-1"), entry, None).await.expect("etcd answers");
    stack.wait_for_status("/", 200).await;
    receiver
}

/// A client, and the end of its connection at the service.
async fn open(stack: &Stack, service: &mut mpsc::Receiver<TcpStream>) -> (TcpStream, TcpStream) {
    let mut client = connect(OTHER, &stack.public).await.expect("a connection");
    client.write_all(format!("{}\r\n\r\n", UPGRADE.join("\r\n")).as_bytes()).await.expect("it is sent");
    let server = service.recv().await.expect("the service runs");
    (client, server)
}

/// Returns what the kernel holds for the balancer's end of a client's connection: the bytes that the client has not
/// acknowledged. None without such a connection.
fn buffered(stack: &Stack, client: &TcpStream) -> Option<u64> {
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let listener: u16 = stack.public.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let client = client.local_addr().expect("a bound address").port();
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = port(fields[1]) == Some(listener) && port(fields[2]) == Some(client);
        is_it.then(|| u64::from_str_radix(&fields[4][..8], 16).expect("a number"))
    })
}

/// Waits until the balancer has no connection of the clients.
async fn wait_until_gone(stack: &Stack) {
    let began = Instant::now();
    while stack.connections(OTHER).await > 0 {
        assert!(began.elapsed() < GONE_MAX, "the balancer still has the client after {:?}", began.elapsed());
        sleep(POLL_INTERVAL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_gone_soon_after_its_service_has_ended_it() {
    let stack = Stack::start().await;
    let mut service = service(&stack).await;
    let (client, mut server) = open(&stack, &mut service).await;
    let chunk = vec![0; 65_536];
    while let Ok(written) = timeout(BLOCKED, server.write_all(&chunk)).await {
        written.expect("the balancer accepts bytes");
    }
    let held = buffered(&stack, &client).expect("the connection exists");
    assert!(held < BUFFERED_BYTES_MAX, "{held} bytes are buffered for one client");
    drop(server);
    wait_until_gone(&stack).await;
    assert_eq!(buffered(&stack, &client).unwrap_or(0), 0, "the kernel keeps what the client has not read");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_websocket_exchange_bytes_and_a_refused_one_does_not_reach_the_service() {
    let stack = Stack::start_with(&[("LIMIT_CONNECTIONS_PER_ADDRESS", "4")]).await;
    let mut service = service(&stack).await;
    let (mut client, mut server) = open(&stack, &mut service).await;
    let mut head = vec![0; SWITCHING.len()];
    client.read_exact(&mut head).await.expect("an answer");
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    let mut more = Vec::new();
    for _ in 0..3 {
        more.push(connect(OTHER, &stack.public).await.expect("a connection"));
    }
    eventually("the balancer has counted them", async || stack.connections(OTHER).await == 4).await;
    let mut beyond = connect(OTHER, &stack.public).await.expect("a connection");
    assert_eq!(send(&mut beyond, &UPGRADE).await.status, 429);
    assert!(service.try_recv().is_err(), "the service received it");
    server.write_all(b"ping").await.expect("it is sent");
    // What is left of the headers' different spelling comes before it.
    let mut received = Vec::new();
    while !received.ends_with(b"ping") {
        received.push(client.read_u8().await.expect("the service's bytes"));
    }
    client.write_all(b"pong").await.expect("it is sent");
    let mut pong = [0; 4];
    server.read_exact(&mut pong).await.expect("the client's bytes");
    assert_eq!(&pong, b"pong");
}
