//! The client's side of the control socket.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::process::{Child, Command};

use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::protocol::{Ended, ProcessStatus, Reply, Request};
use crate::spec::Spec;

const START_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Controls a running supervisor. Each call is one connection.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Returns the client of a running supervisor; `None` if none runs.
    pub async fn find(paths: &Paths) -> Option<Self> {
        let socket = paths.socket.clone();
        UnixStream::connect(&socket).await.is_ok().then_some(Self { socket })
    }

    /// Starts a supervisor and waits until it listens. `command` is a program that calls [`crate::run`] with the same
    /// paths.
    pub async fn spawn(paths: &Paths, mut command: Command) -> Result<(Self, Child)> {
        let path = paths.log("supervisor");
        let log = File::options().append(true).create(true).mode(0o600).open(&path);
        let log = log.map_err(Error::cannot_write(&path))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(Error::cannot_write(&path))?)
            .stderr(log)
            .spawn()
            .map_err(|error| Error::Failed(format!("the supervisor cannot be started: {error}")))?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(client) = Self::find(paths).await {
                return Ok((client, child));
            }
            let problem = match child.try_wait() {
                Ok(Some(status)) => format!("ended ({status})"),
                _ if Instant::now() > deadline => "does not listen".to_owned(),
                _ => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                    continue;
                }
            };
            let _ = child.kill().await;
            return Err(Error::Failed(format!("the supervisor {problem}. See {}", path.display())));
        }
    }

    /// Starts a process and returns its pid. Fails if a process with this name exists.
    pub async fn start(&self, spec: Spec) -> Result<i32> {
        match self.send(&Request::Start(Box::new(spec))).await?.next().await {
            Some(Reply::Started { pid }) => Ok(pid),
            other => Err(unexpected(other)),
        }
    }

    pub async fn list(&self) -> Result<Vec<ProcessStatus>> {
        match self.send(&Request::List).await?.next().await {
            Some(Reply::Processes(processes)) => Ok(processes),
            other => Err(unexpected(other)),
        }
    }

    /// Stops and removes processes, and calls `ended` for each as soon as it has ended.
    pub async fn stop(&self, names: Vec<String>, ended: impl FnMut(Ended)) -> Result<()> {
        self.send(&Request::Stop(names)).await?.until_done(ended).await
    }

    /// Kills a process and returns its pid; `None` if it was not running, because it waits for its restart.
    pub async fn kill(&self, name: &str, restart: bool) -> Result<Option<i32>> {
        match self.send(&Request::Kill { name: name.to_owned(), restart }).await?.next().await {
            Some(Reply::Killed { pid }) => Ok(pid),
            other => Err(unexpected(other)),
        }
    }

    /// Stops all processes and then the supervisor, and waits until it has ended.
    pub async fn shutdown(&self, ended: impl FnMut(Ended)) -> Result<()> {
        self.send(&Request::Shutdown).await?.until_done(ended).await?;
        while UnixStream::connect(&self.socket).await.is_ok() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    async fn send(&self, request: &Request) -> Result<Replies> {
        let unavailable = |error: std::io::Error| Error::Unavailable(error.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(unavailable)?;
        let (reader, mut writer) = stream.into_split();
        let mut line = serde_json::to_string(request).expect("a request is plain data");
        line.push('\n');
        writer.write_all(line.as_bytes()).await.map_err(unavailable)?;
        Ok(Replies(BufReader::new(reader).lines()))
    }
}

struct Replies(Lines<BufReader<OwnedReadHalf>>);

impl Replies {
    async fn next(&mut self) -> Option<Reply> {
        let line = self.0.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    async fn until_done(mut self, mut ended: impl FnMut(Ended)) -> Result<()> {
        loop {
            match self.next().await {
                Some(Reply::Ended(end)) => ended(end),
                Some(Reply::Done) => return Ok(()),
                other => return Err(unexpected(other)),
            }
        }
    }
}

fn unexpected(reply: Option<Reply>) -> Error {
    match reply {
        Some(Reply::Failed(message)) => Error::Failed(message),
        Some(other) => Error::Failed(format!("the supervisor sent an unexpected reply: {other:?}")),
        None => Error::Unavailable("it closed the connection".to_owned()),
    }
}
