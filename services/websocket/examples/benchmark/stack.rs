//! Starts the service as another process, with etcd, nats-server and a database.
//!
//! The service is the same program, started with `SERVES` in its environment; it then does what `main.rs` does. It
//! listens on loopback only, and its data is in a temporary folder.

use std::{
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use flack_catalogue::Service;
use flack_common::{auth::SigningKey, process, registry::keys};
use flack_testing::{Etcd, Nats, free_port};
use flack_websocket::{SERVICE, build, config::Config};
use secrecy::SecretString;
use sqlx::{Connection as _, PgConnection};
use tokio::{
    signal::{
        ctrl_c,
        unix::{SignalKind, signal},
    },
    time::sleep,
};

use crate::client::Socket;

const SERVES: &str = "FLACK_BENCHMARK_SERVES";
/// More than any benchmark opens.
const SOCKETS_MAX: &str = "10000";
const START_MAX: Duration = Duration::from_secs(30);
const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// Runs the service, as `main.rs` does.
pub async fn serve() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &Config| &config.service, build).await
}

/// Returns whether this process is the service.
pub fn is_service() -> bool {
    std::env::var_os(SERVES).is_some()
}

/// etcd, nats-server and the service. They are stopped when this is dropped.
pub struct Stack {
    service: Child,
    pub address: String,
    pub nats: Nats,
    _etcd: Etcd,
    key: SigningKey,
}

impl Drop for Stack {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

impl Stack {
    async fn start(database_url: &str) -> anyhow::Result<Self> {
        let (nats, etcd) = (Nats::start().await, Etcd::start().await);
        let key = SigningKey::generate()?;
        etcd.registry().put(&keys::jwk(key.key_id()), key.public_jwk().to_string(), None).await?;
        let address = format!("127.0.0.1:{}", free_port());
        let service = Command::new(std::env::current_exe()?)
            .env(SERVES, "1")
            .env("FLACK_LISTEN", &address)
            .env("DATABASE_URL", database_url)
            .env("ETCD_URL", etcd.url())
            .env("NATS_URL", nats.url())
            // All clients have one address, and many of them no token.
            .env("LIMIT_SOCKETS_PER_ADDRESS", SOCKETS_MAX)
            .env("LIMIT_ANONYMOUS_SOCKETS", SOCKETS_MAX)
            // No other service is called.
            .env("INTERNAL_URL", "http://127.0.0.1:9")
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let stack = Self { service, address, nats, _etcd: etcd, key };
        let started = Instant::now();
        while Socket::connect(&stack.address).await.is_err() {
            ensure!(started.elapsed() < START_MAX, "the service does not listen");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(stack)
    }

    pub fn service_pid(&self) -> u32 {
        self.service.id()
    }

    pub fn token(&self, user_id: i64) -> SecretString {
        self.key.issue(user_id, chrono::Utc::now().timestamp(), TOKEN_LIFETIME).0
    }
}

/// Runs a benchmark with a stack, in a temporary database of the PostgreSQL at `DATABASE_URL`. The user there must be
/// allowed to create databases.
pub async fn with_stack(benchmark: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "parse_or_exit refuses the benchmark's name")]
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let name = format!("flack_benchmark_{}", std::process::id());
    let mut connection = PgConnection::connect(&url).await.context("PostgreSQL at DATABASE_URL")?;
    let create = format!("create database {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut connection).await?;
    let outcome = async {
        let stack = Stack::start(&with_database(&url, &name)?).await?;
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
