//! A temporary PostgreSQL for tests: its data is in the temporary folder, it does not sync to disk, and every user of
//! this machine may connect without a password.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use super::folder;
use super::server::{INITDB_OPTIONS, Server, account};
use crate::failure::{Failure, Result};
use crate::home::{repository, short_hash};

/// Each test has a connection pool of its own, and many tests run at the same time.
const CONNECTIONS_MAX: u32 = 400;

#[derive(Debug)]
pub struct TemporaryServer {
    server: Server,
    folder: PathBuf,
}

impl TemporaryServer {
    /// Starts a server for one run of tests. The caller stops it.
    pub async fn start() -> Result<Self> {
        let this = Self::at(format!("flack-test-{}", std::process::id()))?;
        this.start_new().await?;
        Ok(this)
    }

    /// Returns this repository's server for plain `cargo test`, and starts it unless it runs. It runs until it is
    /// stopped.
    pub async fn start_in_background() -> Result<Self> {
        let this = Self::in_background()?;
        if !this.is_running().await {
            // A server that was killed leaves its folder.
            let _ = fs::remove_dir_all(&this.folder);
            this.start_new().await?;
        }
        Ok(this)
    }

    /// Returns this repository's server for plain `cargo test`, whether or not it runs.
    pub fn in_background() -> Result<Self> {
        Self::at(format!("flack-test-{}", short_hash(&repository())))
    }

    fn at(name: String) -> Result<Self> {
        let folder = std::env::temp_dir().join(name);
        let server = Server::find_for(&folder.join("data"))?;
        Ok(Self { server, folder })
    }

    pub async fn is_running(&self) -> bool {
        self.run("pg_ctl", &["status"]).await.is_ok()
    }

    /// Returns the URL of the superuser.
    pub fn url(&self) -> Result<String> {
        let path = self.folder.join("data/postmaster.pid");
        // The fourth line of PostgreSQL's lock file is the port.
        let port = fs::read_to_string(&path).ok().and_then(|text| text.lines().nth(3).map(str::to_owned));
        let port = port.ok_or_else(|| failure!(Internal, "{} has no port", path.display()))?;
        Ok(format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable"))
    }

    pub async fn stop(self) {
        // "immediate" skips the checkpoint: the data is deleted next.
        let _ = self.run("pg_ctl", &["stop", "--mode=immediate"]).await;
        let _ = fs::remove_dir_all(&self.folder);
    }

    async fn start_new(&self) -> Result<()> {
        fs::create_dir(&self.folder).map_err(Failure::cannot_write(&self.folder))?;
        folder::give(&self.folder, account().as_ref())?;
        self.initialise_and_start().await.inspect_err(|_| drop(fs::remove_dir_all(&self.folder)))
    }

    async fn initialise_and_start(&self) -> Result<()> {
        let options = ["--auth=trust", "--no-sync"].into_iter().chain(INITDB_OPTIONS);
        self.run("initdb", &options.collect::<Vec<_>>()).await?;
        let settings = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories= -c max_connections={CONNECTIONS_MAX} \
             -c fsync=off -c synchronous_commit=off -c full_page_writes=off",
            free_port()?
        );
        let log = format!("--log={}", self.folder.join("log").display());
        // `pg_ctl` puts the server into a session of its own, so that Ctrl-C does not reach it, and waits until it is
        // ready.
        self.run("pg_ctl", &["start", "--wait", &log, "--options", &settings]).await.map_err(|failure| {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            failure!(Internal, "the PostgreSQL for tests did not start: {failure}\n{log}")
        })
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        self.server.run(program, &self.folder.join("data"), arguments).await
    }
}

fn free_port() -> Result<u16> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| failure!(Unavailable, "no port is free: {error}"))
}
