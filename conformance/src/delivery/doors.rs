//! Where sockets connect: at the balancer as everybody does, or straight at the monolith, which serves the same protocol.

use serde_json::Value;

use crate::{
    client::{Client, wait_for},
    stack::Operator,
};

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
                // It may be about to come back, or the registry that knows where it is.
                let (address, _) = wait_for("the monolith's address", || async {
                    let operator = operator.clone();
                    let ps = tokio::task::spawn_blocking(move || operator.ps()).await??;
                    Ok(address_of(&ps, "monolith").map(str::to_owned))
                })
                .await?;
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
