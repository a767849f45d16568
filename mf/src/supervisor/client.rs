//! The side of the control socket that asks.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::process::{Child, Command};

use super::protocol::{Ended, ProcessStatus, Reply, Request};
use super::spec::Spec;
use crate::failure::{Failure, Result};
use crate::home::{self, Home};

const SUPERVISOR_STARTS_MAX: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The supervisor of this stack, if one lives.
    pub async fn find(home: &Home) -> Result<Option<Self>> {
        if !home.exists() {
            return Ok(None);
        }
        let socket = home.socket()?;
        Ok(UnixStream::connect(&socket).await.is_ok().then_some(Self { socket }))
    }

    /// The same, for commands that need one.
    pub async fn require(home: &Home) -> Result<Self> {
        Self::find(home).await?.ok_or_else(|| {
            Failure::unavailable(format!(
                "the stack in {} does not run. Start it with mfup (or set MF_HOME to the one that you mean).",
                home.path().display()
            ))
        })
    }

    /// Starts a supervisor (`mf` itself is the program) and waits until it listens.
    pub async fn spawn(home: &Home, program: &Path) -> Result<(Self, Child)> {
        let path = home.log("supervisor");
        let mut log = home::open_private(&path)?;
        std::io::Seek::seek(&mut log, std::io::SeekFrom::End(0))
            .map_err(|error| home::cannot_write(&path, &error))?;
        let output = log.try_clone().map_err(|error| home::cannot_write(&path, &error))?;
        let mut child = Command::new(program)
            .arg("supervise")
            .env("MF_HOME", home.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(log)
            .spawn()
            .map_err(|error| Failure::internal(format!("the supervisor cannot be started: {error}")))?;
        let deadline = Instant::now() + SUPERVISOR_STARTS_MAX;
        loop {
            if let Some(client) = Self::find(home).await? {
                return Ok((client, child));
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Failure::internal(format!(
                    "the supervisor ended at once ({status}); {} says why",
                    path.display()
                )));
            }
            if Instant::now() > deadline {
                let _ = child.kill().await;
                return Err(Failure::internal(format!(
                    "the supervisor does not answer; {} may say why",
                    path.display()
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub async fn start(&self, spec: Spec) -> Result<i32> {
        match self.ask(&Request::Start(Box::new(spec))).await?.next().await? {
            Some(Reply::Started { pid }) => Ok(pid),
            other => Err(unexpected(other)),
        }
    }

    pub async fn list(&self) -> Result<Vec<ProcessStatus>> {
        match self.ask(&Request::List).await?.next().await? {
            Some(Reply::Processes(processes)) => Ok(processes),
            other => Err(unexpected(other)),
        }
    }

    pub async fn stop(&self, names: Vec<String>, told: impl FnMut(Ended)) -> Result<()> {
        self.ask(&Request::Stop(names)).await?.until_done(told).await
    }

    /// Gives the pid that was killed; none when the process was just between two lives.
    pub async fn kill(&self, name: &str, restart: bool) -> Result<Option<i32>> {
        match self.ask(&Request::Kill { name: name.to_owned(), restart }).await?.next().await? {
            Some(Reply::Killed { pid }) => Ok(pid),
            other => Err(unexpected(other)),
        }
    }

    /// Stops all, and waits until the supervisor itself is gone.
    pub async fn shutdown(&self, told: impl FnMut(Ended)) -> Result<()> {
        self.ask(&Request::Shutdown).await?.until_done(told).await?;
        while UnixStream::connect(&self.socket).await.is_ok() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn ask(&self, request: &Request) -> Result<Replies> {
        let gone = |error: std::io::Error| {
            Failure::unavailable(format!(
                "the supervisor does not answer ({error}); mfdown cleans up, mfup starts anew"
            ))
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(gone)?;
        let (reader, mut writer) = stream.into_split();
        let mut line = serde_json::to_string(request).expect("a request is plain data");
        line.push('\n');
        writer.write_all(line.as_bytes()).await.map_err(gone)?;
        Ok(Replies(BufReader::new(reader).lines()))
    }
}

struct Replies(Lines<BufReader<OwnedReadHalf>>);

impl Replies {
    async fn next(&mut self) -> Result<Option<Reply>> {
        let line = self.0.next_line().await.ok().flatten();
        Ok(line.and_then(|line| serde_json::from_str(&line).ok()))
    }

    async fn until_done(mut self, mut told: impl FnMut(Ended)) -> Result<()> {
        loop {
            match self.next().await? {
                Some(Reply::Ended(ended)) => told(ended),
                Some(Reply::Done) => return Ok(()),
                other => return Err(unexpected(other)),
            }
        }
    }
}

fn unexpected(reply: Option<Reply>) -> Failure {
    match reply {
        Some(Reply::Failed(message)) => Failure::internal(message),
        Some(other) => Failure::internal(format!("the supervisor answered something else: {other:?}")),
        None => Failure::unavailable(
            "the supervisor went away before it answered; mfps shows what runs, supervisor.log says why",
        ),
    }
}
