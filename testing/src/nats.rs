//! A nats-server of one test, and a publisher of events.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use async_nats::jetstream::{self, message::PublishMessage};
use flack_common::{
    config::EventsConfig,
    events::{Events, JetStream, keep_streams, prepare_stream},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::OnceCell,
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::port::free_port;

const START_TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A server with JetStream on a free port. Dropping the value stops it.
#[derive(Debug)]
pub struct Nats {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
    /// Additional configuration of the server.
    settings: String,
    next_id: AtomicI64,
    client: OnceCell<async_nats::Client>,
    /// Makes a missing stream.
    administrator: Option<AbortHandle>,
}

impl Nats {
    pub async fn start() -> Self {
        Self::with_settings("").await
    }

    pub async fn with_settings(settings: &str) -> Self {
        let mut nats = Self::stopped();
        settings.clone_into(&mut nats.settings);
        nats.start_again().await;
        nats
    }

    /// Returns a server with a port and a folder that is not started.
    pub fn stopped() -> Self {
        Self {
            folder: TempDir::new().expect("a folder"),
            port: free_port(),
            process: None,
            settings: String::new(),
            next_id: AtomicI64::new(1),
            client: OnceCell::new(),
            administrator: None,
        }
    }

    /// Starts the stopped server with its data at the same address.
    pub async fn start_again(&mut self) {
        let configuration = self.folder.path().join("nats.conf");
        std::fs::write(&configuration, &self.settings).expect("a temporary folder");
        let process = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--jetstream", "--port", &self.port.to_string(), "--store_dir"])
            .arg(self.folder.path())
            .arg("--config")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs nats-server: install nats-server");
        self.process = Some(process);
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(Instant::now() < deadline, "nats-server does not listen on port {}", self.port);
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Stops the server with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a running child");
            process.wait().expect("it ends");
        }
        self.client = OnceCell::new();
    }

    /// Stops the server, and returns a copy of its data.
    pub fn kill_and_copy_data(&mut self) -> TempDir {
        self.kill();
        let copy = TempDir::new().expect("a folder");
        copy_folder(self.folder.path(), copy.path());
        copy
    }

    /// Stops the server and sets its data back to a copy.
    pub fn kill_and_set_back(&mut self, copy: TempDir) {
        self.kill();
        self.folder = copy;
    }

    /// Stops the server and deletes its data.
    pub fn kill_and_lose_data(&mut self) {
        self.kill();
        self.folder = TempDir::new().expect("a folder");
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub async fn events(&self) -> Events {
        self.connect(None, None).await
    }

    pub async fn events_as(&self, user: &str, password: &str) -> Events {
        self.connect(Some(user), Some(password)).await
    }

    async fn connect(&self, user: Option<&str>, password: Option<&str>) -> Events {
        let config = EventsConfig {
            user: user.map(str::to_owned),
            password: password.map(|password| password.to_owned().into()),
            ..EventsConfig::without_credentials(self.url())
        };
        Events::JetStream(JetStream::connect(&config).await.expect("a valid address"))
    }

    pub async fn client(&self) -> &async_nats::Client {
        let connect = async || async_nats::connect(self.url()).await.expect("it listens");
        self.client.get_or_init(connect).await
    }

    pub async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.client().await.clone())
    }

    /// Makes the owner's stream whenever the server does not have it, as `mf` does.
    pub async fn keep_stream(&mut self, owner: &'static str) {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect().max_reconnects(None);
        let client = options.connect(self.url()).await.expect("a valid address");
        let keeping = tokio::spawn(async move { keep_streams(&client, &[owner], 1).await });
        self.administrator = Some(keeping.abort_handle());
    }

    /// Deletes all messages of a stream.
    pub async fn purge(&self, stream: &str) {
        let stream = self.jetstream().await.get_stream(stream).await.expect("the stream exists");
        stream.purge().await.expect("it is purged");
    }

    /// Publishes an event of `owner`, as its relay does. Creates the stream if it does not exist.
    pub async fn publish(&self, owner: &str, kind: &str, data: Value) {
        let id = self.next_id.fetch_add(1, Relaxed);
        self.publish_as(owner, kind, data, id, "").await;
    }

    /// `suffix` gives the message of the same event another id.
    pub async fn publish_as(&self, owner: &str, kind: &str, data: Value, id: i64, suffix: &str) {
        let entity_id = data["id"].to_string();
        let event = json!({ "id": format!("{owner}-{id}"), "operation": "insert", "time": "2026-11-21T12:00:00Z",
            "version": 1, "type": kind, "data": data });
        self.publish_event(owner, &entity_id, &format!("{owner}-{id}{suffix}"), event).await;
    }

    /// Publishes an event with its envelope.
    pub async fn publish_event(&self, owner: &str, entity_id: &str, message_id: &str, event: Value) {
        if self.jetstream().await.get_stream(owner.to_uppercase()).await.is_err() {
            prepare_stream(self.client().await, owner, 1).await.expect("the stream is made");
        }
        let kind = event["type"].as_str().expect("an event has a type");
        let subject = format!("flack.{owner}.{kind}.{entity_id}");
        let message = PublishMessage::build().payload(event.to_string().into()).message_id(message_id);
        self.jetstream().await.send_publish(subject, message).await.expect("sent").await.expect("stored");
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(administrator) = &self.administrator {
            administrator.abort();
        }
        self.kill();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir(&target).expect("a new folder");
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a file");
        }
    }
}
