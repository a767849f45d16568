//! Who is connected: how many in all, how many of each user, and with which token.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::gauge;
use tokio::sync::Notify;
use uuid::Uuid;

#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_user: HashMap<i64, usize>,
    /// Most tokens have one connection, some have a few.
    by_token: HashMap<Uuid, Vec<Arc<Notify>>>,
}

/// One place in the house; given back when dropped.
#[derive(Debug)]
pub struct Place {
    connections: Connections,
}

/// One of a user's connections; given back when dropped.
#[derive(Debug)]
pub struct UserPlace {
    connections: Connections,
    user_id: i64,
    token_id: Uuid,
    doubted: Arc<Notify>,
}

impl Connections {
    /// `None` when the house is full.
    pub fn enter(&self, max: usize) -> Option<Place> {
        let mut counts = self.counts();
        if counts.total >= max {
            return None;
        }
        counts.total += 1;
        tell(counts.total);
        Some(Place { connections: self.clone() })
    }

    /// `None` when this user has as many as one may have.
    pub fn enter_as(&self, user_id: i64, token_id: Uuid, max: usize) -> Option<UserPlace> {
        let mut counts = self.counts();
        let count = counts.by_user.entry(user_id).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        let doubted = Arc::new(Notify::new());
        counts.by_token.entry(token_id).or_default().push(Arc::clone(&doubted));
        Some(UserPlace { connections: self.clone(), user_id, token_id, doubted })
    }

    /// The connections with this token shall look at it again; `None`: all shall.
    pub fn doubt(&self, token_id: Option<Uuid>) {
        let counts = self.counts();
        match token_id {
            Some(token_id) => {
                counts.by_token.get(&token_id).into_iter().flatten().for_each(|one| one.notify_one());
            }
            None => counts.by_token.values().flatten().for_each(|one| one.notify_one()),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserPlace {
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Ends when the token should be looked at again.
    pub async fn doubted(&self) {
        self.doubted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.counts();
        counts.total -= 1;
        tell(counts.total);
    }
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let mut counts = self.connections.counts();
        if let Some(count) = counts.by_user.get_mut(&self.user_id) {
            *count -= 1;
            if *count == 0 {
                counts.by_user.remove(&self.user_id);
            }
        }
        if let Some(of_token) = counts.by_token.get_mut(&self.token_id) {
            of_token.retain(|one| !Arc::ptr_eq(one, &self.doubted));
            if of_token.is_empty() {
                counts.by_token.remove(&self.token_id);
            }
        }
    }
}

fn tell(total: usize) {
    gauge!("websocket_connections").set(u32::try_from(total).unwrap_or(u32::MAX));
}
