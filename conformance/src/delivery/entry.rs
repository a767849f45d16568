//! The address that sockets connect to: the balancer, or directly the monolith, which serves the same protocol.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    client::{Client, wait_for},
    stack::Operator,
};

/// How long an address of the monolith is cached: many sockets lose the monolith in the same moment.
const CACHE_TIME: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
pub enum EntryPoint {
    Balancer,
    Monolith(Arc<MonolithAddress>),
}

/// The monolith's address, which changes when the monolith is restarted.
#[derive(Debug)]
pub struct MonolithAddress {
    operator: Operator,
    /// The cached address, and when it was read.
    cached: Mutex<Option<(Instant, String)>>,
}

impl EntryPoint {
    pub fn monolith(operator: Operator) -> Self {
        Self::Monolith(Arc::new(MonolithAddress { operator, cached: Mutex::new(None) }))
    }

    /// Returns `http://host:port`.
    pub async fn base(&self, client: &Client) -> Result<String> {
        match self {
            Self::Balancer => Ok(client.base().to_owned()),
            Self::Monolith(address) => address.base().await,
        }
    }
}

impl MonolithAddress {
    async fn base(&self) -> Result<String> {
        let mut cached = self.cached.lock().await;
        if let Some((at, base)) = &*cached
            && at.elapsed() < CACHE_TIME
        {
            return Ok(base.clone());
        }
        // The monolith or the registry may be restarting.
        let (base, _) = wait_for("the monolith's address", || async {
            let operator = self.operator.clone();
            let ps = tokio::task::spawn_blocking(move || operator.ps()).await??;
            Ok(address_of(&ps, "monolith").map(|address| format!("http://{address}")))
        })
        .await?;
        *cached = Some((Instant::now(), base.clone()));
        Ok(base)
    }
}

fn address_of<'a>(ps: &'a Value, service: &str) -> Option<&'a str> {
    ps["processes"]
        .as_array()?
        .iter()
        .find(|process| process["service"] == service && !process["address"].is_null())?["address"]
        .as_str()
}
