//! A TCP proxy between one browser and the balancer whose connections a test can cut and restore.

use anyhow::{Context as _, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

pub struct Connection {
    port: u16,
    is_open: watch::Sender<bool>,
    task: AbortHandle,
}

impl Connection {
    /// Starts a proxy to the port of `url`.
    pub async fn to(url: &str) -> Result<Self> {
        let target = url.strip_prefix("http://").context("a plain address")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (open, is_open) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // While cut, a new connection is dropped at once.
                if *is_open.borrow() {
                    tokio::spawn(carry(near, target.clone(), is_open.clone()));
                }
            }
        });
        Ok(Self { port, is_open: open, task: task.abort_handle() })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Breaks every connection, and each new one.
    pub fn cut(&self) {
        self.is_open.send_replace(false);
    }

    pub fn restore(&self) {
        self.is_open.send_replace(true);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut near: TcpStream, target: String, mut is_open: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = is_open.wait_for(|open| !open) => {}
    }
}
