//! HAProxy's Runtime API: one command a connection on `admin.sock`.

use std::{io, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle to one of HAProxy's sockets.
#[derive(Debug, Clone)]
pub struct Admin {
    socket: PathBuf,
}

impl Admin {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Sends a command and gives the answer as HAProxy wrote it.
    pub async fn ask(&self, command: &str) -> io::Result<String> {
        let conversation = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(command.as_bytes()).await?;
            stream.write_all(b"\n").await?;
            // Without this the master's socket never ends its answer.
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        timeout(COMMAND_TIMEOUT, conversation).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "HAProxy did not answer in time"))
        })
    }
}
