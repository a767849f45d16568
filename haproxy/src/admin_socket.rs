//! HAProxy's Runtime API on `admin.sock`: one command for each connection.

use std::{io, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// One of HAProxy's sockets.
#[derive(Debug, Clone)]
pub struct AdminSocket {
    path: PathBuf,
}

impl AdminSocket {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Sends a command and returns the answer.
    pub async fn send(&self, command: &str) -> io::Result<String> {
        let exchange = async {
            let mut stream = UnixStream::connect(&self.path).await?;
            stream.write_all(format!("{command}\n").as_bytes()).await?;
            // Without this the master's socket never ends its answer.
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        timeout(COMMAND_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "HAProxy did not answer in time")))
    }
}
