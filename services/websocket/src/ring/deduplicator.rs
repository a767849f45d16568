//! Deduplication of events, by two keys:
//! - Event id, within a stream: a relay may publish an event twice. JetStream drops the second one only within two
//!   minutes.
//! - Entity version, between streams: while data moves from the monolith to a service, both streams hold the same
//!   version. Clients receive the one that this instance reads first.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, Hash, RandomState},
};

use super::frame::EntityVersion;
use crate::{cursor::STREAMS, limits::DEDUPLICATION_KEYS_MAX};

/// The keys of the most recent events.
#[derive(Debug, Default)]
pub struct Deduplicator {
    hasher: RandomState,
    /// For each stream, the hashes of its event ids.
    ids: [Recent<u64, ()>; STREAMS],
    versions: Recent<EntityVersion, Origin>,
}

/// The stream that a version was read from first, and the number of its entry in the ring buffer.
#[derive(Debug)]
struct Origin {
    stream: usize,
    entry: u64,
}

impl Deduplicator {
    /// Records an event id. Returns whether it is new in this stream.
    pub fn insert_event_id(&mut self, stream: usize, event_id: &str) -> bool {
        let hash = self.hasher.hash_one(event_id);
        let is_new = self.ids[stream].get_mut(&hash).is_none();
        if is_new {
            self.ids[stream].insert(hash, ());
        }
        is_new
    }

    /// Records that a version becomes the entry with this number. If it is a duplicate, only returns the number of the
    /// entry that the version has already.
    ///
    /// The same version twice in one stream is no duplicate: a row that is deleted and inserted again has version 1
    /// again.
    pub fn insert_version(&mut self, version: EntityVersion, stream: usize, entry: u64) -> Option<u64> {
        match self.versions.get_mut(&version) {
            Some(origin) if origin.stream != stream => return Some(origin.entry),
            Some(origin) => origin.entry = entry,
            None => self.versions.insert(version, Origin { stream, entry }),
        }
        None
    }

    /// Removes the event ids of a stream that was reset, and all versions: the ring buffer is empty.
    pub fn reset(&mut self, stream: usize) {
        self.ids[stream] = Recent::default();
        self.versions = Recent::default();
    }
}

/// A map that keeps the last `DEDUPLICATION_KEYS_MAX` keys.
#[derive(Debug)]
struct Recent<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key)
    }

    fn insert(&mut self, key: K, value: V) {
        self.values.insert(key, value);
        self.order.push_back(key);
        if self.order.len() > DEDUPLICATION_KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}
