//! A nats-server for one test, which can be killed and started again.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use flack_common::{
    config::EventsConfig,
    events::{Events, JetStream},
};
use tempfile::TempDir;

use crate::things::wait_for;

pub struct Nats {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
    /// Additional configuration of the server.
    settings: String,
}

impl Nats {
    pub async fn start() -> Self {
        let mut nats = Self::planned();
        nats.up().await;
        nats
    }

    /// Returns a server with a port and a folder that is not started.
    pub fn planned() -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its number").port();
        Self {
            folder: TempDir::new().expect("a temporary folder"),
            port,
            child: None,
            settings: String::new(),
        }
    }

    /// Starts a server with additional configuration.
    pub async fn with_settings(settings: &str) -> Self {
        let mut nats = Self::planned();
        settings.clone_into(&mut nats.settings);
        nats.up().await;
        nats
    }

    pub async fn up(&mut self) {
        let configuration = self.folder.path().join("nats.conf");
        std::fs::write(&configuration, &self.settings).expect("the folder is ours");
        let child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--jetstream", "--port", &self.port.to_string(), "--store_dir"])
            .arg(self.folder.path())
            .arg("--config")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is installed");
        self.child = Some(child);
        let address = format!("127.0.0.1:{}", self.port);
        wait_for("nats-server to listen", async || tokio::net::TcpStream::connect(&address).await.is_ok())
            .await;
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it was ours");
        }
    }

    /// Deletes the data, as the loss of the disk does.
    pub fn lose_disk(&mut self) {
        assert!(self.child.is_none(), "kill it first");
        self.folder = TempDir::new().expect("a temporary folder");
    }

    pub async fn events_as(&self, user: &str, password: &str) -> Events {
        let (user, password) = (Some(user.to_owned()), Some(password.to_owned().into()));
        let config = EventsConfig { url: self.address(), user, password };
        Events::JetStream(JetStream::connect(&config).await.expect("a valid address"))
    }

    pub async fn events(&self) -> Events {
        events_at(self.address()).await
    }

    pub fn address(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Makes the server forget the message ids of a stream, as after the duplicate window.
    pub async fn forget_message_ids(&self, stream: &str) {
        let client = async_nats::connect(self.address()).await.expect("it listens");
        let context = async_nats::jetstream::new(client);
        let mut config =
            context.get_stream(stream).await.expect("the stream is there").cached_info().config.clone();
        config.duplicate_window = Duration::from_millis(100);
        context.update_stream(config).await.expect("it may be changed");
    }

    /// Returns the number of messages in a stream.
    pub async fn count(&self, stream: &str) -> u64 {
        let client = async_nats::connect(self.address()).await.expect("it listens");
        let context = async_nats::jetstream::new(client);
        match tokio::time::timeout(Duration::from_secs(5), context.get_stream(stream)).await {
            Ok(Ok(stream)) => stream.cached_info().state.messages,
            _ => 0,
        }
    }
}

pub async fn events_at(url: String) -> Events {
    let config = EventsConfig { url, user: None, password: None };
    Events::JetStream(JetStream::connect(&config).await.expect("a valid address"))
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}
