//! Requests to etcd with a timeout. Connects when needed, and again after an error: to one member of the cluster, and
//! after an error to the next one. The files of certificates are read at each connect, so that renewed ones are used
//! without a restart.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use backon::{ConstantBuilder, Retryable as _};
use etcd_client::{Certificate, Client, ConnectOptions, DeleteOptions, GetOptions, Identity, PutOptions, TlsOptions};
use secrecy::ExposeSecret;
use tokio::{
    fs,
    sync::{Mutex, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::keys;
use crate::{config::RegistryConfig, process::Background};

/// The timeout of a request, and of a connect. A healthy etcd answers within a millisecond.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// After a failed connect, callers get the same error for this time, without another attempt.
const CONNECT_INTERVAL_MIN: Duration = Duration::from_millis(200);
/// etcd closes connections that send pings at a shorter interval than five seconds.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// etcd's message for a request during which it changed its permissions.
const PERMISSIONS_CHANGED: &str = "revision of auth store is old";
/// A request is retried once, on a new connection: etcd has restarted, a member has failed, or the token of a password
/// has expired.
const RETRY_ONCE: ConstantBuilder = ConstantBuilder::new().with_delay(Duration::ZERO).with_max_times(1);

#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No answer, or not in time; the request may succeed later.
    #[error("the registry (etcd at {url}) is unavailable: {cause}")]
    Unavailable { url: String, cause: String },
    /// etcd refused the request; a retry does not help.
    #[error("the registry (etcd at {url}) refused to {action}: {cause}")]
    Refused { url: String, action: String, cause: String },
}

/// A client of the registry. Clones share one connection.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    config: RegistryConfig,
    stopping: CancellationToken,
    connection: Mutex<Connection>,
    /// What the instance acknowledges, with the lease of its registration.
    acknowledged: watch::Sender<Option<String>>,
}

/// The shared connection. Its generation identifies it: an error drops only the connection on which it occurred. The
/// generation also chooses the member: the next connection is to the next one.
struct Connection {
    generation: usize,
    client: Option<Client>,
    failed: Option<(Instant, RegistryError)>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Registry").field("url", &self.inner.config.url).finish_non_exhaustive()
    }
}

impl Registry {
    /// Connects; fails when etcd does not answer.
    pub async fn connect(config: &RegistryConfig, background: &Background) -> anyhow::Result<Self> {
        let registry = Self::connect_lazily(config, background);
        registry.get(keys::ROOT).await.context("the registry does not answer; is ETCD_URL right?")?;
        Ok(registry)
    }

    /// Connects at the first request, for processes that have to work while etcd is unavailable.
    pub fn connect_lazily(config: &RegistryConfig, background: &Background) -> Self {
        Self::open_lazily(config, background.stopping())
    }

    /// Connects at the first request. Mirrors end when `stopping` is cancelled.
    pub fn open_lazily(config: &RegistryConfig, stopping: CancellationToken) -> Self {
        // Different processes begin with different members.
        let generation = usize::from(Uuid::new_v4().as_bytes()[0]);
        let connection = Mutex::new(Connection { generation, client: None, failed: None });
        let acknowledged = watch::Sender::default();
        Self { inner: Arc::new(Inner { config: config.clone(), stopping, connection, acknowledged }) }
    }

    /// Sets what the registered instance acknowledges: the records that it follows.
    pub fn acknowledge(&self, records: String) {
        self.inner.acknowledged.send_if_modified(|present| {
            let is_changed = present.as_ref() != Some(&records);
            *present = Some(records);
            is_changed
        });
    }

    pub(super) fn acknowledged(&self) -> watch::Receiver<Option<String>> {
        self.inner.acknowledged.subscribe()
    }

    /// Returns the value of a key.
    pub async fn get(&self, key: &str) -> Result<Option<String>, RegistryError> {
        let answer = self.call("read", |mut etcd| async move { etcd.get(key, None).await }).await?;
        Ok(answer.kvs().first().map(|entry| String::from_utf8_lossy(entry.value()).into_owned()))
    }

    /// Returns all keys that begin with `prefix`, with their values.
    pub async fn get_prefix(&self, prefix: &str) -> Result<BTreeMap<String, String>, RegistryError> {
        Ok(self.read_prefix(prefix).await?.0)
    }

    /// Writes a key. With a time to live (at least two seconds) etcd deletes it after that.
    pub async fn put(&self, key: &str, value: impl Into<String>, ttl: Option<Duration>) -> Result<(), RegistryError> {
        let lease = match ttl {
            Some(ttl) => Some(self.grant(ttl).await?),
            None => None,
        };
        self.put_with_lease(key, &value.into(), lease).await.map(drop)
    }

    /// Deletes a key; returns whether it existed.
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

    /// Returns all keys that begin with `prefix`, and the revision: a watch starts after it.
    pub(super) async fn read_prefix(&self, prefix: &str) -> Result<(BTreeMap<String, String>, i64), RegistryError> {
        let answer = self
            .call("read", |mut etcd| async move { etcd.get(prefix, Some(GetOptions::new().with_prefix())).await })
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

    pub(super) async fn grant(&self, ttl: Duration) -> Result<i64, RegistryError> {
        let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let answer =
            self.call("grant a lease", |mut etcd| async move { etcd.lease_grant(seconds, None).await }).await?;
        Ok(answer.id())
    }

    pub(super) async fn revoke(&self, lease: i64) -> Result<(), RegistryError> {
        self.call("revoke a lease", |mut etcd| async move { etcd.lease_revoke(lease).await }).await.map(drop)
    }

    /// Writes a key, with a lease if there is one; returns the revision of the write.
    pub(super) async fn put_with_lease(
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

    /// Sends a request with a timeout on the shared connection. An error other than a refusal drops the connection.
    pub(super) async fn call<T, F>(&self, action: &str, request: impl Fn(Client) -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let attempt = || self.call_once(action, &request);
        let result = attempt.retry(RETRY_ONCE).when(|(_, is_retryable)| *is_retryable).await;
        result.map_err(|(error, _)| error)
    }

    /// Returns an error together with whether a retry on a new connection may succeed.
    async fn call_once<T, F>(&self, action: &str, request: impl Fn(Client) -> F) -> Result<T, (RegistryError, bool)>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let (generation, client) = self.client().await.map_err(|error| (error, false))?;
        let (cause, is_retryable) = match timeout(REQUEST_TIMEOUT, request(client)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if is_refusal(&error) => return Err((self.refused(action, &error), false)),
            Ok(Err(error)) => (error.to_string(), true),
            Err(_) => (format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()), false),
        };
        self.drop_connection(generation).await;
        Err((self.unavailable(cause), is_retryable))
    }

    /// Returns the present connection, or connects.
    async fn client(&self) -> Result<(usize, Client), RegistryError> {
        let mut connection = self.inner.connection.lock().await;
        if let Some(client) = &connection.client {
            return Ok((connection.generation, client.clone()));
        }
        if let Some((at, error)) = &connection.failed
            && at.elapsed() < CONNECT_INTERVAL_MIN
        {
            return Err(error.clone());
        }
        let mut connected = self.connect_to_next(&mut connection).await;
        for _ in 1..self.members().len() {
            if !matches!(connected, Err(RegistryError::Unavailable { .. })) {
                break;
            }
            connected = self.connect_to_next(&mut connection).await;
        }
        match connected {
            Ok(client) => {
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

    /// Returns the URLs of the members of the cluster.
    fn members(&self) -> Vec<&str> {
        self.inner.config.url.split(',').collect()
    }

    async fn connect_to_next(&self, connection: &mut Connection) -> Result<Client, RegistryError> {
        connection.generation = connection.generation.wrapping_add(1);
        let (config, members) = (&self.inner.config, self.members());
        let mut options = ConnectOptions::new()
            .with_connect_timeout(REQUEST_TIMEOUT)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(true)
            // A member that has lost the others would be silent: its watches end instead.
            .with_require_leader(members.len() > 1);
        if let Some(tls) = tls(config).await.map_err(|error| self.unavailable(format!("{error:#}")))? {
            options = options.with_tls(tls);
        }
        if let (Some(user), Some(password)) = (&config.user, &config.password) {
            options = options.with_user(user, password.expose_secret());
        }
        let member = members[connection.generation % members.len()];
        match timeout(REQUEST_TIMEOUT, Client::connect([member], Some(options))).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) if is_refusal(&error) => Err(self.refused("accept the connection", &error)),
            Ok(Err(error)) => Err(self.unavailable(error.to_string())),
            Err(_) => Err(self.unavailable(format!("no connection within {} s", REQUEST_TIMEOUT.as_secs()))),
        }
    }

    /// Drops the connection of this generation.
    async fn drop_connection(&self, generation: usize) {
        let mut connection = self.inner.connection.lock().await;
        if connection.generation == generation {
            connection.client = None;
        }
    }

    /// Drops the present connection: after the end of a stream a new connection is needed.
    pub(super) async fn reconnect(&self) {
        self.inner.connection.lock().await.client = None;
    }

    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    pub(super) fn unavailable(&self, cause: impl Into<String>) -> RegistryError {
        RegistryError::Unavailable { url: self.inner.config.url.clone(), cause: cause.into() }
    }

    fn refused(&self, action: &str, error: &etcd_client::Error) -> RegistryError {
        RegistryError::Refused {
            url: self.inner.config.url.clone(),
            action: action.to_owned(),
            cause: error.to_string(),
        }
    }
}

/// Returns the CA and the client certificate of the configuration; none without a CA.
async fn tls(config: &RegistryConfig) -> anyhow::Result<Option<TlsOptions>> {
    let Some(ca) = &config.ca_file else { return Ok(None) };
    let read = async |path: &Path| fs::read(path).await.with_context(|| format!("{} cannot be read", path.display()));
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca).await?));
    if let Some(name) = &config.server_name {
        tls = tls.domain_name(name);
    }
    if let (Some(certificate), Some(key)) = (&config.cert_file, &config.key_file) {
        tls = tls.identity(Identity::from_pem(read(certificate).await?, read(key).await?));
    }
    Ok(Some(tls))
}

/// Whether etcd refused the request itself. An expired token is not included: a new connection gets a new token.
/// Neither is a request during which a permission changed, of whichever account.
fn is_refusal(error: &etcd_client::Error) -> bool {
    match error {
        etcd_client::Error::GRpcStatus(status) if status.message().contains(PERMISSIONS_CHANGED) => false,
        etcd_client::Error::GRpcStatus(status) => {
            // By number, because this crate does not depend on a gRPC library: 3 invalid argument, 5 not found,
            // 7 permission denied, 9 failed precondition.
            matches!(i32::from(status.code()), 3 | 5 | 7 | 9)
        }
        etcd_client::Error::InvalidArgs(_) | etcd_client::Error::InvalidUri(_) => true,
        _ => false,
    }
}
