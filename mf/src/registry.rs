//! The registry: `mf` writes the first owners of parts, and splits, and reads instances and what the balancer's agent
//! reports.

use std::collections::BTreeMap;

use anyhow::Context;
use chrono::{DateTime, Utc};
use etcd_client::{Client, Compare, CompareOp, GetOptions, GetResponse, Txn, TxnOp};
use flack_catalogue::{Service, extracted};
use flack_common::registry::{Split, keys};
use flack_handover::{Entry, Part, Side};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::failure::Result;
use crate::home::Home;
use crate::infra::etcd;
use crate::ports::Ports;
use crate::settings::Stage;

/// The part whose owner signs tokens.
const SIGNER: &str = Service::named("tokens").name;

#[derive(Clone)]
pub struct Registry {
    client: Client,
    address: String,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instance {
    /// It is in the key, not in the value.
    #[serde(skip)]
    pub service: String,
    pub address: String,
    pub version: String,
    #[serde(default)]
    pub commit: Option<String>,
    pub weight: Option<u16>,
    pub started: Option<DateTime<Utc>>,
    /// Whether the instance is about to stop.
    #[serde(default)]
    pub draining: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Route {
    pub owner: String,
    pub percentage: u8,
}

#[derive(Debug, Deserialize)]
struct BalancerState {
    state: String,
}

/// The content of the registry at one moment. Keys are names of instances, services and parts.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub instances: BTreeMap<String, Instance>,
    pub balancer: BTreeMap<String, String>,
    /// The owner of a service's paths, unless it is the monolith. For parts it follows from their records.
    pub routes: BTreeMap<String, Route>,
    pub authority: BTreeMap<String, Entry>,
    pub splits: BTreeMap<String, Split>,
}

impl Snapshot {
    /// Returns the instances of a service that are not about to stop, by version.
    pub fn versions(&self, service: &Service) -> BTreeMap<String, Vec<String>> {
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, instance) in &self.instances {
            if instance.service == service.name && !instance.draining {
                versions.entry(instance.version.clone()).or_default().push(name.clone());
            }
        }
        versions
    }
}

impl Registry {
    pub async fn connect(home: &Home, ports: &Ports) -> anyhow::Result<Self> {
        let client = etcd::connect(home, ports).await.context("etcd's client certificate cannot be used; run mfup")?;
        Ok(Self { client, address: ports.etcd_address() })
    }

    /// Writes the owners of a new stack and the routes of services that are no parts, and lets only the owner of tokens
    /// sign. Existing keys stay: a migration may have changed them.
    pub async fn seed(&self, stage: Stage) -> anyhow::Result<()> {
        let owner = match stage {
            Stage::Services => Side::Service,
            Stage::Monolith => Side::Monolith,
        };
        for part in Part::ALL {
            self.put_if_absent(&keys::authority(part.service().name), &json!(Entry::initial(part, owner))).await?;
        }
        // The paths of a part follow its record. Those of another service go to it at every stage: without an instance
        // they are answered with 503.
        for service in extracted().filter(|service| !service.has_authority && !service.paths.is_empty()) {
            let route = Route { owner: service.name.to_owned(), percentage: 100 };
            self.put_if_absent(&keys::route(service.name), &json!(route)).await?;
        }
        self.allow_signing().await
    }

    async fn put_if_absent(&self, key: &str, value: &serde_json::Value) -> anyhow::Result<()> {
        let if_absent = Txn::new().when([Compare::create_revision(key, CompareOp::Equal, 0)]).and_then([TxnOp::put(
            key,
            value.to_string(),
            None,
        )]);
        let written = self.client.kv_client().txn(if_absent).await;
        written.with_context(|| format!("{key} cannot be written to the registry")).map(drop)
    }

    /// Lets only the owner of tokens write signing keys.
    pub async fn allow_signing(&self) -> anyhow::Result<()> {
        let authority = self.snapshot().await?.authority;
        let owner = authority.get(SIGNER).map(Entry::owner);
        etcd::allow_signing(&mut self.client.clone(), owner).await
    }

    /// Lets the next owner of a part write signing keys, if it is the part that signs, besides the present owner.
    pub async fn prepare_signing(&self, part: Part, next: Side) -> anyhow::Result<()> {
        if part.service().name != SIGNER {
            return Ok(());
        }
        etcd::grant_signing(&mut self.client.clone(), Service::named(next.service_name(part))).await
    }

    /// Whether the balancer, or one of several, sends requests to this instance.
    pub async fn is_in_balancer(&self, service: &str, instance: &str) -> Result<bool> {
        let key = keys::balancer(service, instance);
        let below = format!("{key}/");
        let answer = self.get(&key, GetOptions::new().with_prefix().with_keys_only()).await?;
        // `users-1` is also the beginning of `users-10`.
        Ok(answer.kvs().iter().any(|pair| pair.key() == key.as_bytes() || pair.key().starts_with(below.as_bytes())))
    }

    /// Returns all entries as text.
    pub async fn entries(&self) -> Result<BTreeMap<String, String>> {
        let answer = self.get("/flack/", GetOptions::new().with_prefix()).await?;
        let entries = answer.kvs().iter().filter_map(|pair| Some((pair.key_str().ok()?, pair.value_str().ok()?)));
        Ok(entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    async fn get(&self, key: &str, options: GetOptions) -> Result<GetResponse> {
        let answer = self.client.kv_client().get(key, Some(options)).await;
        answer.map_err(|error| etcd::unreachable(&self.address, &etcd::cause(&error)))
    }

    /// Writes the split of a service, in place of the one that it has.
    pub async fn put_split(&self, service: &Service, split: &Split) -> anyhow::Result<()> {
        let key = keys::split(service.name);
        let put = self.client.kv_client().put(key.as_str(), json!(split).to_string(), None).await;
        put.with_context(|| format!("{key} cannot be written to the registry")).map(drop)
    }

    /// Deletes the split of a service, if there is one.
    pub async fn delete_split(&self, service: &Service) -> anyhow::Result<()> {
        let key = keys::split(service.name);
        let deleted = self.client.kv_client().delete(key.as_str(), None).await;
        deleted.with_context(|| format!("{key} cannot be deleted from the registry")).map(drop)
    }

    /// Deletes the split of a service if it is still this one.
    pub async fn delete_split_if(&self, service: &Service, split: &Split) -> anyhow::Result<()> {
        let key = keys::split(service.name);
        let if_equal = Txn::new()
            .when([Compare::value(key.as_str(), CompareOp::Equal, json!(split).to_string())])
            .and_then([TxnOp::delete(key.as_str(), None)]);
        let deleted = self.client.kv_client().txn(if_equal).await;
        deleted.with_context(|| format!("{key} cannot be deleted from the registry")).map(drop)
    }

    pub async fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        for (key, value) in self.entries().await? {
            let value = value.as_bytes();
            let parts: Vec<&str> = key.split('/').skip(2).collect();
            // Entries with unknown keys or values are skipped.
            match parts.as_slice() {
                ["services", service, name] => {
                    insert(&mut snapshot.instances, name, value);
                    if let Some(instance) = snapshot.instances.get_mut(*name) {
                        (*service).clone_into(&mut instance.service);
                    }
                }
                ["splits", service] => insert(&mut snapshot.splits, service, value),
                ["routes", service] => insert(&mut snapshot.routes, service, value),
                ["authority", part] => {
                    let entry = Part::find(part).and_then(|part| Entry::decode(part, str::from_utf8(value).ok()?).ok());
                    snapshot.authority.extend(entry.map(|entry| ((*part).to_owned(), entry)));
                }
                ["balancer", _, instance] | ["balancer", _, instance, _] => {
                    if let Ok(state) = serde_json::from_slice::<BalancerState>(value) {
                        snapshot.balancer.insert((*instance).to_owned(), state.state);
                    }
                }
                _ => {}
            }
        }
        for (part, entry) in &snapshot.authority {
            if entry.record.owner == Side::Monolith {
                snapshot.routes.remove(part);
            } else {
                snapshot.routes.insert(part.clone(), Route { owner: part.clone(), percentage: 100 });
            }
        }
        Ok(snapshot)
    }
}

fn insert<T: for<'de> Deserialize<'de>>(into: &mut BTreeMap<String, T>, name: &str, value: &[u8]) {
    if let Ok(value) = serde_json::from_slice(value) {
        into.insert(name.to_owned(), value);
    }
}
