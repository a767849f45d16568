//! A nats-server for one test, and a publisher of events.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use async_nats::jetstream::{self, message::PublishMessage, stream::Config};
use flack_common::{
    config::EventsConfig,
    events::{Events, JetStream},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::OnceCell};

use crate::client::TIMEOUT;

pub struct Nats {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
    next_id: AtomicI64,
    client: OnceCell<async_nats::Client>,
}

impl Nats {
    pub async fn start() -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its number").port();
        let mut nats = Self {
            folder: TempDir::new().expect("a temporary folder"),
            port,
            child: None,
            next_id: AtomicI64::new(1),
            client: OnceCell::new(),
        };
        nats.up().await;
        nats
    }

    pub async fn up(&mut self) {
        let child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--jetstream", "--port", &self.port.to_string(), "--store_dir"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is installed");
        self.child = Some(child);
        let listening = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, listening).await.expect("nats-server listens");
    }

    /// Kills the server, as kill -9 does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it is a child of this process");
        }
        self.client = OnceCell::new();
    }

    /// Deletes all data, as the loss of a disk does.
    pub fn lose_disk(&mut self) {
        self.folder = TempDir::new().expect("a temporary folder");
    }

    pub async fn events(&self) -> Events {
        let config = EventsConfig { url: self.url(), user: None, password: None };
        Events::JetStream(JetStream::connect(&config).await.expect("a valid address"))
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Publishes an event of `owner`, and waits for the acknowledgement. Creates the stream if it does not exist.
    pub async fn publish(&self, owner: &str, kind: &str, data: Value) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.publish_as(owner, kind, data, id, "").await;
    }

    /// `suffix` gives the message of the same event another id.
    pub async fn publish_as(&self, owner: &str, kind: &str, data: Value, id: i64, suffix: &str) {
        let context = self.context().await;
        let subjects = vec![format!("flack.{owner}.*.>")];
        let config = Config { name: owner.to_uppercase(), subjects, ..Config::default() };
        context.get_or_create_stream(config).await.expect("the stream exists");
        let subject = format!("flack.{owner}.{kind}.{}", data["id"]);
        let event = json!({ "id": format!("{owner}-{id}"), "operation": "insert", "time": "2026-11-21T12:00:00Z",
            "version": 1, "type": kind, "data": data });
        let message = PublishMessage::build()
            .payload(event.to_string().into())
            .message_id(format!("{owner}-{id}{suffix}"));
        context.send_publish(subject, message).await.expect("sent").await.expect("stored");
    }

    async fn context(&self) -> jetstream::Context {
        let connect = async || async_nats::connect(self.url()).await.expect("it listens");
        jetstream::new(self.client.get_or_init(connect).await.clone())
    }

    /// Deletes all messages of a stream.
    pub async fn purge(&self, stream: &str) {
        let stream = self.context().await.get_stream(stream).await.expect("the stream exists");
        stream.purge().await.expect("it is purged");
    }

    pub async fn publish_message(&self, id: i64, source: &str) {
        self.publish("messages", "message_changed", message(id, source)).await;
    }
}

pub fn message(id: i64, source: &str) -> Value {
    json!({ "id": id, "created_at": 1, "updated_at": 1, "user_id": 1, "channel_id": 1, "source": source,
        "html": format!("<p>{source}</p>") })
}

pub fn user(id: i64, nickname: &str) -> Value {
    json!({ "id": id, "created_at": 1, "updated_at": 2, "last_seen_at": 3, "password_changed_at": 1000,
        "nickname": nickname, "online": true })
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}
