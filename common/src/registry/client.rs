//! One request to etcd, bounded: connects when needed, connects anew after any error, says clearly when the
//! registry is away.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use etcd_client::{Client, ConnectOptions, DeleteOptions, GetOptions, PutOptions};
use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{config::RegistryConfig, process::Background};

/// One request, connecting included in a second one. etcd answers in a millisecond or is in trouble.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// After a refused connection, callers get the same answer for this long instead of each trying again.
const CONNECT_PAUSE: Duration = Duration::from_millis(200);
/// etcd closes connections that ping more often than every five seconds.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A token that died with etcd, or of old age, is worth one more try with a new one, unseen by the caller.
const ATTEMPTS_MAX: usize = 2;

#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answers, or not in time; the same request may work a moment later.
    #[error("the registry (etcd at {url}) is unavailable: {cause}")]
    Unavailable { url: String, cause: String },
    /// It answered no; asking again does not help.
    #[error("the registry (etcd at {url}) refused to {what}: {cause}")]
    Refused { url: String, what: String, cause: String },
}

/// Who we are to etcd; none when it runs without authentication.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub user: String,
    pub password: SecretString,
}

impl Credentials {
    fn of(config: &RegistryConfig) -> Option<Self> {
        let user = config.user.clone()?;
        Some(Self { user, password: config.password.clone().unwrap_or_default() })
    }
}

/// A handle to the registry; clones share one connection.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    url: String,
    credentials: Option<Credentials>,
    stopping: CancellationToken,
    connection: Mutex<Connection>,
}

/// The generation tells whether the connection that failed is still the one in use.
struct Connection {
    generation: u64,
    client: Option<Client>,
    failed: Option<(Instant, RegistryError)>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Registry").field("url", &self.inner.url).finish_non_exhaustive()
    }
}

impl Registry {
    /// Connects, and fails when etcd does not answer now.
    pub async fn connect(config: &RegistryConfig, background: &Background) -> anyhow::Result<Self> {
        Self::open(&config.url, Credentials::of(config), background.stopping()).await
    }

    /// The same without asking first: for whoever has to work while etcd is away.
    pub fn connect_lazily(config: &RegistryConfig, background: &Background) -> Self {
        Self::open_lazily(&config.url, Credentials::of(config), background.stopping())
    }

    /// Connects, and fails when etcd does not answer now. `stopping` ends mirrors and renewals.
    pub async fn open(
        url: &str,
        credentials: Option<Credentials>,
        stopping: CancellationToken,
    ) -> anyhow::Result<Self> {
        let registry = Self::open_lazily(url, credentials, stopping);
        registry.get(super::keys::ROOT).await.context("the registry does not answer; is ETCD_URL right?")?;
        Ok(registry)
    }

    /// `connect_lazily` without a configuration.
    pub fn open_lazily(url: &str, credentials: Option<Credentials>, stopping: CancellationToken) -> Self {
        let connection = Mutex::new(Connection { generation: 0, client: None, failed: None });
        Self { inner: Arc::new(Inner { url: url.to_owned(), credentials, stopping, connection }) }
    }

    /// The value of one key.
    pub async fn get(&self, key: &str) -> Result<Option<String>, RegistryError> {
        let answer = self.call("read", |mut etcd| async move { etcd.get(key, None).await }).await?;
        Ok(answer.kvs().first().map(|entry| String::from_utf8_lossy(entry.value()).into_owned()))
    }

    /// All keys that begin with `prefix`, and their values.
    pub async fn get_prefix(&self, prefix: &str) -> Result<BTreeMap<String, String>, RegistryError> {
        Ok(self.read_prefix(prefix).await?.0)
    }

    /// Writes a key. With a lifetime (of two seconds at least) it goes away by itself.
    pub async fn put(
        &self,
        key: &str,
        value: impl Into<String>,
        lifetime: Option<Duration>,
    ) -> Result<(), RegistryError> {
        let lease = match lifetime {
            Some(lifetime) => Some(self.grant(lifetime).await?),
            None => None,
        };
        self.put_under(key, &value.into(), lease).await.map(drop)
    }

    /// Deletes a key; true when it was there.
    pub async fn delete(&self, key: &str) -> Result<bool, RegistryError> {
        let answer = self.call("delete", |mut etcd| async move { etcd.delete(key, None).await }).await?;
        Ok(answer.deleted() > 0)
    }

    /// Deletes all keys that begin with `prefix`.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<(), RegistryError> {
        let options = DeleteOptions::new().with_prefix();
        self.call("delete", |mut etcd| {
            let options = options.clone();
            async move { etcd.delete(prefix, Some(options)).await }
        })
        .await
        .map(drop)
    }

    /// All keys below `prefix` and the revision they were read at: a watch goes on from the next one.
    pub(super) async fn read_prefix(
        &self,
        prefix: &str,
    ) -> Result<(BTreeMap<String, String>, i64), RegistryError> {
        let answer =
            self.call("read", |mut etcd| async move {
                etcd.get(prefix, Some(GetOptions::new().with_prefix())).await
            })
            .await?;
        let entries = answer
            .kvs()
            .iter()
            .map(|entry| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(entry.key()), text(entry.value()))
            })
            .collect();
        Ok((entries, answer.header().map_or(0, etcd_client::ResponseHeader::revision)))
    }

    pub(super) async fn grant(&self, lifetime: Duration) -> Result<i64, RegistryError> {
        let seconds = i64::try_from(lifetime.as_secs().max(1)).unwrap_or(i64::MAX);
        let answer = self
            .call("grant a lease", |mut etcd| async move { etcd.lease_grant(seconds, None).await })
            .await?;
        Ok(answer.id())
    }

    pub(super) async fn revoke(&self, lease: i64) -> Result<(), RegistryError> {
        self.call("revoke a lease", |mut etcd| async move { etcd.lease_revoke(lease).await }).await.map(drop)
    }

    /// Writes a key and tells the revision of the write.
    pub(super) async fn put_under(
        &self,
        key: &str,
        value: &str,
        lease: Option<i64>,
    ) -> Result<i64, RegistryError> {
        let options = lease.map(|lease| PutOptions::new().with_lease(lease));
        let answer = self
            .call("write", |mut etcd| {
                let options = options.clone();
                async move { etcd.put(key, value, options).await }
            })
            .await?;
        Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// One request with a deadline, on the shared connection; on trouble the next caller gets a new one.
    pub(super) async fn call<T, F>(
        &self,
        what: &str,
        request: impl Fn(Client) -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut attempt = 1;
        loop {
            let (generation, client) = self.client().await?;
            let failed = match timeout(REQUEST_TIMEOUT, request(client)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if is_refusal(&error) => return Err(self.refused(what, &error)),
                Ok(Err(error)) => (error.to_string(), attempt < ATTEMPTS_MAX),
                Err(_) => (format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()), false),
            };
            self.forget(generation).await;
            let (cause, again) = failed;
            if !again {
                return Err(self.unavailable(cause));
            }
            attempt += 1;
        }
    }

    /// The connection in use, or a new one.
    async fn client(&self) -> Result<(u64, Client), RegistryError> {
        let mut connection = self.inner.connection.lock().await;
        if let Some(client) = &connection.client {
            return Ok((connection.generation, client.clone()));
        }
        if let Some((at, error)) = &connection.failed
            && at.elapsed() < CONNECT_PAUSE
        {
            return Err(error.clone());
        }
        match self.connect_anew().await {
            Ok(client) => {
                connection.generation += 1;
                connection.client = Some(client.clone());
                connection.failed = None;
                Ok((connection.generation, client))
            }
            Err(error) => {
                connection.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect_anew(&self) -> Result<Client, RegistryError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(REQUEST_TIMEOUT)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(true);
        if let Some(credentials) = &self.inner.credentials {
            options = options.with_user(&credentials.user, credentials.password.expose_secret());
        }
        let endpoints: Vec<&str> = self.inner.url.split(',').map(str::trim).collect();
        match timeout(REQUEST_TIMEOUT, Client::connect(endpoints, Some(options))).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) if is_refusal(&error) => Err(self.refused("let us in", &error)),
            Ok(Err(error)) => Err(self.unavailable(error.to_string())),
            Err(_) => Err(self.unavailable(format!("no connection within {} s", REQUEST_TIMEOUT.as_secs()))),
        }
    }

    /// Whoever finds a connection broken drops it, unless somebody already made a new one.
    async fn forget(&self, generation: u64) {
        let mut connection = self.inner.connection.lock().await;
        if connection.generation == generation {
            connection.client = None;
        }
    }

    /// Drops the connection in use: streams that ended need a new one with a new token.
    pub(super) async fn reconnect(&self) {
        self.inner.connection.lock().await.client = None;
    }

    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    pub(super) fn unavailable(&self, cause: impl Into<String>) -> RegistryError {
        RegistryError::Unavailable { url: self.inner.url.clone(), cause: cause.into() }
    }

    fn refused(&self, what: &str, error: &etcd_client::Error) -> RegistryError {
        RegistryError::Refused {
            url: self.inner.url.clone(),
            what: what.to_owned(),
            cause: error.to_string(),
        }
    }
}

/// etcd understood and said no. A dead token is not among these: a new one helps.
fn is_refusal(error: &etcd_client::Error) -> bool {
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            // By number, so that this crate needs no gRPC library of its own: 3 invalid argument,
            // 5 not found, 7 permission denied, 9 failed precondition.
            matches!(i32::from(status.code()), 3 | 5 | 7 | 9)
        }
        etcd_client::Error::InvalidArgs(_) | etcd_client::Error::InvalidUri(_) => true,
        _ => false,
    }
}
