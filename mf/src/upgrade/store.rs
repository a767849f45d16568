//! Upgrades in etcd: their records, who drives them, requests of other terminals, and the history.
//!
//! Two terminals cannot drive the upgrade of one service: the driver holds a key with a lease, and every write of the
//! record compares the revision of the driver's last write. A request to etcd is repeated for a time, so that a restart
//! of etcd delays an upgrade and does not end it. The first request is repeated for some seconds only: the command has
//! not done anything yet, and etcd may not run at all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, GetOptions, GetResponse, KeyValue, PutOptions, SortOrder,
    SortTarget, Txn, TxnOp,
};
use flack_catalogue::Service;
use flack_common::registry::{InstanceEntry, keys};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::record::Record;
use crate::failure::{Failure, Result};
use crate::home::Home;
use crate::infra::etcd;
use crate::ports::Ports;
use crate::stack::Stack;

/// A terminal that was killed can be replaced after this time.
pub const LEASE_SECONDS: i64 = 6;
const RENEW_INTERVAL: Duration = Duration::from_millis(1_500);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// A restart of etcd takes a second; a longer outage needs the operator.
const REPEAT_TIME_MAX: Duration = Duration::from_mins(1);
const FIRST_REPEAT_TIME_MAX: Duration = Duration::from_secs(5);
const REPEAT_PAUSE: Duration = Duration::from_millis(200);
/// How many finished upgrades of a service are kept.
pub const HISTORY_MAX: usize = 20;

/// The connection to etcd. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    home: Home,
    ports: Ports,
    client: Mutex<Client>,
    has_answered: AtomicBool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// A terminal that drives an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Such as `anna@host (pid 17)`.
    pub name: String,
    pub since: DateTime<Utc>,
    /// Distinguishes two processes with the same pid, and the own write from another's.
    nonce: u64,
}

/// What another terminal wants the driver to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Promote,
    Abort,
}

/// An upgrade with the terminal that drives it.
#[derive(Debug, Serialize)]
pub struct Listed {
    #[serde(flatten)]
    pub record: Record,
    /// None: nobody drives it.
    pub driver: Option<Operator>,
}

impl Store {
    pub async fn open(stack: &Stack) -> Result<Self> {
        let client = connect(&stack.home, &stack.ports).await?;
        let (home, ports, client) = (stack.home.clone(), stack.ports, Mutex::new(client));
        Ok(Self { inner: Arc::new(Inner { home, ports, client, has_answered: AtomicBool::new(false) }) })
    }

    /// Returns the last upgrade of each service.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let answer = self.get(keys::UPGRADES, true).await?;
        let mut listed = Vec::new();
        for pair in answer.kvs() {
            let Ok(key) = pair.key_str() else { continue };
            if let [service] = keys::segments(key, keys::UPGRADES)[..]
                && let Some(record) = value::<Record>(pair)
            {
                let driver = self.operator(service).await?;
                listed.push(Listed { record, driver });
            }
        }
        Ok(listed)
    }

    /// Fails if one of these services is being upgraded: another command must not change its instances.
    pub async fn require_no_upgrade(&self, services: &[&Service]) -> Result<()> {
        for Listed { record, driver } in self.list().await? {
            if record.phase.is_final() || services.iter().all(|service| service.name != record.service) {
                continue;
            }
            let (service, phase, since) = (&record.service, record.phase, record.started.format("%H:%M:%S UTC"));
            let driver = driver.map_or("nobody; continue it with mfupgrade resume".to_owned(), |driver| driver.name);
            return Err(failure!(
                TryAgain,
                "{service} is being upgraded from {} to {} since {since} ({phase}; by {driver}). Wait, or take it \
                 back: mfupgrade abort {service}",
                record.from,
                record.to
            ));
        }
        Ok(())
    }

    /// Returns the finished upgrades of a service, newest first.
    pub async fn history(&self, service: &str) -> Result<Vec<Record>> {
        let answer = self.get(&keys::upgrade_history(service), true).await?;
        Ok(answer.kvs().iter().rev().filter_map(value).collect())
    }

    pub async fn operator(&self, service: &str) -> Result<Option<Operator>> {
        self.read(&keys::upgrade_operator(service)).await
    }

    /// Returns the value of a key; none if it does not exist, or is not a `T`.
    pub async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        Ok(self.get(key, false).await?.kvs().first().and_then(value))
    }

    pub async fn put(&self, key: &str, value: &impl Serialize) -> Result<()> {
        let value = json(value);
        let put = |mut client: Client| {
            let value = value.clone();
            async move { client.put(key, value, None).await }
        };
        self.call(put).await.map(drop)
    }

    pub async fn delete(&self, key: &str) -> Result<()> {
        self.call(|mut client| async move { client.delete(key, None).await }).await.map(drop)
    }

    /// Returns the registered instances of a service.
    pub async fn instances(&self, service: &str) -> Result<BTreeMap<String, InstanceEntry>> {
        let prefix = keys::instance(service, "");
        let answer = self.get(&prefix, true).await?;
        let entry = |pair: &KeyValue| Some((pair.key_str().ok()?.strip_prefix(&prefix)?.to_owned(), value(pair)?));
        Ok(answer.kvs().iter().filter_map(entry).collect())
    }

    /// Returns which instances of a service are in the balancer.
    pub async fn in_balancer(&self, service: &str) -> Result<Vec<String>> {
        let prefix = keys::balancer(service, "");
        let answer = self.get(&prefix, true).await?;
        let names = answer.kvs().iter().filter_map(|pair| pair.key_str().ok()?.strip_prefix(&prefix));
        Ok(names.map(str::to_owned).collect())
    }

    /// Makes this terminal the driver of a service's upgrade. Waits, at most `wait`, for the lease of another one.
    pub async fn claim(&self, service: &str, wait: Duration) -> Result<Claim> {
        let (began, operator) = (Instant::now(), Operator::this());
        loop {
            let lease =
                self.call(|mut client| async move { client.lease_grant(LEASE_SECONDS, None).await }).await?.id();
            if self.write_operator(service, &operator, lease).await? {
                let (lost, is_lost) = watch::channel(false);
                let renewal = tokio::spawn(renew(self.clone(), service.to_owned(), operator.clone(), lease, lost));
                let claim =
                    Claim { store: self.clone(), service: service.to_owned(), operator, revision: 0, is_lost, renewal };
                return claim.with_revision().await;
            }
            self.call(|mut client| async move { client.lease_revoke(lease).await }).await?;
            if began.elapsed() >= wait {
                let Some(holder) = self.operator(service).await? else { continue };
                return Err(failure!(
                    TryAgain,
                    "{service} is being upgraded by {} since {}. Follow it: mfupgrade status --watch",
                    holder.name,
                    holder.since.format("%H:%M:%S UTC")
                ));
            }
            sleep(REPEAT_PAUSE).await;
        }
    }

    /// Writes the key of the driver. Returns false if another terminal holds it.
    async fn write_operator(&self, service: &str, operator: &Operator, lease: i64) -> Result<bool> {
        let key = keys::upgrade_operator(service);
        let put = TxnOp::put(key.as_str(), json(operator), Some(PutOptions::new().with_lease(lease)));
        let absent = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
        let transaction = Txn::new().when([absent]).and_then([put]);
        if self.transact(transaction).await? {
            return Ok(true);
        }
        // A repeated transaction may have succeeded the first time.
        Ok(self.operator(service).await?.as_ref() == Some(operator))
    }

    async fn transact(&self, transaction: Txn) -> Result<bool> {
        let send = |mut client: Client| {
            let transaction = transaction.clone();
            async move { client.txn(transaction).await }
        };
        Ok(self.call(send).await?.succeeded())
    }

    pub(crate) async fn get(&self, key: &str, is_prefix: bool) -> Result<GetResponse> {
        let get = |mut client: Client| async move {
            let options = GetOptions::new().with_sort(SortTarget::Key, SortOrder::Ascend);
            client.get(key, Some(if is_prefix { options.with_prefix() } else { options })).await
        };
        self.call(get).await
    }

    /// Sends a request, and repeats it on a new connection while etcd does not answer.
    pub(crate) async fn call<T, F>(&self, request: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        let began = Instant::now();
        loop {
            let client = self.client();
            let problem = match timeout(REQUEST_TIMEOUT, request(client)).await {
                Ok(Ok(answer)) => {
                    self.inner.has_answered.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(error)) => etcd::cause(&error),
                Err(_) => format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()),
            };
            if !self.inner.has_answered.load(Ordering::Relaxed) {
                if began.elapsed() > FIRST_REPEAT_TIME_MAX {
                    return Err(etcd::unreachable(&self.inner.ports.etcd_address(), &problem));
                }
            } else if began.elapsed() > REPEAT_TIME_MAX {
                let seconds = REPEAT_TIME_MAX.as_secs();
                return Err(failure!(
                    Unavailable,
                    "the registry (etcd) has not answered for {seconds} s: {problem}. Everything stays as it is; \
                     continue when mfps shows etcd as ready"
                ));
            }
            sleep(REPEAT_PAUSE).await;
            let client = connect(&self.inner.home, &self.inner.ports).await?;
            *self.inner.client.lock().expect("no holder of this lock panics") = client;
        }
    }

    fn client(&self) -> Client {
        self.inner.client.lock().expect("no holder of this lock panics").clone()
    }
}

async fn connect(home: &Home, ports: &Ports) -> Result<Client> {
    etcd::connect(home, ports)
        .await
        .map_err(|error| failure!(Unavailable, "etcd's client certificate cannot be used: {error}; run mfup"))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records are plain data")
}

fn value<T: DeserializeOwned>(pair: &KeyValue) -> Option<T> {
    serde_json::from_slice(pair.value()).ok()
}

impl Operator {
    /// Returns this terminal.
    pub(crate) fn this() -> Self {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
        let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
        let (user, host) = (user.unwrap_or_else(|| "unknown".to_owned()), host.unwrap_or_else(|| "unknown".to_owned()));
        let name = format!("{user}@{host} (pid {})", std::process::id());
        Self { name, since: Utc::now(), nonce: rand::random() }
    }
}

/// The right to drive the upgrade of one service, until [`Claim::release`], or the end of the process and its lease.
#[derive(Debug)]
pub struct Claim {
    store: Store,
    service: String,
    operator: Operator,
    /// The revision of the record that was read or written last; 0 if there is none.
    revision: i64,
    is_lost: watch::Receiver<bool>,
    renewal: JoinHandle<()>,
}

impl Claim {
    async fn with_revision(mut self) -> Result<Self> {
        self.revision = self.load().await?.1;
        Ok(self)
    }

    /// Returns the service's last upgrade.
    pub async fn record(&self) -> Result<Option<Record>> {
        Ok(self.load().await?.0)
    }

    async fn load(&self) -> Result<(Option<Record>, i64)> {
        let key = keys::upgrade(&self.service);
        let answer = self.store.get(&key, false).await?;
        let Some(pair) = answer.kvs().first() else { return Ok((None, 0)) };
        let record = value(pair).ok_or_else(|| {
            failure!(Contradiction, "the registry's key {key} is no record of an upgrade that this mf understands")
        })?;
        Ok((Some(record), pair.mod_revision()))
    }

    /// Writes the record. Fails if another terminal has taken over.
    pub async fn write(&mut self, record: &mut Record) -> Result<()> {
        self.write_with(record, None).await
    }

    /// Writes the last state of a record, also to the history.
    pub async fn finish(&mut self, record: &mut Record) -> Result<()> {
        let prefix = keys::upgrade_history(&self.service);
        // Times in RFC 3339 with the same precision are in the order of time.
        let key = format!("{prefix}{}", record.started.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
        self.write_with(record, Some(&key)).await?;
        self.store.delete(&keys::upgrade_request(&self.service)).await?;
        let answer = self.store.get(&prefix, true).await?;
        let surplus = answer.kvs().len().saturating_sub(HISTORY_MAX);
        if let Some(first_kept) = answer.kvs().get(surplus).filter(|_| surplus > 0) {
            let (first, end) = (prefix.as_bytes().to_vec(), first_kept.key().to_vec());
            let delete = |mut client: Client| {
                let (first, options) = (first.clone(), DeleteOptions::new().with_range(end.clone()));
                async move { client.delete(first, Some(options)).await }
            };
            self.store.call(delete).await?;
        }
        Ok(())
    }

    async fn write_with(&mut self, record: &mut Record, history: Option<&str>) -> Result<()> {
        if *self.is_lost.borrow() {
            return Err(self.taken_over());
        }
        record.operator.clone_from(&self.operator.name);
        let (key, text) = (keys::upgrade(&self.service), json(record));
        let mut writes = vec![TxnOp::put(key.as_str(), text.as_str(), None)];
        writes.extend(history.map(|history| TxnOp::put(history, text.as_str(), None)));
        let unchanged = Compare::mod_revision(key.as_str(), CompareOp::Equal, self.revision);
        let transaction = Txn::new().when([unchanged]).and_then(writes);
        let succeeded = self.store.transact(transaction).await?;
        let (stored, revision) = self.load().await?;
        // A repeated transaction may have succeeded the first time.
        if !succeeded && stored.as_ref() != Some(record) {
            return Err(self.taken_over());
        }
        self.revision = revision;
        Ok(())
    }

    fn taken_over(&self) -> Failure {
        let service = &self.service;
        failure!(
            TryAgain,
            "another terminal has taken over the upgrade of {service}. Follow it: mfupgrade status --watch"
        )
    }

    /// Returns what another terminal has requested, and forgets it.
    pub async fn take_request(&self) -> Result<Option<Request>> {
        if *self.is_lost.borrow() {
            return Err(self.taken_over());
        }
        let key = keys::upgrade_request(&self.service);
        let request = self.store.read(&key).await?;
        if request.is_some() {
            self.store.delete(&key).await?;
        }
        Ok(request)
    }

    /// Lets other terminals drive the upgrade at once.
    pub async fn release(self) {
        self.renewal.abort();
        let key = keys::upgrade_operator(&self.service);
        let own = Compare::value(key.as_str(), CompareOp::Equal, json(&self.operator));
        let transaction = Txn::new().when([own]).and_then([TxnOp::delete(key, None)]);
        let mut client = self.store.client();
        // If this fails, the lease expires.
        let _ = timeout(REQUEST_TIMEOUT, client.txn(transaction)).await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Renews the lease of the driver's key. If it has expired, writes the key again, unless another terminal has.
async fn renew(store: Store, service: String, operator: Operator, mut lease: i64, lost: watch::Sender<bool>) {
    loop {
        sleep(RENEW_INTERVAL).await;
        let client = store.client();
        // While etcd does not answer, the lease does not expire.
        let Ok(Ok(lives)) = timeout(REQUEST_TIMEOUT, renew_once(client, lease)).await else { continue };
        if lives {
            continue;
        }
        let Ok(granted) = store.call(|mut client| async move { client.lease_grant(LEASE_SECONDS, None).await }).await
        else {
            continue;
        };
        lease = granted.id();
        if matches!(store.write_operator(&service, &operator, lease).await, Ok(false)) {
            let _ = lost.send(true);
            return;
        }
    }
}

/// Returns whether the lease exists.
async fn renew_once(mut client: Client, lease: i64) -> std::result::Result<bool, Error> {
    let (mut sender, mut answers) = client.lease_keep_alive(lease).await?;
    sender.keep_alive().await?;
    Ok(answers.message().await?.is_some_and(|answer| answer.ttl() > 0))
}
