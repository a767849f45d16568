//! The channels of users, for the check whether a client may receive a frame.
//!
//! Owns, for each user with a connection of version 2, the newest known state of each membership. There are two
//! sources: the feed merges each event before a connection can read its entry in the ring buffer, and a connection
//! merges the list of the messages API after it has registered its user. The higher version of a membership counts, so
//! the order of list and events does not matter. Leaves reading the list to the connection (`connection/channels.rs`).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use flack_api::{
    GENERAL_CHANNEL_ID,
    events::{Event, MonolithEvent, Operation},
};

use crate::limits::RECENT_MEMBERSHIPS_MAX;

/// One state of the membership of a user in a channel. A membership is never deleted, so its versions only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    pub channel_id: i64,
    pub version: i64,
    pub is_member: bool,
}

/// The memberships of all registered users. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Memberships(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    registered: HashMap<i64, Arc<Channels>>,
    /// The newest events of all users, for users who register later: a replica of messages may answer the list, and
    /// may not have applied these changes yet.
    recent: VecDeque<(i64, Membership)>,
}

/// The memberships of one user, by channel.
type Channels = RwLock<HashMap<i64, Membership>>;

/// The channels of a registered user. The user is registered until the last one is dropped.
#[derive(Debug)]
pub struct UserChannels {
    memberships: Memberships,
    user_id: i64,
    channels: Arc<Channels>,
}

impl Memberships {
    /// Registers a user: from now on, the events of the user are merged.
    pub fn register(&self, user_id: i64) -> UserChannels {
        let mut inner = self.inner();
        let channels = Arc::clone(inner.registered.entry(user_id).or_default());
        let user = UserChannels { memberships: self.clone(), user_id, channels };
        user.merge(inner.recent.iter().filter(|(user, _)| *user == user_id).map(|(_, membership)| *membership));
        user
    }

    /// Merges an event, if it is one of a membership.
    pub fn merge_event(&self, event: &Event<MonolithEvent>) {
        let MonolithEvent::ChannelMemberChanged(member) = &event.union else { return };
        let membership = Membership {
            channel_id: member.channel_id,
            version: event.version,
            is_member: member.left_at.is_none() && event.operation != Operation::Delete,
        };
        let mut inner = self.inner();
        if let Some(channels) = inner.registered.get(&member.user_id) {
            merge(channels, [membership]);
        }
        inner.recent.push_back((member.user_id, membership));
        if inner.recent.len() > RECENT_MEMBERSHIPS_MAX {
            inner.recent.pop_front();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserChannels {
    pub fn user_id(&self) -> i64 {
        self.user_id
    }

    /// Merges states that were read from the messages API.
    pub fn merge(&self, memberships: impl IntoIterator<Item = Membership>) {
        merge(&self.channels, memberships);
    }

    pub fn is_member(&self, channel_id: i64) -> bool {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        // Everybody is a member of `general`, also without a row.
        channel_id == GENERAL_CHANNEL_ID || channels.get(&channel_id).is_some_and(|membership| membership.is_member)
    }
}

impl Drop for UserChannels {
    fn drop(&mut self) {
        let mut inner = self.memberships.inner();
        // One is here and one is registered. No other one can be made meanwhile, because `register` needs the lock.
        if Arc::strong_count(&self.channels) == 2 {
            inner.registered.remove(&self.user_id);
        }
    }
}

fn merge(channels: &Channels, memberships: impl IntoIterator<Item = Membership>) {
    let mut channels = channels.write().unwrap_or_else(PoisonError::into_inner);
    for membership in memberships {
        let known = channels.entry(membership.channel_id).or_insert(membership);
        if known.version < membership.version {
            *known = membership;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CHANNEL: i64 = 4;

    fn event(user_id: i64, version: i64, is_member: bool) -> Event<MonolithEvent> {
        let left_at = (!is_member).then_some(2);
        serde_json::from_value(json!({ "id": format!("messages-{version}"), "operation": "update",
            "time": "2026-11-21T12:00:00Z", "version": version, "type": "channel_member_changed",
            "data": { "channel_id": CHANNEL, "user_id": user_id, "joined_at": 1, "left_at": left_at,
                "last_read_message_id": 0 } }))
        .unwrap()
    }

    fn listed(version: i64, is_member: bool) -> [Membership; 1] {
        [Membership { channel_id: CHANNEL, version, is_member }]
    }

    #[test]
    fn the_order_of_list_and_events_does_not_matter() {
        // Version 1 joins, version 2 leaves, version 3 joins again. The list has any of them.
        let is_member = |version: i64| version % 2 == 1;
        for list in 1..=3 {
            for events_before_list in 0..=3 {
                for newest in list..=3 {
                    let memberships = Memberships::default();
                    let user = memberships.register(7);
                    let mut events = (1..=newest).map(|version| event(7, version, is_member(version)));
                    events.by_ref().take(events_before_list).for_each(|event| memberships.merge_event(&event));
                    user.merge(listed(list, is_member(list)));
                    events.for_each(|event| memberships.merge_event(&event));
                    assert_eq!(user.is_member(CHANNEL), is_member(newest), "{list} {events_before_list} {newest}");
                }
            }
        }
    }

    #[test]
    fn an_event_counts_more_than_an_older_list_that_is_read_afterwards() {
        let memberships = Memberships::default();
        memberships.merge_event(&event(7, 2, false));
        memberships.merge_event(&event(8, 3, true));
        let user = memberships.register(7);
        user.merge(listed(1, true));
        assert!(!user.is_member(CHANNEL), "the user has left before the connection began");
    }

    #[test]
    fn a_user_is_registered_until_the_last_connection_ends() {
        let memberships = Memberships::default();
        let [first, second] = [memberships.register(7), memberships.register(7)];
        first.merge(listed(1, true));
        assert!(second.is_member(CHANNEL), "the connections of a user share the memberships");
        drop(first);
        memberships.merge_event(&event(7, 2, false));
        assert!(!second.is_member(CHANNEL));
        drop(second);
        assert!(memberships.inner().registered.is_empty());
    }

    #[test]
    fn everybody_is_a_member_of_general_and_a_deleted_membership_is_none() {
        let memberships = Memberships::default();
        let user = memberships.register(7);
        assert!(user.is_member(GENERAL_CHANNEL_ID) && !user.is_member(CHANNEL));
        user.merge(listed(1, true));
        memberships.merge_event(&Event { operation: Operation::Delete, ..event(7, 2, true) });
        assert!(!user.is_member(CHANNEL));
    }

    #[test]
    fn old_events_are_forgotten() {
        let memberships = Memberships::default();
        for version in 1..=i64::try_from(RECENT_MEMBERSHIPS_MAX).unwrap() + 1 {
            memberships.merge_event(&event(7, version, true));
        }
        assert_eq!(memberships.inner().recent.len(), RECENT_MEMBERSHIPS_MAX);
    }
}
