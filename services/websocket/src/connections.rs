//! How many are connected, in all and of each user.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::gauge;

#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_user: HashMap<i64, usize>,
}

/// One place of one connection; given back when dropped.
#[derive(Debug)]
pub struct Place {
    connections: Connections,
    user_id: Option<i64>,
}

impl Connections {
    /// `None` when the house is full.
    pub fn enter(&self, max: usize) -> Option<Place> {
        let mut counts = self.counts();
        if counts.total >= max {
            return None;
        }
        counts.total += 1;
        gauge!("websocket_connections").set(u32::try_from(counts.total).unwrap_or(u32::MAX));
        Some(Place { connections: self.clone(), user_id: None })
    }

    /// `None` when this user has as many as one may have.
    pub fn enter_as(&self, user_id: i64, max: usize) -> Option<Place> {
        let mut counts = self.counts();
        let count = counts.by_user.entry(user_id).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { connections: self.clone(), user_id: Some(user_id) })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.counts();
        if let Some(user_id) = self.user_id {
            if let Some(count) = counts.by_user.get_mut(&user_id) {
                *count -= 1;
                if *count == 0 {
                    counts.by_user.remove(&user_id);
                }
            }
        } else {
            counts.total -= 1;
            gauge!("websocket_connections").set(u32::try_from(counts.total).unwrap_or(u32::MAX));
        }
    }
}
