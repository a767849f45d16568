//! An etcd server of one test.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use flack_common::{config::RegistryConfig, registry::Registry};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::port::free_port;

const START_TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A running server on free ports. Dropping the value stops it.
#[derive(Debug)]
pub struct Etcd {
    url: String,
    peer_url: String,
    data: TempDir,
    process: Option<Child>,
}

impl Etcd {
    pub async fn start() -> Self {
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        let (url, peer_url) = (address(free_port()), address(free_port()));
        let mut etcd = Self { url, peer_url, data: TempDir::new().expect("a folder"), process: None };
        etcd.start_again().await;
        etcd
    }

    /// Starts the stopped server with its data at the same address.
    pub async fn start_again(&mut self) {
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.data.path())
            .args(["--listen-client-urls", &self.url, "--advertise-client-urls", &self.url])
            .args(["--listen-peer-urls", &self.peer_url, "--initial-advertise-peer-urls", &self.peer_url])
            .args(["--initial-cluster", &format!("default={}", self.peer_url), "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs etcd: install etcd-server");
        self.process = Some(process);
        let deadline = Instant::now() + START_TIMEOUT;
        while self.registry().get("/").await.is_err() {
            assert!(Instant::now() < deadline, "etcd does not answer at {}", self.url);
            sleep(POLL_INTERVAL).await;
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server and deletes its data.
    pub fn stop_and_lose_data(&mut self) {
        self.stop();
        self.data = TempDir::new().expect("a folder");
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a running child");
            process.wait().expect("it ends");
        }
    }

    /// Returns a new connection.
    pub fn registry(&self) -> Registry {
        Registry::open_lazily(&RegistryConfig::without_credentials(&self.url), CancellationToken::new())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}
