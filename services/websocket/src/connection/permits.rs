//! Permits of the open connections. They count the connections in total, per address and per user, and they pass
//! revocations on to the connections of a token.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::gauge;
use tokio::sync::{
    Notify,
    broadcast::{self, error::RecvError},
};
use uuid::Uuid;

use crate::limits::Limits;

/// Grants permits. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Permits(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    total: Count,
    by_address: HashMap<IpAddr, Count>,
    by_user: HashMap<i64, usize>,
    /// For each token id, one `Notify` per connection, which requests a token check. Most tokens have one connection.
    by_token: HashMap<Uuid, Vec<Arc<Notify>>>,
}

/// Open connections.
#[derive(Debug, Default)]
struct Count {
    /// Also those that have not sent `hello`.
    all: usize,
    anonymous: usize,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    TooManyOfInstance,
    TooManyOfAddress,
}

/// A permit to hold one connection; returned when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    permits: Permits,
    /// The client's address; `None` if there is no balancer, which sets it.
    pub address: Option<IpAddr>,
    is_anonymous: bool,
}

/// A permit to hold one connection of a user; returned when dropped.
#[derive(Debug)]
pub struct UserConnectionPermit {
    permits: Permits,
    user_id: i64,
    token_id: Uuid,
    token_check: Arc<Notify>,
}

impl Permits {
    /// Returns a permit for a client with this address.
    pub fn acquire(&self, address: Option<IpAddr>, limits: &Limits) -> Result<ConnectionPermit, Refused> {
        let mut counts = self.counts();
        if counts.total.all >= limits.connections_max {
            return Err(Refused::TooManyOfInstance);
        }
        if counts.of(address).skip(1).any(|count| count.all >= limits.connections_per_address_max) {
            return Err(Refused::TooManyOfAddress);
        }
        if let Some(address) = address {
            counts.by_address.entry(network(address)).or_default();
        }
        counts.of(address).for_each(|count| count.all += 1);
        set_gauge(counts.total.all);
        Ok(ConnectionPermit { permits: self.clone(), address, is_anonymous: false })
    }

    /// Returns a permit; `None` if the user has `max` connections.
    pub fn acquire_for_user(&self, user_id: i64, token_id: Uuid, max: usize) -> Option<UserConnectionPermit> {
        let mut counts = self.counts();
        let count = counts.by_user.entry(user_id).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        let token_check = Arc::new(Notify::new());
        counts.by_token.entry(token_id).or_default().push(Arc::clone(&token_check));
        Some(UserConnectionPermit { permits: self.clone(), user_id, token_id, token_check })
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.counts().total.all
    }

    /// Receives the ids of revoked tokens, and requests a token check of their connections.
    pub async fn follow_revocations(self, mut revoked: broadcast::Receiver<Uuid>) {
        loop {
            match revoked.recv().await {
                Ok(token_id) => self.request_token_checks(Some(token_id)),
                // Reports were dropped: any token may be revoked.
                Err(RecvError::Lagged(_)) => self.request_token_checks(None),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn request_token_checks(&self, token_id: Option<Uuid>) {
        let counts = self.counts();
        match token_id {
            Some(token_id) => {
                counts.by_token.get(&token_id).into_iter().flatten().for_each(|check| check.notify_one());
            }
            None => counts.by_token.values().flatten().for_each(|check| check.notify_one()),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Returns the counts in which a connection of this address is.
    fn of(&mut self, address: Option<IpAddr>) -> impl Iterator<Item = &mut Count> {
        let of_address = address.and_then(|address| self.by_address.get_mut(&network(address)));
        [Some(&mut self.total), of_address].into_iter().flatten()
    }
}

impl ConnectionPermit {
    /// Counts the connection as an anonymous one. Returns false if there are too many.
    pub fn set_anonymous(&mut self, limits: &Limits) -> bool {
        if self.is_anonymous {
            return true;
        }
        let mut counts = self.permits.counts();
        let (max, address_max) = (limits.anonymous_connections_max, limits.connections_per_address_max / 2);
        let is_full = counts.total.anonymous >= max;
        if is_full || counts.of(self.address).skip(1).any(|count| count.anonymous >= address_max) {
            return false;
        }
        counts.of(self.address).for_each(|count| count.anonymous += 1);
        self.is_anonymous = true;
        true
    }

    /// Counts the connection as one of a user.
    pub fn set_signed_in(&mut self) {
        if std::mem::take(&mut self.is_anonymous) {
            self.permits.counts().of(self.address).for_each(|count| count.anonymous -= 1);
        }
    }
}

impl UserConnectionPermit {
    pub fn request_token_check(&self) {
        self.token_check.notify_one();
    }

    /// Waits for a request to check the token.
    pub async fn token_check_requested(&self) {
        self.token_check.notified().await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.set_signed_in();
        let mut counts = self.permits.counts();
        counts.of(self.address).for_each(|count| count.all -= 1);
        set_gauge(counts.total.all);
        if let Some(address) = self.address
            && counts.by_address.get(&network(address)).is_some_and(|count| count.all == 0)
        {
            counts.by_address.remove(&network(address));
        }
    }
}

impl Drop for UserConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.permits.counts();
        if let Some(count) = counts.by_user.get_mut(&self.user_id) {
            *count -= 1;
            if *count == 0 {
                counts.by_user.remove(&self.user_id);
            }
        }
        if let Some(checks) = counts.by_token.get_mut(&self.token_id) {
            checks.retain(|check| !Arc::ptr_eq(check, &self.token_check));
            if checks.is_empty() {
                counts.by_token.remove(&self.token_id);
            }
        }
    }
}

/// Returns what counts as one address: a provider gives each customer at least an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        IpAddr::V4(_) => address,
    }
}

fn set_gauge(total: usize) {
    gauge!("websocket_connections").set(u32::try_from(total).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            connections_max: 10,
            connections_per_address_max: 4,
            anonymous_connections_max: 3,
            ..Limits::default()
        }
    }

    #[test]
    fn connections_count_by_ipv4_address_or_ipv6_network_until_they_end() {
        for (first, same, other) in
            [("192.0.2.1", "192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::ffff:0:0:1", "2001:db8:0:1::1")]
        {
            let (permits, limits) = (Permits::default(), limits());
            let acquire = |address: &str| permits.acquire(Some(address.parse().unwrap()), &limits);
            let held: Vec<_> = (0..4).map(|_| acquire(first).unwrap()).collect();
            assert_eq!(acquire(same).unwrap_err(), Refused::TooManyOfAddress);
            acquire(other).unwrap();
            permits.acquire(None, &limits).unwrap();
            drop(held);
            acquire(same).unwrap();
            assert!(permits.counts().by_address.is_empty());
            assert_eq!(permits.counts().total.all, 0);
        }
    }

    #[test]
    fn half_of_the_places_of_an_address_are_for_signed_in_users() {
        let (permits, limits) = (Permits::default(), limits());
        let acquire = || permits.acquire(Some([192, 0, 2, 1].into()), &limits).unwrap();
        let [mut first, mut second, mut third] = [acquire(), acquire(), acquire()];
        assert!(first.set_anonymous(&limits) && first.set_anonymous(&limits) && second.set_anonymous(&limits));
        assert!(!third.set_anonymous(&limits));
        first.set_signed_in();
        assert!(third.set_anonymous(&limits));
        drop((second, third));
        assert_eq!(permits.counts().total.anonymous, 0);
    }

    #[test]
    fn anonymous_connections_are_limited_in_total() {
        let (permits, limits) = (Permits::default(), limits());
        let mut held: Vec<_> =
            (0..4_u8).map(|n| permits.acquire(Some([10, 0, 0, n].into()), &limits).unwrap()).collect();
        let has_place: Vec<_> = held.iter_mut().map(|permit| permit.set_anonymous(&limits)).collect();
        assert_eq!(has_place, [true, true, true, false]);
    }
}
