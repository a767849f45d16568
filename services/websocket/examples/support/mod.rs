//! Shared by the benchmarks: starts the service as another process, with etcd, nats-server and a database.
//!
//! The service is the same program, started with `SERVES` in its environment; it then does what `main.rs` does. It
//! listens on loopback only, and its data is in a temporary folder.

pub mod client;
pub mod process;

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use flack_catalogue::Service;
use flack_common::{
    auth::SigningKey,
    config::{self, DatabaseConfig},
    process as service,
    registry::{Registry, keys},
};
use flack_websocket::{SERVICE, build, config::Config};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::{
    signal::{
        ctrl_c,
        unix::{SignalKind, signal},
    },
    time::sleep,
};
use tokio_util::sync::CancellationToken;

const SERVES: &str = "FLACK_BENCHMARK_SERVES";
const START_MAX: Duration = Duration::from_secs(30);
const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// Runs the service, as `main.rs` does.
pub async fn serve() -> ExitCode {
    service::main(Service::named(SERVICE), |config: &Config| &config.service, build).await
}

/// Returns whether this process is the service.
pub fn is_service() -> bool {
    std::env::var_os(SERVES).is_some()
}

/// etcd, nats-server and the service. They are stopped when this is dropped.
pub struct Stack {
    pub service: Running,
    pub address: String,
    pub nats_url: String,
    key: SigningKey,
    _infrastructure: [Running; 2],
    _folder: TempDir,
}

/// A child process, killed when this is dropped.
pub struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{name} cannot be started; is it installed?"))?;
        Ok(Self(child))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stack {
    async fn start(database_url: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (nats, nats_url) = start_nats(folder.path())?;
        let (etcd, etcd_url) = start_etcd(folder.path())?;
        let registry = Registry::open_lazily(&etcd_url, None, CancellationToken::new());
        let key = SigningKey::generate()?;
        let jwk = key.public_jwk().to_string();
        let name = keys::jwk(key.key_id());
        until("etcd answers", async || registry.put(&name, jwk.clone(), None).await.is_ok()).await?;

        let port = free_port()?;
        let service = Running::start(
            Command::new(std::env::current_exe()?)
                .env(SERVES, "1")
                .env("FLACK_LISTEN", format!("127.0.0.1:{port}"))
                .env("DATABASE_URL", database_url)
                .env("ETCD_URL", &etcd_url)
                .env("NATS_URL", &nats_url)
                // No other service is called.
                .env("INTERNAL_URL", "http://127.0.0.1:9")
                .env("RUST_LOG", "warn"),
        )?;
        let address = format!("127.0.0.1:{port}");
        let stack = Self { service, address, nats_url, key, _infrastructure: [nats, etcd], _folder: folder };
        until("the service listens", async || client::Socket::connect(&stack.address).await.is_ok()).await?;
        Ok(stack)
    }

    pub fn token(&self, user_id: i64) -> SecretString {
        self.key.issue(user_id, chrono::Utc::now().timestamp(), TOKEN_LIFETIME).0
    }
}

fn start_nats(folder: &Path) -> anyhow::Result<(Running, String)> {
    let port = free_port()?;
    let running = Running::start(
        Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"])
            .arg(folder.join("nats")),
    )?;
    Ok((running, format!("nats://127.0.0.1:{port}")))
}

fn start_etcd(folder: &Path) -> anyhow::Result<(Running, String)> {
    let (clients, peers) =
        (format!("http://127.0.0.1:{}", free_port()?), format!("http://127.0.0.1:{}", free_port()?));
    let running = Running::start(
        Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}"), "--unsafe-no-fsync"]),
    )?;
    Ok((running, clients))
}

/// Runs a benchmark with a stack, in a temporary database of the PostgreSQL at `DATABASE_URL`. The user there must be
/// allowed to create databases.
pub async fn with_stack(benchmark: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    #[derive(conf::Conf)]
    struct Options {
        #[conf(flatten)]
        database: DatabaseConfig,
    }
    let options: Options = config::parse_or_exit();
    let url = options.database.url.expose_secret();
    let name = format!("flack_benchmark_{}", std::process::id());
    let mut connection = PgConnection::connect(url).await.context("PostgreSQL at DATABASE_URL")?;
    let create = format!("create database {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut connection).await?;
    let outcome = async {
        let stack = Stack::start(&with_database(url, &name)?).await?;
        tokio::select! {
            outcome = benchmark(&stack) => outcome,
            // Handled here, so that the stack is stopped and the database dropped.
            () = interrupted() => Err(anyhow!("interrupted")),
        }
    }
    .await;
    let drop = format!("drop database {name} with (force)");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut connection).await?;
    outcome
}

async fn interrupted() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        // Then only Ctrl-C is handled.
        Err(_) => drop(ctrl_c().await),
    }
}

fn with_database(url: &str, name: &str) -> anyhow::Result<String> {
    let mut url = url::Url::parse(url)?;
    url.set_path(name);
    Ok(url.into())
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits for a condition.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let started = Instant::now();
    while !holds().await {
        ensure!(started.elapsed() < START_MAX, "timeout: waited until {what}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
