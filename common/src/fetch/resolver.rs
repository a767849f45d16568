//! Names to addresses, public ones only. The client connects to what this answers and to nothing else, so a
//! name that changes its address between a check and the connection (DNS rebinding) gains nothing.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use tokio::net::lookup_host;

use super::address::is_public;

/// The name has addresses, and at least one of them is none of the public internet's.
#[derive(Debug, Error)]
#[error("the name leads into a private network")]
pub struct NotPublic;

#[derive(Debug)]
pub struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // Port 0: the client puts its own in.
            let addresses = lookup_host((name.as_str(), 0)).await?.collect();
            let addresses = only_public(addresses)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// One private address among public ones is no accident: the whole name is refused.
fn only_public(addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, NotPublic> {
    if addresses.iter().all(|address| is_public(address.ip())) { Ok(addresses) } else { Err(NotPublic) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused() {
        let Err(refusal) = PublicResolver.resolve("localhost".parse().unwrap()).await else {
            panic!("localhost was resolved")
        };
        assert!(refusal.is::<NotPublic>(), "{refusal}");
    }

    #[test]
    fn one_private_address_among_public_ones_is_enough_to_refuse_a_name() {
        let public = SocketAddr::from(([93, 184, 216, 34], 0));
        let private = SocketAddr::from(([10, 0, 0, 1], 0));
        assert!(only_public(vec![public]).is_ok());
        assert!(only_public(vec![public, private]).is_err());
    }
}
