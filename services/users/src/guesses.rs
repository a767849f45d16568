//! The limits of guesses of passwords: who may try, who has to wait, and who is served first.
//!
//! An attempt takes a token of its account's bucket before the password is hashed, and gets it back when the password
//! was right. All guesses for an account come from one bucket, so their number is bounded over all addresses. A
//! stranger cannot lock the owner out: from addresses at which the account has never signed in, only half of the
//! bucket can be emptied. The other half is for the addresses of the owner.
//!
//! The attempts of strangers also need a token of their address, so that nobody tries one password for many accounts.
//! Who can reach a service without the balancer can choose the address. The bucket of the account does not depend on
//! it.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

use flack_api::{Context, Problem};
use flack_common::{
    authority::Ownership,
    password::{self, Class, Origin},
    process::Background,
};
use secrecy::SecretString;
use tokio::{sync::Semaphore, time::sleep};
use tracing::debug;

use crate::{
    config::GuessLimits,
    model::{ADDRESSES_PER_USER_MAX, too_many_guesses},
    store::{Bucket, Store, Taken},
};

const MINUTE: Duration = Duration::from_mins(1);

const CLEANUP_INTERVAL: Duration = Duration::from_secs(30);
/// Refusals that are delayed at the same time. Each holds connections of the balancer. Others are answered at once.
const DELAYED_REFUSALS_MAX: usize = 256;

/// Buckets deleted in one transaction.
const CLEANUP_BUCKETS_MAX: i64 = 1_000;

/// The account that an attempt is for.
#[derive(Debug, Clone)]
pub enum Account {
    Registered {
        id: i64,
        password_hash: String,
    },
    /// The normal form of a nickname that no user has. Its limits are the same, so that they do not show that.
    Unknown(String),
}

impl Account {
    fn key(&self) -> String {
        match self {
            Self::Registered { id, .. } => format!("user {id}"),
            // Escaped, because PostgreSQL accepts no zero character.
            Self::Unknown(nickname) => format!("nickname {nickname:?}"),
        }
    }
}

#[derive(Debug)]
pub struct Guesses {
    store: Store,
    limits: GuessLimits,
    delayed: Semaphore,
}

impl Guesses {
    pub fn new(store: Store, limits: GuessLimits) -> Self {
        Self { store, limits, delayed: Semaphore::new(DELAYED_REFUSALS_MAX) }
    }

    /// Returns whether the password is that of the account; 429 when there were too many wrong ones. An unknown account
    /// takes as long as a wrong password.
    pub async fn check_password(
        &self,
        context: &Context,
        account: Account,
        password: SecretString,
    ) -> Result<bool, Problem> {
        let address = client_network(context);
        let known = match account {
            Account::Registered { id, .. } => self.store.find_known_address(id, address).await?,
            Account::Unknown(_) => None,
        };
        let is_known = known.is_some();
        let mut buckets = vec![self.account_bucket(&account, is_known)];
        if !is_known {
            buckets.insert(0, self.address_bucket(address));
        }
        let mut were_full = true;
        for bucket in &buckets {
            match self.store.take_token(bucket).await? {
                Taken::Token { was_full } => were_full &= was_full,
                Taken::Wait(wait) => {
                    debug!(wait_ms = wait.as_millis(), is_known, "refused a guess of a password");
                    // Many clients that try without a pause would use the cores that hash for honest users.
                    if let Ok(_delayed) = self.delayed.try_acquire() {
                        sleep(self.limits.refusal_delay).await;
                    }
                    return Err(too_many_guesses(wait));
                }
            }
        }
        let class = match (known, were_full) {
            (Some(false), _) => Class::Known,
            (Some(true), _) => Class::KnownWithFailures,
            (None, true) => Class::New,
            (None, false) => Class::WithFailures,
        };
        let origin = Origin { class, address, account: account.key() };
        let checked = match &account {
            Account::Registered { password_hash, .. } => password::verify(origin, password, password_hash).await,
            Account::Unknown(_) => password::verify_unknown_user(origin, password).await.map(|()| false),
        };
        // Only a wrong password is a guess. A client that disconnects before it is known gets nothing back.
        if !matches!(checked, Ok(false)) {
            for bucket in &buckets {
                self.store.give_token_back(bucket).await?;
            }
        }
        if let Account::Registered { id, .. } = account {
            match checked {
                Ok(true) => self.remember_address(context, id).await?,
                Ok(false) if known == Some(false) => self.store.mark_failed(id, address).await?,
                _ => {}
            }
        }
        checked
    }

    /// Hashes the first password of a new account.
    pub async fn hash_of_new_account(
        &self,
        context: &Context,
        nickname: &str,
        password: SecretString,
    ) -> Result<String, Problem> {
        let address = client_network(context);
        let is_clean = self.store.is_full(&self.address_bucket(address)).await?;
        let class = if is_clean { Class::New } else { Class::WithFailures };
        password::hash(Origin { class, address, account: nickname.to_owned() }, password).await
    }

    /// Hashes the new password of a caller with a token.
    pub async fn hash_of_caller(
        &self,
        context: &Context,
        user_id: i64,
        password: SecretString,
    ) -> Result<String, Problem> {
        let origin = Origin { class: Class::Known, address: client_network(context), account: user_id.to_string() };
        password::hash(origin, password).await
    }

    /// Stores the client's address as one of the user's.
    pub async fn remember_address(&self, context: &Context, user_id: i64) -> Result<(), Problem> {
        Ok(self.store.add_known_address(user_id, client_network(context), ADDRESSES_PER_USER_MAX).await?)
    }

    fn account_bucket(&self, account: &Account, is_known: bool) -> Bucket {
        let limit = self.limits.per_account_per_minute;
        // All take from one bucket. Strangers leave half of it.
        let tokens_max = if is_known { limit.get() } else { limit.get().div_ceil(2) };
        Bucket { key: account.key(), tokens_max, token_interval: per_minute(limit) }
    }

    fn address_bucket(&self, address: IpAddr) -> Bucket {
        let limit = self.limits.per_address_per_minute;
        let tokens_max = limit.get().saturating_mul(2);
        Bucket { key: format!("address {address}"), tokens_max, token_interval: per_minute(limit) }
    }
}

fn per_minute(limit: NonZeroU32) -> Duration {
    MINUTE / limit.get()
}

/// Returns the client's address; of an IPv6 address the /64 network, because a client has a whole one. Clients without
/// an address count as one: they did not come through the balancer.
fn client_network(context: &Context) -> IpAddr {
    match context.client_address.unwrap_or(Ipv6Addr::UNSPECIFIED.into()) {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// Starts the task that deletes full buckets, which works while this process owns users.
pub fn start_cleanup(store: Store, ownership: Ownership, background: &Background) {
    background.every("cleanup of guesses", CLEANUP_INTERVAL, move || {
        let (store, ownership) = (store.clone(), ownership.clone());
        async move { if ownership.is_held() { clean(&store).await } else { Ok(()) } }
    });
}

/// Deletes all full buckets.
pub async fn clean(store: &Store) -> sqlx::Result<()> {
    while store.delete_full_buckets(CLEANUP_BUCKETS_MAX).await? == CLEANUP_BUCKETS_MAX.unsigned_abs() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_ipv6_network_count_as_one() {
        let network = |address: &str| {
            client_network(&Context { client_address: Some(address.parse().unwrap()), ..Context::background() })
        };
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2::"));
        assert_ne!(network("2001:db8:1:2::"), network("2001:db8:1:3::"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(client_network(&Context::background()), network("::"));
    }
}
