//! Resolves names to public addresses only.
//!
//! The client connects to exactly these addresses, so a name that changes its address between check and connection (DNS
//! rebinding) has no effect.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use tokio::net::lookup_host;

use super::address::is_public;

/// At least one address of the name is not public.
#[derive(Debug, Error)]
#[error("the name resolves to a private address")]
pub struct NotPublic;

#[derive(Debug)]
pub struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The client replaces port 0 by its own.
            let addresses = lookup_host((name.as_str(), 0)).await?.collect();
            let addresses = only_public(addresses)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Refuses the whole name when one address is private, because a legitimate site has only public ones.
fn only_public(addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, NotPublic> {
    if addresses.iter().all(|address| is_public(address.ip())) { Ok(addresses) } else { Err(NotPublic) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_resolves_to_this_machine_is_refused() {
        let Err(refusal) = PublicResolver.resolve("localhost".parse().unwrap()).await else {
            panic!("localhost was resolved")
        };
        assert!(refusal.is::<NotPublic>(), "{refusal}");
    }

    #[test]
    fn a_name_with_one_private_address_among_public_ones_is_refused() {
        let public = SocketAddr::from(([93, 184, 216, 34], 0));
        let private = SocketAddr::from(([10, 0, 0, 1], 0));
        assert!(only_public(vec![public]).is_ok());
        assert!(only_public(vec![public, private]).is_err());
    }
}
