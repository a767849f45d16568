//! The record of a part in etcd, which is changed by compare-and-swap only, and who has acknowledged it.

use std::collections::BTreeMap;

use chrono::Utc;
use etcd_client::{Client, Compare, CompareOp, KeyValue, ResponseHeader, Txn, TxnOp};
use flack_common::registry::keys;
use flack_handover::protocol::Acknowledged;
use flack_handover::{Entry, Part, Record};

use crate::failure::Result;
use crate::stack::Stack;
use crate::upgrade::store::{Operator, Store};

/// The records of a stack. Requests are repeated while etcd does not answer, so a restart of etcd only delays a step.
#[derive(Debug, Clone)]
pub struct Records {
    store: Store,
}

impl Records {
    pub async fn open(stack: &Stack) -> Result<Self> {
        Ok(Self { store: Store::open(stack).await? })
    }

    /// Returns the revision and the record of a part.
    pub async fn read(&self, part: Part) -> Result<(i64, Entry)> {
        let key = keys::authority(part.service().name);
        let answer = self.store.get(&key, false).await?;
        let Some(pair) = answer.kvs().first() else {
            return Err(failure!(Unavailable, "the registry has no record of {part} ({key}). mfup writes it"));
        };
        let entry = Entry::decode(part, &String::from_utf8_lossy(pair.value()))
            .map_err(|error| failure!(Contradiction, "{key} is no record that this mf understands: {error}"))?;
        Ok((pair.mod_revision(), entry))
    }

    /// Writes a record if the key still has the revision. Returns the new revision; none if it has another one.
    pub async fn put(&self, part: Part, record: Record, if_revision: i64) -> Result<Option<i64>> {
        let entry = Entry { part, record, updated_at: Some(Utc::now()), updated_by: Some(Operator::this().name) };
        let (key, value) = (keys::authority(part.service().name), entry.encode());
        let transaction = Txn::new()
            .when([Compare::mod_revision(key.as_str(), CompareOp::Equal, if_revision)])
            .and_then([TxnOp::put(key.as_str(), value, None)]);
        let send = |mut client: Client| {
            let transaction = transaction.clone();
            async move { client.txn(transaction).await }
        };
        let answer = self.store.call(send).await?;
        if answer.succeeded() {
            return Ok(answer.header().map(ResponseHeader::revision));
        }
        // A repeated transaction may have succeeded the first time.
        let (revision, stored) = self.read(part).await?;
        Ok((stored == entry).then_some(revision))
    }

    /// Returns what instances and balancers have acknowledged, by registry key.
    pub async fn acknowledged(&self) -> Result<BTreeMap<String, Acknowledged>> {
        let answer = self.store.get(keys::ACKNOWLEDGED, true).await?;
        let parse = |pair: &KeyValue| {
            // A key with an unknown value counts as none.
            let parts = serde_json::from_slice(pair.value()).unwrap_or_default();
            Some((pair.key_str().ok()?.to_owned(), parts))
        };
        Ok(answer.kvs().iter().filter_map(parse).collect())
    }
}
