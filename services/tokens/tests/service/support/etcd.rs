//! An etcd of the test's own: started on free ports, stopped with the value.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use flack_common::registry::Registry;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const START_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

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

    /// With the data that it had, at the same address.
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
            .expect("etcd is installed");
        self.process = Some(process);
        let deadline = Instant::now() + START_TIMEOUT;
        while self.registry().get("/").await.is_err() {
            assert!(Instant::now() < deadline, "etcd does not answer at {}", self.url);
            sleep(LOOK_INTERVAL).await;
        }
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is ours");
            process.wait().expect("it ends");
        }
    }

    /// A connection of its own, as another process has one.
    pub fn registry(&self) -> Registry {
        Registry::open_lazily(&self.url, None, CancellationToken::new())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
