//! A PostgreSQL for one run of the tests: in a temporary folder, fast rather than safe, open to this machine.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::process::{Child, Command};

use super::folder;
use super::server::{Server, account};
use crate::failure::{Failure, Result};
use crate::home::cannot_write;

const READY_MAX: Duration = Duration::from_secs(30);
const END_MAX: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Each test has a pool of its own, and all run at the same time.
const CONNECTIONS_MAX: u32 = 400;

#[derive(Debug)]
pub struct Throwaway {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Throwaway {
    pub async fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("flack-test-{}", std::process::id()));
        let data = folder.join("data");
        let server = Server::find_for(&data).map_err(Failure::unavailable)?;
        fs::create_dir(&folder).map_err(|error| cannot_write(&folder, &error))?;
        folder::give(&folder, account().as_ref())?;
        let started = Self::start_in(&server, &folder, &data).await;
        if started.is_err() {
            let _ = fs::remove_dir_all(&folder);
        }
        started
    }

    async fn start_in(server: &Server, folder: &Path, data: &Path) -> Result<Self> {
        let made = Command::from(server.command("initdb"))
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(data)
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .output()
            .await
            .map_err(|error| Failure::internal(format!("initdb cannot be started: {error}")))?;
        if !made.status.success() {
            return Err(Failure::internal(format!(
                "initdb failed: {}",
                String::from_utf8_lossy(&made.stderr).trim()
            )));
        }
        let port = free_port()?;
        let log = folder.join("log");
        let output = fs::File::create(&log).map_err(|error| cannot_write(&log, &error))?;
        let connections = format!("max_connections={CONNECTIONS_MAX}");
        let listen = format!("port={port}");
        let settings = [
            "listen_addresses=127.0.0.1",
            &listen,
            "unix_socket_directories=",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            &connections,
        ];
        let mut command = Command::from(server.command("postgres"));
        command.arg("-D").arg(data);
        for setting in settings {
            command.args(["-c", setting]);
        }
        let process = command
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            // Ctrl-C is for us to hear first.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::internal(format!("PostgreSQL cannot be started: {error}")))?;
        let mut this = Self { process, folder: folder.to_path_buf(), port };
        this.wait_until_ready().await?;
        Ok(this)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            match PgConnection::connect(&self.url()).await {
                Ok(connection) => {
                    return connection.close().await.map_err(|error| Failure::internal(error.to_string()));
                }
                Err(error) if Instant::now() > deadline || !matches!(self.process.try_wait(), Ok(None)) => {
                    let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                    return Err(Failure::internal(format!(
                        "the PostgreSQL for tests does not start: {error}\n{log}"
                    )));
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    pub async fn end(mut self) {
        if let Some(pid) = self.process.id() {
            // "Immediate": nothing in there is worth writing down.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGQUIT);
        }
        if tokio::time::timeout(END_MAX, self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> Result<u16> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::unavailable(format!("no port is free: {error}")))
}
