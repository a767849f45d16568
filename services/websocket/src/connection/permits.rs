//! Permits of the open connections. They count the connections in total and per user, and they pass revocations on to
//! the connections of a token.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::gauge;
use tokio::sync::{
    Notify,
    broadcast::{self, error::RecvError},
};
use uuid::Uuid;

/// Grants permits. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Permits(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_user: HashMap<i64, usize>,
    /// For each token id, one `Notify` per connection, which requests a token check. Most tokens have one connection.
    by_token: HashMap<Uuid, Vec<Arc<Notify>>>,
}

/// A permit to hold one connection; returned when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    permits: Permits,
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
    /// Returns a permit; `None` if there are `max` connections.
    pub fn acquire(&self, max: usize) -> Option<ConnectionPermit> {
        let mut counts = self.counts();
        if counts.total >= max {
            return None;
        }
        counts.total += 1;
        set_gauge(counts.total);
        Some(ConnectionPermit { permits: self.clone() })
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
        let mut counts = self.permits.counts();
        counts.total -= 1;
        set_gauge(counts.total);
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

fn set_gauge(total: usize) {
    gauge!("websocket_connections").set(u32::try_from(total).unwrap_or(u32::MAX));
}
