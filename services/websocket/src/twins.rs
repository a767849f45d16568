//! Twins: while data moves from the monolith to a service, both streams tell of the same version of the same entity.
//! Sockets are told once, by whichever stream is first here.

use std::collections::{HashMap, VecDeque};

use crate::{entry::EntityVersion, limits::TOLD_VERSIONS_MAX};

/// The last versions that were told.
#[derive(Debug, Default)]
pub struct Twins {
    told: HashMap<EntityVersion, Told>,
    order: VecDeque<EntityVersion>,
}

#[derive(Debug)]
struct Told {
    stream: usize,
    /// Of the entry in the ring.
    number: u64,
}

impl Twins {
    /// The number of the entry that told this version from another stream. If there is none, `number` will be it.
    ///
    /// What one stream tells twice is no twin: who deletes a row and inserts it again begins with version 1 again.
    pub fn number_of_twin(&mut self, version: EntityVersion, stream: usize, number: u64) -> Option<u64> {
        match self.told.get_mut(&version) {
            Some(told) if told.stream != stream => return Some(told.number),
            Some(told) => told.number = number,
            None => {
                self.told.insert(version, Told { stream, number });
                self.order.push_back(version);
            }
        }
        if self.order.len() > TOLD_VERSIONS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
        }
        None
    }
}
