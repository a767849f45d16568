//! Where sockets connect: at the balancer as everybody does, or straight at the monolith, which serves the same protocol.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    client::{Client, wait_for},
    stack::Operator,
};

/// Many sockets lose the monolith at the same moment; so long one look serves all of them.
const LOOK_LASTS: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
pub enum Door {
    Balancer,
    Monolith(Arc<MonolithDoor>),
}

/// Where the monolith is now: after a crash it comes back at another port.
#[derive(Debug)]
pub struct MonolithDoor {
    operator: Operator,
    /// The last look, and when it was.
    seen: Mutex<Option<(Instant, String)>>,
}

impl Door {
    pub fn monolith(operator: Operator) -> Self {
        Self::Monolith(Arc::new(MonolithDoor { operator, seen: Mutex::new(None) }))
    }

    /// `http://host:port`.
    pub async fn base(&self, client: &Client) -> anyhow::Result<String> {
        match self {
            Self::Balancer => Ok(client.base().to_owned()),
            Self::Monolith(door) => door.base().await,
        }
    }
}

impl MonolithDoor {
    async fn base(&self) -> anyhow::Result<String> {
        let mut seen = self.seen.lock().await;
        if let Some((at, base)) = &*seen
            && at.elapsed() < LOOK_LASTS
        {
            return Ok(base.clone());
        }
        // It may be about to come back, or the registry that knows where it is.
        let (base, _) = wait_for("the monolith's address", || async {
            let operator = self.operator.clone();
            let ps = tokio::task::spawn_blocking(move || operator.ps()).await??;
            Ok(address_of(&ps, "monolith").map(|address| format!("http://{address}")))
        })
        .await?;
        *seen = Some((Instant::now(), base.clone()));
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
