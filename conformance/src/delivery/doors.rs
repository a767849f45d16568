//! Where sockets connect: at the balancer as everybody does, or straight at the monolith, which serves the same protocol.

use anyhow::Context as _;
use serde_json::Value;

use crate::{client::Client, stack::Operator};

#[derive(Debug, Clone)]
pub enum Door {
    Balancer,
    /// Where it is now: after a crash it comes back at another port.
    Monolith(Operator),
}

impl Door {
    /// `http://host:port`.
    pub async fn base(&self, client: &Client) -> anyhow::Result<String> {
        match self {
            Self::Balancer => Ok(client.base().to_owned()),
            Self::Monolith(operator) => {
                let operator = operator.clone();
                let ps = tokio::task::spawn_blocking(move || operator.ps()).await??;
                let address = address_of(&ps, "monolith").context("the monolith does not run")?;
                Ok(format!("http://{address}"))
            }
        }
    }
}

fn address_of<'a>(ps: &'a Value, service: &str) -> Option<&'a str> {
    ps["processes"]
        .as_array()?
        .iter()
        .find(|process| process["service"] == service && !process["address"].is_null())?["address"]
        .as_str()
}
